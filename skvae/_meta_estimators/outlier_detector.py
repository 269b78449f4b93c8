"""An outlier detector around a `VAETransformer`."""

from __future__ import annotations  # so that help() shows the names of types, not what stands behind them

from numbers import Real
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._data.arrays import to_numpy
from .._data.tables import to_single_table
from .._sklearn_compat import Interval, StrOptions, validates_parameters
from .._vae import VAETransformer

Self = TypeVar("Self", bound="VAEOutlierDetector")  # typing has its own from Python 3.11 on

LEVEL = 0.95  # the share of rows like those of the training that contamination="auto" takes for inliers
# What tells how normal a row is, higher for more normal rows.
STATISTICS = {
    "density": lambda vae, *rows: vae.score_samples(*rows),
    "q": lambda vae, *rows: -vae.q_residuals(*rows),
    "t2": lambda vae, *rows: -vae.hotelling_t2(*rows),
}
LIMITS = {"q": VAETransformer.q_residuals_limit, "t2": VAETransformer.hotelling_t2_limit}


class VAEOutlierDetector(OutlierMixin, BaseEstimator):
    """Outlier detection by the density, the Q residual or Hotelling's T2 of a `VAETransformer`.

    Parameters
    ----------
    estimator : VAETransformer or None, default=None
        The model, of which a clone is fitted. None stands for ``VAETransformer()``.
    statistic : {"density", "q", "t2"}, default="density"
        What makes a row an outlier. "density": it is improbable (`score_samples`). "q": it lies far from its
        reconstruction (`q_residuals`). "t2": its components lie far from those of the training rows (`hotelling_t2`).
    contamination : "auto" or float, default="auto"
        The share of outliers in the training rows, in (0, 0.5], which are then those that are the least normal. "auto":
        the limit of T2 or Q under which 95 % of new rows stay that are like the training rows; density has no such
        limit, and 5 % of the training rows are taken for outliers.

    Attributes
    ----------
    estimator_ : VAETransformer
        The fitted model. Its `q_contributions` and `t2_contributions` say which channels make a row an outlier.
    offset_ : float
        The score under which a row is an outlier: ``decision_function`` is ``score_samples`` less this.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Only where X has names of columns that are all strings.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Outliers are rows that few random cuts set apart.
    sklearn.neighbors.LocalOutlierFactor : Outliers are rows with fewer neighbours than their neighbours have.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAEOutlierDetector, VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> detector = VAEOutlierDetector(VAETransformer(2, max_iter=2, random_state=0), contamination=0.1)
    >>> labels = detector.fit_predict(X)
    >>> int((labels == -1).sum())
    15
    """

    _parameter_constraints = {
        "estimator": [VAETransformer, None],
        "statistic": [StrOptions(set(STATISTICS))],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
    }

    def __init__(
        self,
        estimator: VAETransformer | None = None,
        *,
        statistic: Literal["density", "q", "t2"] = "density",
        contamination: float | Literal["auto"] = "auto",
    ) -> None:
        self.estimator = estimator
        self.statistic = statistic
        self.contamination = contamination

    @validates_parameters
    def fit(self: Self, X: ArrayLike, y: object = None, **params: Any) -> Self:
        """Fit the model, and find the score under which a row is an outlier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as `VAETransformer.fit` takes them.
        y : ignored
            For scikit-learn's conventions.
        **params : dict
            Parameters of `VAETransformer.fit`, such as `groups`.

        Returns
        -------
        self : VAEOutlierDetector
            The detector.
        """
        X = to_single_table(X)  # blocks can be read only once
        self.estimator_ = VAETransformer() if self.estimator is None else clone(self.estimator)
        self.estimator_.fit(X, **params)
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        if self.contamination == "auto" and self.statistic in LIMITS:
            self.offset_ = -LIMITS[self.statistic](self.estimator_, LEVEL)
        else:
            share = 1 - LEVEL if self.contamination == "auto" else self.contamination
            self.offset_ = float(np.quantile(self.score_samples(X, params.get("X_std")), share))
        return self

    def fit_predict(self, X: ArrayLike, y: object = None, **params: Any) -> NDArray[np.integer]:
        """Return which of the training rows are outliers: `predict` of `fit`, with the errors of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as `VAETransformer.fit` takes them.
        y : ignored
            For scikit-learn's conventions.
        **params : dict
            Parameters of `VAETransformer.fit`, such as `groups`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, 1 for the others.
        """
        X = to_single_table(X)
        return self.fit(X, y, **params).predict(X, params.get("X_std"))

    def score_samples(self, X: ArrayLike, X_std: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return how normal each row is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `VAETransformer.fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Lower is less normal: log p(x) in nats, -Q in X's units squared, or -T2, as `statistic` has it.
        """
        check_is_fitted(self)
        return to_numpy(STATISTICS[self.statistic](self.estimator_, X, X_std)).astype(np.float64)

    def decision_function(self, X: ArrayLike, X_std: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return `score_samples` less `offset_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `VAETransformer.fit`.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            Below 0 for outliers.
        """
        return self.score_samples(X, X_std) - self.offset_

    def predict(self, X: ArrayLike, X_std: ArrayLike | None = None) -> NDArray[np.integer]:
        """Return which rows are outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN where a value was not measured.
        X_std : array-like of shape (n_samples, n_features) or (n_features,), or None, default=None
            Standard deviations of the values' known errors, as in `VAETransformer.fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, 1 for the others.
        """
        return np.where(self.decision_function(X, X_std) >= 0, 1, -1)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
