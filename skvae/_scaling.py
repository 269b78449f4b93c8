"""Centre, scale and spread of the columns."""

import numpy as np
from sklearn.preprocessing import StandardScaler

from ._batches import blocks, rows_per_block

# Means and standard deviations that training takes: float64's have squares, and float32's sums and differences.
LARGEST = {np.dtype(np.float64): 1e100, np.dtype(np.float32): 1e36}


def column_scaling(X, weight=None, gaps=False):
    """Mean and standard deviation of each column's values, in float64 and in one pass over blocks of rows.

    A constant column takes the root mean square deviation of the others, so that it carries no
    information and its noise has a sensible unit. Constant is what varies by no more than rounding, or by less than
    1 / `LARGEST`. NaN are left out.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    weight : ndarray of shape (n,) or None
        Of the rows, positive.
    gaps : bool, default=False
        Whether X has NaN.

    Returns
    -------
    mean, scale : ndarray of shape (p,)

    Raises
    ------
    ValueError
        If a mean or a standard deviation exceeds `LARGEST`, or a column has no value.
    """
    share, largest = None if weight is None else weight / weight.sum(), LARGEST[X.dtype]
    with np.errstate(over="ignore", invalid="ignore"):  # said below; rounding leaves variances of 0 a little under it
        mean, variance = (measured_moments if gaps else moments)(X, share)
    if not (np.abs(mean).max() <= largest and variance.max() <= largest**2):
        raise ValueError(
            f"X is too large: means and standard deviations of its columns up to {largest:g} are taken in {X.dtype}."
        )
    variance = np.maximum(variance, 0)
    rounding = len(X) * np.finfo(X.dtype).eps * np.abs(mean)
    scale = np.sqrt(variance)
    constant = scale <= np.maximum(rounding, 1 / largest)
    if constant.all():
        size = np.abs(mean).max()
        scale[:] = size if size > 1 / largest else 1.0
    else:
        scale[constant] = np.maximum(np.sqrt(variance[~constant].mean()), rounding[constant])
    return mean, scale


def moments(X, weight):
    """Mean and variance of each column."""
    scaler = StandardScaler()
    for block in blocks(len(X), rows_per_block(X.shape[1])):
        rows = np.asarray(X[block], dtype=np.float64, order="C")  # sums do not depend on X's order
        scaler.partial_fit(rows, sample_weight=None if weight is None else weight[block])
    return scaler.mean_, scaler.var_


def measured_moments(X, weight):
    """Mean and variance of each column's values that are not NaN: StandardScaler fails on blocks that lack a column."""
    weight = np.ones(len(X)) if weight is None else weight
    mean = np.zeros(X.shape[1])
    for power in (1, 2):
        total, count = np.zeros((2, X.shape[1]))
        for block in blocks(len(X), rows_per_block(X.shape[1])):
            rows = np.asarray(X[block], dtype=np.float64, order="C")
            total += weight[block] @ np.nan_to_num(rows - mean) ** power
            count += weight[block] @ ~np.isnan(rows)
        if not count.all():
            raise ValueError(f"X has no measured value in column {np.argmin(count)}: all its values are NaN.")
        if power == 1:
            mean = total / count
    return mean, total / count


def n_counted(n_rows, weight):
    """How many rows these count for: a factor that makes their weights less than one in the mean means nothing."""
    return n_rows if weight is None else max(n_rows, float(weight.sum()))


def unbiased(n):
    """n / (n - 1), by which PCA's variances exceed the mean of squares; for one row 2."""
    return n / max(n - 1, n / 2)


def has_gaps(X):
    """Whether X has NaN: their sum has, and no array of X's size is made."""
    with np.errstate(over="ignore", invalid="ignore"):
        return any(np.isnan(np.sum(X[block], dtype=np.float64)) for block in blocks(len(X), rows_per_block(X.shape[1])))


def without_values(X):
    """Whether each row of X is NaN throughout; shape (n,)."""
    empty = np.isnan(X[:, 0])
    for column in range(1, X.shape[1]):
        if not empty.any():
            break
        empty[empty] = np.isnan(X[empty, column])
    return empty
