"""What a fitted estimator says of rows beside their scores: loadings, predictions, outliers' statistics."""

from numbers import Integral, Real
from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from ._arrays import array_of, like
from ._fitted import FittedVAE, Floats
from ._inference import Inference, finite
from ._monitoring import q_limit
from ._rows import Rows


class DiagnosticVAE(FittedVAE):
    """The methods of `VAETransformer` that look closer at rows, and at the model."""

    def loadings(self, X: ArrayLike) -> Floats:
        """Return how each row's reconstruction changes with each component, d E[x | z] / d z in X's units.

        At the posterior means, by automatic differentiation. In a linear model every row has the loadings
        `components_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.

        Returns
        -------
        loadings : ndarray of shape (n_samples, n_components, n_features)
            In X's units per unit of z.
        """
        table, inference = self._rows(X, "loadings")
        return inference.jacobian(Rows(inference.transform(table)))

    @overload
    def reconstruct(self, X: ArrayLike, return_std: Literal[False] = False, n_draws: int = 64) -> Floats: ...
    @overload
    def reconstruct(self, X: ArrayLike, return_std: Literal[True], n_draws: int = 64) -> tuple[Floats, Floats]: ...
    @overload
    def reconstruct(self, X: ArrayLike, return_std: bool, n_draws: int = 64) -> Floats | tuple[Floats, Floats]: ...
    def reconstruct(self, X: ArrayLike, return_std: bool = False, n_draws: int = 64) -> Floats | tuple[Floats, Floats]:
        """Return what the model expects to measure again where it measured X: the posterior predictive, in X's units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
        n_draws : int, default=64
            Draws of z a row, whose mean and, if more than n_components, covariance are exactly the posterior's.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_features)
            Over noise and z given x.
        std : ndarray of shape (n_samples, n_features)
            Of noise and of z given x together. If `return_std`.
        """
        table, inference = self._rows(X, "reconstruct")
        moments = inference.predictive(table, check_n_draws(n_draws), self._seed, weighted=False, with_std=return_std)
        return (moments[:, 0, ...], moments[:, 1, ...]) if return_std else moments[:, 0, ...]

    @overload
    def impute(self, X: ArrayLike, return_std: Literal[False] = False, n_draws: int = 128) -> Floats: ...
    @overload
    def impute(self, X: ArrayLike, return_std: Literal[True], n_draws: int = 128) -> tuple[Floats, Floats]: ...
    @overload
    def impute(self, X: ArrayLike, return_std: bool, n_draws: int = 128) -> Floats | tuple[Floats, Floats]: ...
    def impute(self, X: ArrayLike, return_std: bool = False, n_draws: int = 128) -> Floats | tuple[Floats, Floats]:
        """Return X with its NaN replaced by their mean given the row's measured values.

        The mean under the model's own posterior, not the encoder's: draws of z are weighted by p(x, z) / q(z | x) of
        the measured values x (Mattei and Frellsen, MIWAE, 2019, eq. 12). Exact in a linear model whose posterior can be
        (all but "rho").

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
        n_draws : int, default=128
            Draws of z a row, whose mean and, if more than n_components, covariance are exactly the posterior's.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The rows, filled.
        std : ndarray of shape (n_samples, n_features)
            Standard deviation of each missing value, noise included; 0 where one was measured. If `return_std`.
        """
        table, inference = self._rows(X, "impute")
        check_n_draws(n_draws)
        filled = table[:].clone()
        missing, std = filled.isnan(), torch.zeros_like(filled)
        rows = missing.any(1)
        if rows.any():
            lacking = Rows(filled[rows])
            moments = inference.predictive(lacking, n_draws, self._seed, weighted=True, with_std=return_std)
            std[missing] = moments[:, -1][missing[rows]]
            filled[missing] = moments[:, 0][missing[rows]]
        return (table.like(filled), table.like(std)) if return_std else table.like(filled)

    def get_covariance(self, n_draws: int = 10_000) -> Floats:
        """Return the model's covariance of X's features, as `PCA.get_covariance` does.

        Cov[E[x | z]] + E[Var[x | z]] over `n_draws` of z whose mean and covariance are exactly the prior's, and so
        exactly the closed form where the model is linear.

        Parameters
        ----------
        n_draws : int, default=10000
            Of z.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
            In X's units squared.
        """
        check_is_fitted(self)
        dtype = Rows(self.components_).dtype
        covariance = Inference(self.net_.module_, dtype).feature_covariance(check_n_draws(n_draws), self._seed)
        with np.errstate(over="ignore"):
            return like(self.mean_, torch.from_numpy(finite(covariance.astype(dtype))))

    def hotelling_t2(self, X: ArrayLike) -> Floats:
        """Return Hotelling's T2 of each row: how far its scores lie from the training rows'.

        (z - m)^T S^-1 (z - m) with m and S the mean and the covariance of the training rows' posterior means, over the
        `n_active_components_`. Where much of those rows was missing their means are shrunken, and complete rows lie
        farther from them than the limit allows for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.

        Returns
        -------
        t2 : ndarray of shape (n_samples,)
            Without unit.
        """
        table, inference = self._rows(X, "hotelling_t2")
        with np.errstate(over="ignore", invalid="ignore"):
            return table.like(torch.from_numpy(finite(self._monitor.t2(array_of(inference.transform(table))))))

    def q_residuals(self, X: ArrayLike) -> Floats:
        """Return the Q residual (SPE) of each row: its squared distance from its reconstruction.

        Of `inverse_transform` of `transform`; of a row with NaN, n_features times the mean over its measured values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.

        Returns
        -------
        q : ndarray of shape (n_samples,)
            In X's units squared.
        """
        table, inference = self._rows(X, "q_residuals")
        return inference.squared_residuals(table)

    def hotelling_t2_limit(self, level: float = 0.95) -> float:
        """Return the T2 that this share of new rows like the training rows stays under.

        d (n^2 - 1) / (n (n - d)) F(level; d, n - d) for n training rows (or the sum of their weights) and d active
        components (MacGregor and Kourti, Statistical process control of multivariate processes, 1995); infinite where n
        is not above d, or no component is active.

        Parameters
        ----------
        level : float, default=0.95
            The share, between 0 and 1.

        Returns
        -------
        limit : float
            Without unit.
        """
        check_is_fitted(self)
        return float(self._monitor.t2_limit(check_level(level)))

    def q_residuals_limit(self, level: float = 0.95, X: ArrayLike | None = None) -> float:
        """Return the Q residual that this share of rows stays under.

        g chi2(level; h) with the mean g h and the variance 2 g^2 h of rows' Q (Box, 1954; Nomikos and MacGregor, 1995).

        Parameters
        ----------
        level : float, default=0.95
        X : array-like of shape (n_samples, n_features) or None, default=None
            The rows. None: those trained on, which a model comes nearer to than to new ones, so that their Q is taken
            times its ratio in validation rows to training rows (of geometric means, before a refit; not known where
            early_stopping=False, or to `partial_fit`). Held-out rows give a limit that is surer yet.

        Returns
        -------
        limit : float
            In X's units squared.
        """
        check_is_fitted(self)
        check_level(level)
        if X is None:
            return float(self._monitor.q_limit(level))
        q = array_of(self.q_residuals(X))
        unit = q.max() or 1.0  # squares of q may be out of range
        return float(finite(unit * q_limit((q / unit).mean(), (q / unit).var(), level)))


def check_n_draws(n_draws: int) -> int:
    return check_scalar(n_draws, "n_draws", Integral, min_val=1)


def check_level(level: float) -> float:
    return check_scalar(level, "level", Real, min_val=0, max_val=1, include_boundaries="neither")
