"""Tables of many kinds, turned into what scikit-learn's checks can read."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)  # torch's floating dtypes that numpy has, too


@dataclass(frozen=True)
class JoinedTable:
    """Blocks of rows as one array, and a table without rows that has the names of their columns."""

    values: np.memmap
    header: Any


def values_and_header(X):
    """The values of a table, and a table from which scikit-learn reads the names and the number of the columns."""
    return (X.values, X.header) if isinstance(X, JoinedTable) else (X, X)


def column_numbers(header):
    """The numbers that label the columns of a frame (p,), which scikit-learn does not keep, or None.

    0, 1, 2, ... are no labels: pandas counts the columns so where it is given none.
    """
    labels = list(getattr(header, "columns", ()))
    if not all(isinstance(label, Real) and isfinite(label) for label in labels) or labels == [*range(len(labels))]:
        return None
    return np.array(labels, dtype=np.float64)


def column_labels(table):
    """The labels of a table's p columns, or of the p values of pandas' Series, as a list; None where it has none.

    They are strings, or numbers that `column_numbers` takes for labels.
    """
    if hasattr(table, "to_frame") and hasattr(table, "index"):
        table = table.to_frame().T
    labels = list(getattr(table, "columns", ()))
    if labels and all(isinstance(label, str) for label in labels):
        return labels
    numbers = column_numbers(table)
    return None if numbers is None else numbers.tolist()


def check_same_labels(table, header, name, of):
    """Raise ValueError where two tables with p columns label a column differently.

    `name` and `of` are the names of the arguments that have the tables. Columns are matched by their order where one of
    the tables has no labels, or where one has strings and the other numbers.
    """
    labels, expected = column_labels(table), column_labels(header)
    if labels is None or expected is None or type(labels[0]) is not type(expected[0]):
        return
    for column, (label, expected_label) in enumerate(zip(labels, expected, strict=True)):
        if label != expected_label:
            raise ValueError(
                f"{name} does not have the columns of {of}, in the same order: column {column} is {label!r} in {name}, "
                f"but {expected_label!r} in {of}."
            )


def to_supported_table(X):
    """X as a table that scikit-learn reads correctly, which in most cases is X itself, or as a `JoinedTable`.

    A torch tensor becomes an array, without its graph, unless scikit-learn's `array_api_dispatch` is on. A masked value
    or NA becomes NaN, which stands for a missing value. A dask array or blocks of rows become an array mapped from a
    file.

    Raises
    ------
    TypeError
        If X has dates or times, which would be read as nanoseconds.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach()
        if get_config()["array_api_dispatch"]:
            return X
        X = X.cpu()
        return (X.double() if X.is_floating_point() and X.dtype not in NUMPY_FLOATS else X).numpy()
    X = to_single_table(X)
    if isinstance(X, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in X):
        X = np.ma.stack(X)
    if isinstance(X, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(X), np.array(np.nan, np.result_type(X.dtype, np.float16)), X.data)
    dtypes = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
    if any(getattr(dtype, "kind", "") in ("M", "m") or getattr(dtype, "is_temporal", bool)() for dtype in dtypes):
        raise TypeError("X has dates or times: turn them into numbers, such as seconds since the first.")
    return without_na(X)


def without_na(X):
    """X with NaN for each NA among its objects: pandas', which numpy does not know."""
    if hasattr(X, "columns"):
        has_objects = hasattr(X, "isna") and any(dtype.kind == "O" for dtype in X.dtypes)
        return X.mask(X.isna(), np.nan) if has_objects else X
    objects = np.asarray(X) if isinstance(X, list | tuple) else X
    if not isinstance(objects, np.ndarray) or objects.dtype != object:
        return X
    is_na = np.frompyfunc(lambda value: type(value).__name__ == "NAType", 1, 1)(objects).astype(bool)
    return np.where(is_na, np.nan, objects) if is_na.any() else X


def to_single_table(X):
    """X itself or a single table of it: a frame of an Arrow table or a lazy frame, a `JoinedTable` of blocks.

    Blocks are those of a dask array, or the tables of a list or an iterator.
    """
    if hasattr(X, "dask") and hasattr(X, "blocks") and X.ndim == 2:
        return joined(X.blocks[i].compute() for i in range(X.numblocks[0]))
    if hasattr(X, "collect_schema") and hasattr(X, "collect"):  # polars
        return X.collect()
    if hasattr(X, "column_names") and hasattr(X, "to_pandas"):  # pyarrow
        return X.to_pandas()
    is_list_of_tables = isinstance(X, list | tuple) and len(X) and is_table(X[0])
    return joined(X) if is_list_of_tables or isinstance(X, Iterator) else X


def is_table(X):
    return hasattr(X, "collect_schema") or len(getattr(X, "shape", ())) == 2


def joined(blocks):
    """Blocks of rows, one after another, as a `JoinedTable` whose array is mapped from a temporary file.

    Each block is asked for only once, as it may take long to make. Rows of the file can be read in any order. The file
    lies in `tempfile.gettempdir()`, takes as much room as the rows do, and is deleted with the array.

    Raises
    ------
    ValueError
        If a block is not a table of numbers, or has other columns than the first.
    OSError
        If the disk is full.
    """
    options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
    columns, header, shape = BaseEstimator(), None, (0, 0)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    with tempfile.TemporaryFile() as file:
        for i, block in enumerate(blocks):
            values, names = values_and_header(to_supported_table(block))
            try:
                values = check_array(values, ensure_min_samples=0, **options)
                validate_data(columns, names, reset=header is None, skip_check_array=True)
            except ValueError as error:
                raise ValueError(
                    f"X is an iterable of blocks, but block {i} of shape {np.shape(values)} is no table of numbers "
                    f"with the columns of the first: {error}"
                ) from error
            if header is None:
                header, dtype = names[:0] if hasattr(names, "columns") else values[:0], values.dtype
            file.write(np.ascontiguousarray(values, dtype=dtype).data)
            shape = (shape[0] + len(values), values.shape[1])
        file.flush()
        if not shape[0]:
            raise ValueError("X is an iterable of blocks, but there are no rows in it.")
        return JoinedTable(np.memmap(file, dtype=dtype, mode="r", shape=shape), header)
