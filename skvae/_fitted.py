"""What a fitted estimator does: validated arrays in, arrays out."""

from numbers import Integral, Real
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from ._arrays import array_of, floating, like, readable
from ._build import lookup
from ._inference import Inference, finite
from ._monitoring import q_limit
from ._parameters import check_parameters, check_sample_weight
from ._rows import Rows, has_gaps
from ._sklearn import check_same_namespace
from .likelihoods import LIKELIHOODS

Floats = NDArray[np.floating]


class FittedVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The methods of `VAETransformer` that need a fitted model.

    They read ``net_``, ``mean_``, ``n_components_``, the seed ``_seed`` and the ``_monitor``, which fitting sets.
    Rows X (n_samples, n_features) may have NaN, for values that were not measured. What is returned is finite: numbers
    that exceed the range of X's dtype, such as the score of a row 1e30 standard deviations away in float32, raise
    ValueError.
    """

    components_: Floats
    explained_variance_: Floats
    explained_variance_ratio_: Floats
    kl_per_component_: Floats
    n_active_components_: int
    mean_: Floats
    noise_variance_: float | Floats | None
    n_components_: int
    n_features_in_: int
    n_iter_: int
    best_iter_: int
    history_: list[dict[str, Any]]
    device_: str

    def transform(self, X: ArrayLike) -> Floats | Any:  # a DataFrame, where set_output asks for one
        """Return the posterior means of z, shape (n_samples, n_components), for X (n_samples, n_features)."""
        X, inference = self._rows(X, "transform")
        return inference.transform(X)

    def posterior_covariance(self, X: ArrayLike) -> Floats:
        """Return the posterior covariances of z, shape (n_samples, n_components, n_components)."""
        X, inference = self._rows(X, "posterior_covariance")
        return inference.covariance(X)

    @np.errstate(invalid="ignore")  # as in `_check`
    def inverse_transform(self, X: ArrayLike) -> Floats:
        """Return the means of p(x | z), shape (n_samples, n_features), for latents X (n_samples, n_components)."""
        check_is_fitted(self)
        X = readable(X)
        Z = Rows(check_array(X, dtype=floating(X), estimator=self, input_name="X"))
        check_same_namespace(Z.X, self, attribute="components_", method="inverse_transform")
        if Z.shape[1] != self.n_components_:
            raise ValueError(f"X has {Z.shape[1]} columns, but the model has n_components={self.n_components_}.")
        return Inference(self.net_.module_, Z.dtype).inverse_transform(Z)

    def loadings(self, X: ArrayLike) -> Floats:
        """Return how each row's reconstruction changes with each component, d E[x | z] / d z in X's units.

        At the posterior means, by automatic differentiation; shape (n_samples, n_components, n_features).
        In a linear model every row has the loadings `components_`.
        """
        X, inference = self._rows(X, "loadings")
        return inference.jacobian(Rows(inference.transform(X)))

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return a lower bound on log p(x) of each row, in nats and in the units of X, shape (n_samples,).

        log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) with K = `n_importance_samples` draws z_k (Burda,
        Grosse and Salakhutdinov, 2016, eq. 8), exact at the linear start and tighter the more draws. Of a row with
        NaN it is the density of its measured values.
        """
        X, inference = self._rows(X, "score_samples")
        return inference.score_samples(X, self.n_importance_samples, self._seed)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the mean of `score_samples`: nats a row, comparable with `PCA.score` and `FactorAnalysis.score`.

        Weighted by `sample_weight` (n_samples,), if given.
        """
        scores = array_of(self.score_samples(X)).astype(np.float64)
        weight = check_sample_weight(sample_weight, len(scores))
        with np.errstate(over="ignore"):
            return float(finite(np.average(scores, weights=None if weight is None else weight / weight.sum())))

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Floats:
        """Return rows drawn from the model, noise included, shape (n_samples, n_features)."""
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        return like(self.mean_, Inference(self.net_.module_, Rows(self.components_).dtype).sample(n_samples, seed))

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
        std : ndarray of shape (n_samples, n_features)
            Of noise and of z given x together. If `return_std`.
        """
        X, inference = self._rows(X, "reconstruct")
        moments = inference.predictive(X, check_n_draws(n_draws), self._seed, weighted=False, with_std=return_std)
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
        std : ndarray of shape (n_samples, n_features)
            Standard deviation of each missing value, noise included; 0 where one was measured. If `return_std`.
        """
        X, inference = self._rows(X, "impute")
        check_n_draws(n_draws)
        filled = X[:].clone()
        missing, std = filled.isnan(), torch.zeros_like(filled)
        rows = missing.any(1)
        if rows.any():
            lacking = Rows(filled[rows])
            moments = inference.predictive(lacking, n_draws, self._seed, weighted=True, with_std=return_std)
            std[missing] = moments[:, -1][missing[rows]]
            filled[missing] = moments[:, 0][missing[rows]]
        return (X.like(filled), X.like(std)) if return_std else X.like(filled)

    def get_covariance(self, n_draws: int = 10_000) -> Floats:
        """Return the model's covariance of X's features, shape (n_features, n_features), as `PCA.get_covariance` does.

        Cov[E[x | z]] + E[Var[x | z]] over `n_draws` of z whose mean and covariance are exactly the prior's, and so
        exactly the closed form where the model is linear.
        """
        check_is_fitted(self)
        dtype = Rows(self.components_).dtype
        covariance = Inference(self.net_.module_, dtype).feature_covariance(check_n_draws(n_draws), self._seed)
        with np.errstate(over="ignore"):
            return like(self.mean_, torch.from_numpy(finite(covariance.astype(dtype))))

    def hotelling_t2(self, X: ArrayLike) -> Floats:
        """Return Hotelling's T2 of each row, shape (n_samples,): how far its scores lie from the training rows'.

        (z - m)^T S^-1 (z - m) with m and S the mean and the covariance of the training rows' posterior means, over the
        `n_active_components_`. Where much of those rows was missing their means are shrunken, and complete rows lie
        farther from them than the limit allows for.
        """
        X, inference = self._rows(X, "hotelling_t2")
        with np.errstate(over="ignore", invalid="ignore"):
            return X.like(torch.from_numpy(finite(self._monitor.t2(array_of(inference.transform(X))))))

    def q_residuals(self, X: ArrayLike) -> Floats:
        """Return the Q residual (SPE) of each row, shape (n_samples,): its squared distance from its reconstruction.

        In X's units squared, of `inverse_transform` of `transform`; of a row with NaN, n_features times the mean over
        its measured values.
        """
        X, inference = self._rows(X, "q_residuals")
        return inference.squared_residuals(X)

    def hotelling_t2_limit(self, level: float = 0.95) -> float:
        """Return the T2 that this share of new rows like the training rows stays under.

        d (n^2 - 1) / (n (n - d)) F(level; d, n - d) for n training rows (or the sum of their weights) and d active
        components (MacGregor and Kourti, Statistical process control of multivariate processes, 1995); infinite where n
        is not above d, or no component is active.
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
        """
        check_is_fitted(self)
        check_level(level)
        if X is None:
            return float(self._monitor.q_limit(level))
        q = array_of(self.q_residuals(X))
        unit = q.max() or 1.0  # squares of q may be out of range
        return float(finite(unit * q_limit((q / unit).mean(), (q / unit).var(), level)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.array_api_support = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @np.errstate(invalid="ignore")  # scikit-learn first looks for infinity in the sum, where inf - inf may be
    def _check(self, X: Any, training: bool = False, reset: bool = False) -> Rows:
        """X as checked rows; nothing of the estimator changes."""
        X = readable(X)
        options = {"dtype": floating(X), "ensure_min_samples": 1 + training, "ensure_all_finite": "allow-nan"}
        X = (
            check_array(X, estimator=self, input_name="X", **options)
            if reset
            else validate_data(self, X, reset=False, **options)
        )
        rows = Rows(X)
        if training:
            check_parameters(self, len(rows))
        likelihood = lookup(LIKELIHOODS, self.likelihood) if training else self.net_.module_.likelihood
        likelihood.check(X if isinstance(X, np.ndarray) else rows.extremes())
        return rows

    def _rows(self, X: ArrayLike, method: str) -> tuple[Rows, Inference]:
        """X as checked rows, and the fitted model for them, in the method of this name."""
        check_is_fitted(self)
        rows = self._check(X)
        check_same_namespace(rows.X, self, attribute="components_", method=method)
        return rows, Inference(self.net_.module_, rows.dtype, has_gaps(rows))


def check_n_draws(n_draws: int) -> int:
    return check_scalar(n_draws, "n_draws", Integral, min_val=1)


def check_level(level: float) -> float:
    return check_scalar(level, "level", Real, min_val=0, max_val=1, include_boundaries="neither")
