"""Centre, scale and spread of the columns."""

import numpy as np
import torch

from ._arrays import array_of

# Means and standard deviations that training takes: float64's have squares, and float32's sums and differences.
LARGEST = {np.dtype(np.float64): 1e100, np.dtype(np.float32): 1e36}


def column_scaling(rows, weight=None, gaps=False):
    """Mean and standard deviation of each column's values, in float64 and in one pass over blocks of rows.

    A constant column takes the root mean square deviation of the others, so that it carries no
    information and its noise has a sensible unit. Constant is what varies by no more than rounding, or by less than
    1 / `LARGEST`. NaN are left out.

    Parameters
    ----------
    rows : Rows of shape (n, p)
    weight : ndarray of shape (n,) or None
        Of the rows, positive.
    gaps : bool, default=False
        Whether rows have NaN.

    Returns
    -------
    mean, scale : ndarray of shape (p,)

    Raises
    ------
    ValueError
        If a mean or a standard deviation exceeds `LARGEST`, or a column has no value.
    """
    share, largest = None if weight is None else weight / weight.sum(), LARGEST[rows.dtype]
    mean, variance = moments(rows, share, gaps)
    if not (np.abs(mean).max() <= largest and variance.max() <= largest**2):
        raise ValueError(
            f"X is too large: means and standard deviations of its columns up to {largest:g} are taken in {rows.dtype}."
        )
    rounding = len(rows) * np.finfo(rows.dtype).eps * np.abs(mean)
    scale = np.sqrt(variance)
    constant = scale <= np.maximum(rounding, 1 / largest)
    if constant.all():
        size = np.abs(mean).max()
        scale[:] = size if size > 1 / largest else 1.0
    else:
        scale[constant] = np.maximum(np.sqrt(variance[~constant].mean()), rounding[constant])
    return mean, scale


def moments(rows, share, gaps):
    """Mean and variance of each column's values, as sums about the mean that are merged block by block.

    (Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983, eq. 1.5.)
    """
    mean, square, total = torch.zeros(3, rows.shape[1], dtype=torch.float64, device=rows[:0].device)
    for block, x in rows.blocks():
        x = x.double()
        weight = x.new_ones(len(x)) if share is None else torch.from_numpy(share[block]).to(x)
        n = weight @ (~x.isnan()).double() if gaps else weight.sum().expand_as(mean)
        centre = (weight @ x.nan_to_num() if gaps else weight @ x) / torch.where(n > 0, n, 1.0)
        deviation = (x - centre).nan_to_num_() if gaps else x - centre
        total = total + n
        part, apart = n / torch.where(total > 0, total, 1.0), centre - mean
        square = square + weight @ deviation.square_() + apart.square() * (total - n) * part
        mean = mean + apart * part
    if not total.all():
        raise ValueError(f"X has no measured value in column {int(total.argmin())}: all its values are NaN.")
    return array_of(mean), array_of(square / total)


def n_counted(n_rows, weight):
    """How many rows these count for: a factor that makes their weights less than one in the mean means nothing."""
    return n_rows if weight is None else max(n_rows, float(weight.sum()))


def unbiased(n):
    """n / (n - 1), by which PCA's variances exceed the mean of squares; for one row 2."""
    return n / max(n - 1, n / 2)
