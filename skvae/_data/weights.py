"""Sample weights: how often each row counts."""

import numpy as np

from .._sklearn_compat import _check_sample_weight
from .arrays import to_numpy


def check_sample_weight(sample_weight, n_rows):
    """Weights of shape (n_rows,), float64, or None where all are one.

    A weight that would be lost in the rounding of the sum becomes 0, as its row might lie so far from the mean that
    float32 cannot represent it.

    Raises
    ------
    ValueError
        If there is not one weight per row, if a weight is negative or not finite, or if the greatest weight does not
        lie between 1e-100 and 1e100.
    """
    if sample_weight is None:
        return None
    if hasattr(sample_weight, "shape"):
        sample_weight = to_numpy(sample_weight)
    weight = _check_sample_weight(sample_weight, np.empty((n_rows, 0)), dtype=np.float64)
    if not (weight.min() >= 0 and 1e-100 <= weight.max() <= 1e100):
        raise ValueError("sample_weight must be nonnegative, and its greatest value must lie between 1e-100 and 1e100.")
    weight = np.where(weight < np.finfo(np.float64).eps * weight.max(), 0.0, weight)
    return None if (weight == 1).all() else weight


def effective_n_rows(n_rows, weight):
    """How many rows the weighted rows count for.

    Weights whose mean is less than one are taken as relative, so that a common factor means nothing.
    """
    return n_rows if weight is None else max(n_rows, float(weight.sum()))


def bessel_factor(n):
    """n / (n - 1), the factor by which PCA's variances exceed the mean of squares; 2 for one row."""
    return n / max(n - 1, n / 2)
