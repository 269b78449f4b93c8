"""PCA with the control charts of VAETransformer, and the textbook limits of them."""

import numpy as np
from scipy.stats import chi2, f, norm
from sklearn.decomposition import PCA

LEVEL = 0.95  # of the limits


class ChartedPCA(PCA):
    """PCA with the charts of VAETransformer and the textbook limits, the third of them Jackson and Mudholkar's."""

    def fit(self, X, y=None):
        super().fit(X)
        q, n, d = self.q_residuals(X), len(X), self.n_components
        left = np.linalg.svd(X - self.mean_, compute_uv=False)[d:] ** 2 / (n - 1)
        first, second, third = (np.sum(left**power) for power in (1, 2, 3))
        h = 1 - 2 * first * third / (3 * second**2)  # where it is negative the normal deviate is the lower one
        root = 1 + h * norm.ppf(LEVEL) * np.sqrt(2 * second) / first + second * h * (h - 1) / first**2
        self.limits = {
            ("PCA: T2", "F"): d * (n**2 - 1) / (n * (n - d)) * f.ppf(LEVEL, d, n - d),
            ("PCA: Q", "chi2"): q.var() / (2 * q.mean()) * chi2.ppf(LEVEL, 2 * q.mean() ** 2 / q.var()),
            ("PCA: Q", "Jackson-Mudholkar"): first * root ** (1 / h),
        }
        return self

    def hotelling_t2(self, X):
        return np.sum(self.transform(X) ** 2 / self.explained_variance_, axis=1)

    def q_residuals(self, X):
        return np.sum((X - self.inverse_transform(self.transform(X))) ** 2, axis=1)
