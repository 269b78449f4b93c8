"""Hotelling's T2 and Q residuals, with their limits: how chemometrics watches a process with PCA."""

import numpy as np
from scipy.special import chdtri, fdtri

from ._scaling import unbiased


class Monitor:
    """What training rows say of scores and residuals.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Scores of training rows.
    q : ndarray of shape (n,)
        Their sums of squared residuals.
    share : ndarray of shape (n,)
        Weights of sum 1.
    n_rows : float
        How many rows were trained on.
    """

    def __init__(self, Z, q, share, n_rows):
        self.n_rows = n_rows
        self.mean = share @ Z
        centred = Z - self.mean
        covariance = (share[:, None] * centred).T @ centred * unbiased(n_rows)
        self.precision = np.linalg.pinv(covariance, hermitian=True)
        self.rank = np.linalg.matrix_rank(covariance, hermitian=True)
        self.q_mean = share @ q
        self.q_variance = share @ (q - self.q_mean) ** 2

    def t2(self, Z):
        """(z - mean)^T S^-1 (z - mean), S the covariance of the training rows' scores; shape (n,)."""
        centred = Z - self.mean
        return np.einsum("nd, de, ne -> n", centred, self.precision, centred)

    def t2_limit(self, level):
        """d (n^2 - 1) / (n (n - d)) F(level; d, n - d), for a row that was not trained on."""
        n, d = self.n_rows, self.rank
        return d * (n**2 - 1) / (n * (n - d)) * fdtri(d, n - d, level) if n > d > 0 else np.inf

    def q_limit(self, level):
        """g chi2(level; h), with g h and 2 g^2 h the mean and the variance of the training rows' Q."""
        if self.q_variance == 0:
            return self.q_mean
        g, h = self.q_variance / (2 * self.q_mean), 2 * self.q_mean**2 / self.q_variance
        return g * chdtri(h, 1 - level)
