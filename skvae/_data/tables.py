"""Tables of many kinds, turned into what scikit-learn's checks can read."""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn import get_config

NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)  # torch's floating dtypes that numpy has, too


def to_supported_table(X):
    """X as a table that scikit-learn reads correctly, which in most cases is X itself.

    A torch tensor becomes an array, without its graph, unless scikit-learn's `array_api_dispatch` is on. A masked value
    becomes NaN, which stands for a missing value. A dask array or blocks of rows become an array mapped from a file.

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
    if isinstance(X, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(X), np.array(np.nan, np.result_type(X.dtype, np.float16)), X.data)
    X = to_single_table(X)
    dtypes = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
    if any(getattr(dtype, "kind", "") in ("M", "m") or getattr(dtype, "is_temporal", bool)() for dtype in dtypes):
        raise TypeError("X has dates or times: turn them into numbers, such as seconds since the first.")
    return X


def to_single_table(X):
    """X itself or, if X is a dask array or a list or an iterator of tables, the rows of its blocks as one table."""
    if hasattr(X, "dask") and hasattr(X, "blocks") and X.ndim == 2:
        return to_mapped_array(X.blocks[i].compute() for i in range(X.numblocks[0]))
    is_list_of_tables = isinstance(X, list | tuple) and len(X) and getattr(X[0], "ndim", 0) == 2
    return to_mapped_array(X) if is_list_of_tables or isinstance(X, Iterator) else X


def to_mapped_array(blocks):
    """Blocks of rows, one after another, as one array that is mapped from a temporary file.

    Each block is asked for only once, as it may take long to make, and rows may then be read in any order. The file
    lies in `tempfile.gettempdir()`, takes as much room as the rows do, and is deleted with the array.

    Raises
    ------
    ValueError
        If a block is not a table of numbers, or has other columns than the first.
    OSError
        If the disk is full.
    """
    first, shape = None, (0, 0)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    with tempfile.TemporaryFile() as file:
        for i, block in enumerate(blocks):
            block = np.asarray(to_supported_table(block))
            if first is None:
                dtype = np.dtype(np.float32 if block.dtype == np.float32 else np.float64)
                first, shape = block, (0, *block.shape[1:])
            if block.ndim != 2 or block.shape[1:] != shape[1:] or block.dtype.kind not in "fiub":
                raise ValueError(
                    f"X is an iterable of blocks, but block {i} of shape {block.shape} and dtype {block.dtype} is no "
                    f"table of numbers with as many columns as the first, of shape {first.shape}."
                )
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
            shape = (shape[0] + len(block), shape[1])
        file.flush()
        if not shape[0]:
            raise ValueError("X is an iterable of blocks, but there are no rows in it.")
        return np.memmap(file, dtype=dtype, mode="r", shape=shape)
