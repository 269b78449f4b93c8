"""Arrays of numpy, torch and other libraries, converted into each other."""

import numpy as np
import torch

from .._sklearn_compat import array_library, array_to_numpy


def floating_dtypes(X):
    """The dtypes that a table X may keep: float64 and float32 of the array library of X's results."""
    library = array_library(X)[0]
    return [library.float64, library.float32]


def to_tensor(array):
    """An array as a tensor, which shares its memory where that is possible."""
    if isinstance(array, torch.Tensor):
        return array
    array = array_to_numpy(array)
    flags = array.flags  # torch warns of read-only memory, and takes no negative strides, even of one row
    is_shareable = flags.writeable and flags.c_contiguous and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if is_shareable else np.array(array, order="C"))


def to_numpy(array):
    """An array of any library as an ndarray."""
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array_to_numpy(array)


def to_library_of(reference, result):
    """A tensor as an array of the reference's library and on the reference's device."""
    if isinstance(reference, torch.Tensor):
        return result.to(reference.device)
    result = result.cpu().numpy()
    if isinstance(reference, np.ndarray):
        return result
    library, device = array_library(reference)
    return library.asarray(result, device=device)
