"""Hotelling's T2 and Q residuals, with their limits: how chemometrics watches a process with PCA."""

import numpy as np
from scipy.special import chdtri, fdtri

from .._data.weights import bessel_factor
from .predictor import ACTIVE


class ScoreStatistics:
    """Sums over training rows of their scores and residuals, from which limits follow; those of several passes add up.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Scores of training rows.
    q : ndarray of shape (n,)
        Their sums of squared residuals.
    normalized_weight : ndarray of shape (n,)
        Weights of sum 1.
    n_rows : float
        How many rows were trained on.
    unit : float, default=1.0
        Of q, so that its square is a number of ordinary size. It is the same for objects that are added.
    """

    def __init__(self, Z, q, normalized_weight, n_rows, unit=1.0):
        Z, q = np.asarray(Z, dtype=np.float64), q / unit
        w = normalized_weight
        moments = 1.0, w @ Z, (w[:, None] * Z).T @ Z, w @ q, w @ q**2
        self.sums = [n_rows * moment for moment in moments]
        self.unit = unit

    @classmethod
    def from_state(cls, unit, *sums):
        """The object that has this `state`."""
        statistics = object.__new__(cls)
        statistics.unit, statistics.sums = unit, list(sums)
        return statistics

    @property
    def state(self):
        """Its unit and sums, as a list of arrays and numbers."""
        return [self.unit, *self.sums]

    def __add__(self, other):
        return ScoreStatistics.from_state(
            self.unit, *(ours + theirs for ours, theirs in zip(self.sums, other.sums, strict=True))
        )

    @property
    def active(self):
        """Whether each component carries anything; shape (d,) (Burda et al., 2016, section 5.2)."""
        return self._covariance().diagonal() > ACTIVE

    def t2(self, Z):
        """(z - mean)^T S^-1 (z - mean), S the covariance of the training rows' scores; shape (n,)."""
        mean, root = self.whitening()
        return np.square((Z - mean) @ root).sum(axis=1)

    def whitening(self):
        """The mean (d,) of the scores, and R (d, d) with R R^T = S^-1."""
        variances, directions = np.linalg.eigh(self._precision()[0])
        return self.sums[1] / self.sums[0], directions * np.sqrt(np.maximum(variances, 0))

    def t2_limit(self, level):
        """d (n^2 - 1) / (n (n - d)) F(level; d, n - d), for a row that was not trained on."""
        n, d = self.sums[0], self._precision()[1]
        if not n > d > 0:
            return np.inf
        # weights may make n so large that fdtri, which has settled long before, is NaN in some versions of scipy
        return d * (1 - n**-2.0) / (1 - d / n) * fdtri(d, min(n - d, 1e8), level)

    def q_limit(self, level):
        """See `q_limit`, for the training rows' Q."""
        n, *_, total, square = self.sums
        return self.unit * q_limit(total / n, max(square / n - (total / n) ** 2, 0.0), level)

    def _covariance(self):
        n, total, square = self.sums[:3]
        return square / n - np.outer(total, total) / n**2

    def _precision(self):
        """Pseudo-inverse (d, d) and rank of the bessel_factor covariance of the scores, over the active components."""
        covariance = self._covariance() * bessel_factor(self.sums[0]) * np.outer(self.active, self.active)
        return np.linalg.pinv(covariance, hermitian=True), np.linalg.matrix_rank(covariance, hermitian=True)


def q_limit(mean, variance, level):
    """g chi2(level; h), with g h and 2 g^2 h the mean and the variance of Q."""
    if variance <= 1e-12 * mean**2:
        return mean
    return variance / (2 * mean) * chdtri(2 * mean**2 / variance, 1 - level)
