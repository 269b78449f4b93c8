"""What a fitted estimator does: validated arrays in, arrays out."""

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ._build import lookup
from ._inference import Inference
from ._parameters import check_parameters
from .likelihoods import LIKELIHOODS


class FittedVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The methods of `VAETransformer` that need a fitted model.

    They read ``net_``, ``mean_``, ``n_components_`` and the seed ``_seed``, which fitting sets.
    """

    def transform(self, X):
        """Return the posterior means of z, shape (n_samples, n_components), for X (n_samples, n_features)."""
        check_is_fitted(self)
        X = self._check(X)
        return self._inference(X).transform(X)

    def posterior_covariance(self, X):
        """Return the posterior covariances of z, shape (n_samples, n_components, n_components)."""
        check_is_fitted(self)
        X = self._check(X)
        return self._inference(X).covariance(X)

    def inverse_transform(self, X):
        """Return the means of p(x | z), shape (n_samples, n_features), for latents X (n_samples, n_components)."""
        check_is_fitted(self)
        Z = check_array(X, dtype=[np.float64, np.float32], estimator=self)
        if Z.shape[1] != self.n_components_:
            raise ValueError(f"X has {Z.shape[1]} columns, but the model has n_components={self.n_components_}.")
        return self._inference(Z).inverse_transform(Z)

    def score_samples(self, X):
        """Return a lower bound on log p(x) of each row, in nats and in the units of X, shape (n_samples,).

        log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x) with K = `n_importance_samples` draws z_k (Burda,
        Grosse and Salakhutdinov, 2016, eq. 8), exact at the linear start and tighter the more draws.
        """
        check_is_fitted(self)
        X = self._check(X)
        return self._inference(X).score_samples(X, self.n_importance_samples, self._seed)

    def score(self, X, y=None):
        """Return the mean of `score_samples`: nats a row, comparable with `PCA.score` and `FactorAnalysis.score`."""
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    def sample(self, n_samples=1, random_state=None):
        """Return rows drawn from the model, noise included, shape (n_samples, n_features)."""
        check_is_fitted(self)
        seed = check_random_state(random_state).randint(2**31 - 1)
        return self._inference(self.mean_).sample(n_samples, seed)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    def _check(self, X, training=False, reset=False):
        """X as a checked array; nothing of the estimator changes."""
        options = {"dtype": [np.float64, np.float32], "ensure_min_samples": 1 + training}
        X = check_array(X, estimator=self, **options) if reset else validate_data(self, X, reset=False, **options)
        if training:
            check_parameters(self, len(X))
        likelihood = lookup(LIKELIHOODS, self.likelihood) if training else self.net_.module_.likelihood
        likelihood.check(X)
        return X

    def _inference(self, X):
        return Inference(self.net_.module_, X.dtype)
