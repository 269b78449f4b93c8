"""Centre, scale and spread of the columns."""

import numpy as np
import torch

from .arrays import to_numpy

# The greatest means and standard deviations that training accepts: their squares are finite in float64, and their sums
# and differences in float32.
LARGEST = {np.dtype(np.float64): 1e100, np.dtype(np.float32): 1e36}


def column_scaling(rows, weight=None, has_missing=False):
    """Mean and standard deviation of each column's values, in float64 and in one pass over blocks of rows.

    A constant column takes the root mean square of the other columns' deviations, so that it carries no information
    and its noise has a sensible unit. A column counts as constant if it varies by no more than rounding, or by less
    than 1 / `LARGEST`. Missing values are left out.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        With a measured value in each column.
    weight : ndarray of shape (n,) or None
        Positive weights of the rows.
    has_missing : bool, default=False
        Whether rows have missing values.

    Returns
    -------
    mean, scale : ndarray of shape (p,)

    Raises
    ------
    ValueError
        If a mean or a standard deviation exceeds `LARGEST`.
    """
    normalized_weight = None if weight is None else weight / weight.sum()
    mean, variance = moments(rows, normalized_weight, has_missing)
    return scaling_of(mean, variance, len(rows), rows.dtype)


def scaling_of(mean, variance, n_rows, dtype):
    """`column_scaling` of `n_rows` rows of a dtype whose columns have these means and variances (p,)."""
    largest = LARGEST[dtype]
    if not (np.abs(mean).max() <= largest and variance.max() <= largest**2):
        raise ValueError(
            f"X is too large: in {dtype}, means and standard deviations of its columns may be {largest:g} at most."
        )
    rounding = max(np.finfo(dtype).eps, n_rows * np.finfo(np.float64).eps) * np.abs(mean)  # of values, of sums
    scale = np.sqrt(variance)
    constant = scale <= np.maximum(rounding, 1 / largest)
    if constant.all():
        size = np.abs(mean).max()
        scale[:] = size if size > 1 / largest else 1.0
    else:
        scale[constant] = np.maximum(np.sqrt(variance[~constant].mean()), rounding[constant])
    return mean, scale


def moments(rows, normalized_weight, has_missing):
    """Mean and variance of each column's values, as sums about the mean that are merged block by block.

    This follows Chan, Golub and LeVeque (Algorithms for computing the sample variance, 1983, eq. 1.5).
    """
    mean, square, total = torch.zeros(3, rows.shape[1], dtype=torch.float64, device=rows.device)
    for block, x in rows.blocks():
        x = x.double()
        weight = x.new_ones(len(x)) if normalized_weight is None else torch.from_numpy(normalized_weight[block]).to(x)
        n = weight @ (~x.isnan()).double() if has_missing else weight.sum().expand_as(mean)
        centre = (weight @ x.nan_to_num() if has_missing else weight @ x) / torch.where(n > 0, n, 1.0)
        deviation = (x - centre).nan_to_num_() if has_missing else x - centre
        total = total + n
        part, apart = n / torch.where(total > 0, total, 1.0), centre - mean
        square = square + weight @ deviation.square_() + apart.square() * (total - n) * part
        mean = mean + apart * part
    return to_numpy(mean), to_numpy(square / total)
