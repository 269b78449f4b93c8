"""Centre and scale of the columns."""

import numpy as np
from sklearn.preprocessing import StandardScaler

from ._batches import blocks, rows_per_block


def column_scaling(X):
    """Mean and standard deviation of each column, in float64 and in one pass over blocks of rows.

    A constant column takes the root mean square deviation of the others, so that it carries no
    information and its noise has a sensible unit.

    Raises
    ------
    ValueError
        If the square of a deviation is not finite in float64.
    """
    scaler = StandardScaler()
    with np.errstate(over="ignore", invalid="ignore"):  # said below
        for block in blocks(len(X), rows_per_block(X.shape[1])):
            scaler.partial_fit(np.asarray(X[block], dtype=np.float64))
    mean, variance = scaler.mean_, scaler.var_
    if not np.isfinite(variance).all():
        raise ValueError("X is too large: the variance of a column exceeds the range of float64.")
    rounding = len(X) * np.finfo(X.dtype).eps * np.abs(mean)
    constant = variance <= rounding**2
    scale = np.sqrt(variance)
    if constant.all():
        scale[:] = np.abs(mean).max() or 1.0
    else:
        scale[constant] = np.sqrt(variance[~constant].mean())
    return mean, scale
