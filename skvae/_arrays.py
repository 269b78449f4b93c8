"""Tables as people bring them, on their way to scikit-learn's checks; arrays of other libraries, and back."""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn import get_config

from ._sklearn import array_library, array_to_numpy

NUMPYS = (torch.float16, torch.float32, torch.float64)  # floating dtypes that numpy has, too


def readable(X):
    """X as what scikit-learn reads rightly, most often itself.

    A torch tensor becomes an array, without its graph, unless scikit-learn's `array_api_dispatch` is on; a masked value
    becomes NaN, which is for what was not measured; a dask array and blocks of rows become a mapped file.

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
        return (X.double() if X.is_floating_point() and X.dtype not in NUMPYS else X).numpy()
    if isinstance(X, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(X), np.array(np.nan, np.result_type(X.dtype, np.float16)), X.data)
    X = one_table(X)
    dtypes = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
    if any(getattr(dtype, "kind", "") in ("M", "m") or getattr(dtype, "is_temporal", bool)() for dtype in dtypes):
        raise TypeError("X has dates or times: make numbers of them, such as seconds since the first.")
    return X


def one_table(X):
    """X itself or, of a dask array, an iterator or a list of tables, `mapped`, the rows of its blocks."""
    if hasattr(X, "dask") and hasattr(X, "blocks") and X.ndim == 2:
        return mapped(X.blocks[i].compute() for i in range(X.numblocks[0]))
    tables = isinstance(X, list | tuple) and len(X) and getattr(X[0], "ndim", 0) == 2
    return mapped(X) if tables or isinstance(X, Iterator) else X


def mapped(blocks):
    """Blocks of rows, one after another, as one array that is mapped from a temporary file.

    So that each is asked for once, whatever it takes to make, and rows may be read in any order. The file is in
    `tempfile.gettempdir()`, takes as much as the rows do, and is gone with the array.

    Raises
    ------
    ValueError
        If a block is no table of numbers, or of other columns than the first.
    OSError
        If the disk is full.
    """
    first, shape = None, (0, 0)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    with tempfile.TemporaryFile() as file:
        for i, block in enumerate(blocks):
            block = np.asarray(readable(block))
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


def floating(X):
    """The dtypes that a table X may keep: float64 and float32, of the library that X's results are to be of."""
    library = array_library(X)[0]
    return [library.float64, library.float32]


def tensor_of(array):
    """An array as a tensor, of the same memory where that can be."""
    if isinstance(array, torch.Tensor):
        return array
    array = array_to_numpy(array)
    flags = array.flags  # torch warns of memory that is read-only, and has no negative strides, even of one row
    shared = flags.writeable and flags.c_contiguous and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if shared else np.array(array, order="C"))


def array_of(array):
    """An array of any library as an ndarray."""
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array_to_numpy(array)


def like(reference, result):
    """A tensor as an array of the reference's library and on its device."""
    if isinstance(reference, torch.Tensor):
        return result.to(reference.device)
    result = result.cpu().numpy()
    if isinstance(reference, np.ndarray):
        return result
    library, device = array_library(reference)
    return library.asarray(result, device=device)
