"""Models as the displays see them: a Pipeline in the units of its X, and linear models beside."""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ._base import Fitted, Floats, Steps
from ._steps import can_be_undone, fitted_steps, undone

STEP = 1e-4  # of a slope by differences through the steps of a Pipeline, exact where they are linear


class Model:
    """A fitted VAETransformer, or a Pipeline that ends in one, whose results are in the units of X where they can be.

    Parameters
    ----------
    estimator : VAETransformer, Pipeline, or search over one
        Where each step before the last can be undone, rows are drawn as they were before these steps, else as the last
        step sees them.

    Attributes
    ----------
    units : str
        Of the rows that are drawn.
    units_seen : str
        Of the rows that the last step sees.

    Raises
    ------
    TypeError
        If it is, or ends in, something else.
    """

    last: Fitted

    def __init__(self, estimator: Fitted | Steps) -> None:
        check_is_fitted(estimator)
        steps = fitted_steps(estimator)
        *self.before, self.last = steps
        if not hasattr(self.last, "posterior_covariance"):
            raise TypeError(
                f"estimator must be a fitted VAETransformer, or a Pipeline that ends in one, not {estimator!r:.100}."
            )
        self.has_steps = len(self.before) > 0
        self.comes_back = self.has_steps and all(map(can_be_undone, self.before))
        seen = "units of the last step's X"
        self.units_seen = seen if self.has_steps else "units of X"
        self.units = seen if self.has_steps and not self.comes_back else "units of X"
        self.n_features_in_ = steps[0].n_features_in_ if self.comes_back else self.last.n_features_in_
        labelled = steps[0] if steps[0].n_features_in_ == self.n_features_in_ else self.last
        if hasattr(labelled, "feature_names_in_"):
            self.feature_names_in_ = labelled.feature_names_in_
        if hasattr(self.last, "wavelengths_") and not self.has_steps:
            self.wavelengths_ = self.last.wavelengths_

    def __getattr__(self, name: str) -> Any:
        return getattr(self.last, name)

    def seen(self, X: ArrayLike) -> Any:
        """Rows of X as the last step sees them."""
        return reduce(lambda rows, step: step.transform(rows), self.before, X)

    def measured(self, X: ArrayLike) -> Floats:
        """Rows of X in the units in which rows are drawn."""
        return np.asarray(X if self.comes_back else self.seen(X), dtype=float)

    def back(self, rows: Any) -> Floats:
        """Rows that the last step gives, in the units in which rows are drawn."""
        before = reversed(self.before) if self.comes_back else ()
        return np.asarray(reduce(lambda x, step: undone(step, x), before, rows))

    def back_along(self, rows: Floats, change: Floats) -> Floats:
        """A small change of rows that the last step gives, in the units in which rows are drawn."""
        if not self.comes_back:
            return change
        return (self.back(rows + STEP * change) - self.back(rows)) / STEP

    def transform(self, X: ArrayLike) -> Floats:
        return np.asarray(self.last.transform(self.seen(X)))

    def inverse_transform(self, Z: ArrayLike) -> Floats:
        return self.back(self.last.inverse_transform(Z))

    def posterior_covariance(self, X: ArrayLike) -> Floats:
        return np.asarray(self.last.posterior_covariance(self.seen(X)))

    def loadings(self, X: ArrayLike) -> Floats:
        rows = self.seen(X)
        slopes = np.asarray(self.last.loadings(rows))
        reconstruction = np.asarray(self.last.inverse_transform(self.last.transform(rows)))
        return np.stack([self.back_along(reconstruction, slope) for slope in slopes.swapaxes(0, 1)], axis=1)

    def reconstruct(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Means and standard deviations."""
        mean, std = (np.asarray(values) for values in self.last.reconstruct(self.seen(X), return_std=True))
        return self.back(mean), np.abs(self.back_along(mean, std))

    def statistic(self, name: str, X: ArrayLike) -> Floats:
        """T2, Q or the contributions to them: a method of the last step's, on the rows that it sees."""
        return np.asarray(getattr(self.last, name)(self.seen(X)))


class LinearModel:
    """A fitted PCA or FactorAnalysis that is drawn beside a model.

    Raises
    ------
    ValueError
        If it is another estimator, not fitted, or one of other columns than the model's `n_features`.
    """

    def __init__(self, model: Any, n_features: int) -> None:
        self.model, self.name = model, type(model).__name__
        self.is_pca = hasattr(model, "explained_variance_ratio_")
        if not self.is_pca and not hasattr(model, "noise_variance_"):
            raise ValueError(f"beside must be a fitted PCA or FactorAnalysis, got {model!r}.")
        if model.n_features_in_ != n_features:
            raise ValueError(f"beside has {model.n_features_in_} features, the estimator {n_features}.")

    def loadings(self) -> Floats:
        """(k, p), in X's units per standard deviation of the component."""
        scale = np.sqrt(self.model.explained_variance_)[:, None] if self.is_pca else 1.0
        return scale * self.model.components_

    def explained_variance_ratio(self) -> Floats:
        """(k,)."""
        if self.is_pca:
            return np.asarray(self.model.explained_variance_ratio_)
        return np.square(self.model.components_).sum(axis=1) / np.trace(self.model.get_covariance())

    def reconstruct(self, X: ArrayLike) -> Floats:
        """(n, p)."""
        Z = self.model.transform(X)
        return np.asarray(self.model.inverse_transform(Z) if self.is_pca else self.model.mean_ + Z @ self.loadings())
