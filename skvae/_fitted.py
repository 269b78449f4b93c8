"""What a fitted estimator does: validated arrays in, arrays out."""

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_array, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from ._arrays import array_of, floating, like, readable
from ._build import lookup
from ._inference import Inference, finite
from ._parameters import check_parameters, check_sample_weight
from ._rows import Rows, has_gaps
from ._sklearn import check_same_namespace
from .likelihoods import LIKELIHOODS, Likelihood

Floats = NDArray[np.floating]


class FittedVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The methods of `VAETransformer` that need a fitted model.

    They read ``net_``, ``mean_``, ``n_components_``, the seed ``_seed`` and the ``_monitor``, which fitting sets.
    Rows X (n_samples, n_features) may have NaN, for values that were not measured. What is returned is finite: numbers
    that exceed the range of X's dtype, such as the score of a row 1e30 standard deviations away in float32, raise
    ValueError.
    """

    _doc_link_module = "skvae"  # of the HTML representation: the docstrings that are installed
    _doc_link_template = Path(__file__).with_name("_transformer.py").as_uri()

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
        """Return the posterior means of z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Or a frame, as `set_output` has it.
        """
        table, inference = self._rows(X, "transform")
        return inference.transform(table)

    def posterior_covariance(self, X: ArrayLike) -> Floats:
        """Return the posterior covariances of z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.

        Returns
        -------
        covariances : ndarray of shape (n_samples, n_components, n_components)
            Of z given each row.
        """
        table, inference = self._rows(X, "posterior_covariance")
        return inference.covariance(table)

    @np.errstate(invalid="ignore")  # as in `_check`
    def inverse_transform(self, X: ArrayLike) -> Floats:
        """Return the means of p(x | z).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Latents z.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training rows.
        """
        check_is_fitted(self)
        X = readable(X)
        Z = Rows(check_array(X, dtype=floating(X), estimator=self, input_name="X"))
        check_same_namespace(Z.X, self, attribute="components_", method="inverse_transform")
        if Z.shape[1] != self.n_components_:
            raise ValueError(f"X has {Z.shape[1]} columns, but the model has n_components={self.n_components_}.")
        return Inference(self.net_.module_, Z.dtype).inverse_transform(Z)

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return a lower bound on log p(x) of each row, in nats and in the units of X.

        log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) with K = `n_importance_samples` draws z_k (Burda,
        Grosse and Salakhutdinov, 2016, eq. 8), exact at the linear start and tighter the more draws. Of a row with
        NaN it is the density of its measured values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            In nats.
        """
        table, inference = self._rows(X, "score_samples")
        return inference.score_samples(table, self.n_importance_samples, self._seed)

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the mean of `score_samples`: nats a row, comparable with `PCA.score` and `FactorAnalysis.score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        y : ignored
            For scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Of the rows in the mean.

        Returns
        -------
        score : float
            In nats.
        """
        scores = array_of(self.score_samples(X)).astype(np.float64)
        weight = check_sample_weight(sample_weight, len(scores))
        with np.errstate(over="ignore"):
            return float(finite(np.average(scores, weights=None if weight is None else weight / weight.sum())))

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Floats:
        """Return rows drawn from the model, noise included.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState or None, default=None
            The same int gives the same rows.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the training rows.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        return like(self.mean_, Inference(self.net_.module_, Rows(self.components_).dtype).sample(n_samples, seed))

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
        if likelihood.check is not Likelihood.check:  # which takes all: a pass over a tensor's rows for nothing
            likelihood.check(X if isinstance(X, np.ndarray) else rows.extremes())
        return rows

    def _rows(self, X: ArrayLike, method: str) -> tuple[Rows, Inference]:
        """X as checked rows, and the fitted model for them, in the method of this name."""
        check_is_fitted(self)
        rows = self._check(X)
        check_same_namespace(rows.X, self, attribute="components_", method=method)
        return rows, Inference(self.net_.module_, rows.dtype, has_gaps(rows))
