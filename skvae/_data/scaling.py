"""Centre, scale and spread of the columns."""

import numpy as np
import torch

from .arrays import to_numpy
from .rows import values_and_errors

# The greatest means and standard deviations that training accepts: their squares are finite in float64, and their sums
# and differences in float32.
LARGEST = {np.dtype(np.float64): 1e100, np.dtype(np.float32): 1e36}
TAIL_NU = 3.0  # degrees of freedom of a column whose values may lie far out
N_ITERATIONS = 12  # that separate the spread of a column's values from their errors, from a start that may be far off


def standardised(x, shift, scale):
    """(x - shift) / scale (n, p) or, of rows (n, 2, p), this with the variances of the errors in these units."""
    values, errors = values_and_errors(x)
    shift, scale = shift.to(x), scale.to(x)
    u = (values - shift).div_(scale)  # in place, as a large table's memory is slow to get
    if errors is None:
        return u
    return torch.stack([u.masked_fill(errors.isinf(), 0.0), (errors / scale).square()], dim=1)


def column_scaling(rows, weight=None, is_uneven=False, has_tails=False):
    """Mean and standard deviation of each column's values, in float64 and in one pass over blocks of rows.

    A constant column takes the root mean square of the other columns' deviations, so that it carries no information
    and its noise has a sensible unit. A column counts as constant if it varies by no more than rounding, or by less
    than 1 / `LARGEST`. Missing values are left out. Where values have errors, it is the spread without these.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        With a measured value in each column.
    weight : ndarray of shape (n,) or None
        Positive weights of the rows.
    is_uneven : bool, default=False
        Whether rows have missing values or errors.
    has_tails : bool, default=False
        Whether values may lie far out. Mean and standard deviation are then those of a t distribution.

    Returns
    -------
    mean, scale : ndarray of shape (p,)

    Raises
    ------
    ValueError
        If a mean or a standard deviation exceeds `LARGEST`.
    """
    normalized_weight = None if weight is None else weight / weight.sum()
    mean, variance = moments(rows, normalized_weight, is_uneven)
    if rows.errors is not None or has_tails:
        mean, variance = moments_without_errors(rows, normalized_weight, mean, variance, has_tails)
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


def moments_without_errors(rows, normalized_weight, mean, variance, has_tails=False):
    """Maximum-likelihood mean and variance of each column without its values' errors, from the plain moments.

    The density is normal or, with tails, the t distribution of 3 degrees of freedom, whose precisions are
    (nu + 1) / (nu + r^2 w) w for a residual r.

    x_ij ~ N(m_j, v_j + s_ij^2), with the precisions w_ij = 1 / (v_j + s_ij^2): m <- sum(w x) / sum(w) and
    v <- v sum(w^2 (x - m)^2) / sum(w) (Zhou et al., MM algorithms for variance components models, 2019). It is computed
    about the mean and in units of the standard deviation, as products of large values would exceed float64's range.
    """
    mean = torch.from_numpy(mean).to(rows.device)
    unit = torch.from_numpy(np.where(variance > 0, np.sqrt(variance), 1.0)).to(mean)
    centre, v = torch.zeros_like(mean), torch.ones_like(mean)
    for _ in range(N_ITERATIONS):
        sums = torch.zeros(4, rows.shape[1], dtype=torch.float64, device=rows.device)
        for block, x in rows.blocks():
            deviation = (x.double() - mean) / unit - centre
            squares = v if rows.errors is None else v + (rows.errors[block].to(deviation) / unit).square()
            plain = torch.where(deviation.isnan(), 0.0, 1 / squares)
            if normalized_weight is not None:
                plain = torch.from_numpy(normalized_weight[block]).to(x.device)[:, None] * plain
            deviation = deviation.nan_to_num_()
            precision = plain * (TAIL_NU + 1) / (TAIL_NU + deviation.square() / squares) if has_tails else plain
            weighted = precision * deviation
            parts = plain, precision, weighted, weighted * deviation / squares
            sums += torch.stack([part.sum(0) for part in parts])
        total, precision, first, second = sums[0].clamp(min=1e-300), sums[1].clamp(min=1e-300), sums[2], sums[3]
        centre, v = centre + first / precision, (v * second / total).clamp(min=1e-12)
    v = v * TAIL_NU / (TAIL_NU - 2) if has_tails else v
    return to_numpy(mean + unit * centre), to_numpy(unit.square() * v)
