"""Models side by side: held-out scores over the same splits."""

from __future__ import annotations  # so that help() shows the names of types, not what stands behind them

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import has_fit_parameter

from .._data.arrays import to_numpy
from .._data.tables import to_supported_table
from .._sklearn_compat import safe_indexing
from ..displays._steps import can_be_undone, fitted_steps, undone

# What is compared: its name in the table, and how many digits are shown.
MEASURES = {"nats": ("nats per row", 1), "r2": ("R2", 4), "downstream": ("downstream", 3), "seconds": ("fit, s", 2)}


@dataclass(frozen=True)
class Comparison:
    """Held-out scores of models over the same splits, which `compare` returns.

    Parameters
    ----------
    models : list of str
        Their names.
    scores : dict of str to ndarray of shape (n_models, n_splits)
        By measure: "nats", "r2", "downstream" where there is a target, and "seconds". NaN where a model has no such
        score.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import Comparison
    >>> print(Comparison(["PCA", "VAE"], {"nats": np.array([[1.0, 2.0], [3.0, 5.0]])}))
         nats per row
    PCA     1.5 ± 0.5
    VAE     4.0 ± 1.0
    """

    models: list[str]
    scores: dict[str, NDArray[np.floating]]

    def frame(self) -> Any:
        """Return means and standard deviations over splits as a frame of pandas'.

        Returns
        -------
        frame : DataFrame of shape (n_models, 2 * n_measures)
            Its columns are pairs of a measure, and "mean" or "std".
        """
        import pandas as pd

        columns = {}
        for measure, values in self.scores.items():
            columns[measure, "mean"], columns[measure, "std"] = values.mean(axis=1), values.std(axis=1)
        return pd.DataFrame(columns, index=self.models)

    def __str__(self) -> str:
        cells = [["", *(MEASURES[measure][0] for measure in self.scores)]]
        for i, name in enumerate(self.models):
            row = [name]
            for measure, values in self.scores.items():
                digits = MEASURES[measure][1]
                known = np.isfinite(values[i]).all()
                row.append(f"{values[i].mean():.{digits}f} ± {values[i].std():.{digits}f}" if known else "")
            cells.append(row)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)
        return "\n".join(line.rstrip() for line in lines)


def compare(
    X: ArrayLike,
    models: Mapping[str, Any] | Sequence[Any],
    y: ArrayLike | None = None,
    *,
    cv: Any = None,
    groups: ArrayLike | None = None,
    predictor: Any = None,
    n_jobs: int | None = None,
) -> Comparison:
    """Compare how well models describe rows that they were not fitted to.

    Each is fitted to the training rows of each split, and the rows held out give

    - *nats*: the mean of the model's `score_samples`, in the units of X; not of a Pipeline of several steps, whose
      density is that of what the steps before give, nor of a search over one;
    - *r2*: 1 - the sum of squares of x less `inverse_transform` of `transform` / that of x less the mean of the
      training rows, over all measured values;
    - *downstream*: with y, how well a linear model predicts it from the components, fitted to those of the training
      rows: R2, or the accuracy for classes. A model that takes y in `fit`, such as PLS, gets it;
    - *seconds* of `fit`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    models : dict of str to estimator, or sequence of estimators
        Transformers, which are cloned. Those of a sequence are named by their classes.
    y : array-like of shape (n_samples,) or None, default=None
        A target: floats to regress on, NaN where the target is not known, or classes.
    cv : int, cross-validation generator, iterable or None, default=None
        As in `sklearn.model_selection.cross_validate`: None is five folds, of whole groups where `groups` is given. All
        models have the same splits.
    groups : array-like of shape (n_samples,) or None, default=None
        The group of each row, for `cv`, and for models whose `fit` takes groups.
    predictor : estimator or None, default=None
        What predicts y. None: RidgeCV where y has floats, else LogisticRegression, each of standardised components.
    n_jobs : int or None, default=None
        Number of jobs over models and splits.

    Returns
    -------
    comparison : Comparison
        ``print`` shows its table, and `skvae.displays.ComparisonDisplay` draws it.

    Raises
    ------
    TypeError
        If a model is no transformer, or is a class.
    ValueError
        If there are no models or two have the same name, or if y has other dimensions or is known for no training row
        or no held-out row of a split. What a model raises is passed on.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from skvae import VAETransformer, compare
    >>> X, y = load_iris(return_X_y=True)
    >>> comparison = compare(X, [PCA(2), VAETransformer(2, max_iter=2, random_state=0)], y.astype(str), cv=2)
    >>> comparison.models
    ['PCA', 'VAETransformer']
    >>> comparison.scores["r2"].shape
    (2, 2)
    """
    named = by_name(models)
    target = None if y is None else checked_target(y)
    if target is not None and predictor is None:
        predictor = default_predictor(target)
    cv = GroupKFold() if cv is None and groups is not None else cv
    is_classification = target is not None and target.dtype.kind != "f"
    splits = list(check_cv(cv, target, classifier=is_classification).split(X, target, groups))
    tasks = [(model, train, test) for model in named.values() for train, test in splits]
    rows = Parallel(n_jobs=n_jobs)(delayed(held_out_scores)(X, target, groups, predictor, *task) for task in tasks)
    measures = [measure for measure in MEASURES if measure in rows[0]]
    shape = len(named), len(splits)
    return Comparison(list(named), {name: np.array([row[name] for row in rows]).reshape(shape) for name in measures})


def checked_target(y):
    """A target as an array (n,), which may have NaN."""
    y = column_or_1d(y)
    if y.dtype.kind == "f":
        check_array(y, ensure_2d=False, ensure_all_finite="allow-nan", input_name="y")
    return y


def by_name(models):
    """The models as a dict, by the names of their classes where they have no others."""
    if isinstance(models, str) or hasattr(models, "fit"):
        raise TypeError(f"models must be a dict of estimators by name, or a list of estimators, not {models!r:.100}.")
    every = list(models.values() if isinstance(models, Mapping) else models)
    for model in every:
        if isinstance(model, type) or not (hasattr(model, "fit") and hasattr(model, "transform")):
            raise TypeError(f"models must be transformers: instances with fit and transform, not {model!r:.100}.")
    if not every:
        raise ValueError("models is empty.")
    if isinstance(models, Mapping):
        return models
    named = {type(model).__name__: model for model in every}
    if len(named) < len(every):
        raise ValueError("models has several of the same class: pass a dict, with a name for each.")
    return named


def default_predictor(y):
    """A linear model of standardised components for floats or classes y."""
    is_regression = y.dtype.kind == "f"
    return make_pipeline(
        StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)) if is_regression else LogisticRegression(max_iter=1000)
    )


def held_out_scores(X, y, groups, predictor, model, train, test):
    """A dict with the measures of one model on one split."""
    model, X_train, X_test = clone(model), safe_indexing(X, train), safe_indexing(X, test)
    given = {} if groups is None else groups_for(model, safe_indexing(groups, train))
    begin = time.perf_counter()
    model.fit(X_train, None if y is None else y[train], **given)
    seconds = time.perf_counter() - begin
    Z, steps = model.transform(X_test), fitted_steps(model)
    scores = {"nats": mean_nats(steps, X_test), "r2": r2(steps, X_train, X_test, Z)}
    if y is not None:
        components = to_numpy(np.asarray(model.transform(X_train))), np.asarray(Z)
        known = [np.ones(len(part), bool) if y.dtype.kind != "f" else ~np.isnan(y[part]) for part in (train, test)]
        if not (known[0].any() and known[1].any()):
            raise ValueError(
                "y is NaN in all training rows, or in all held-out rows, of a split: pass a cv with other splits."
            )
        fitted = clone(predictor).fit(components[0][known[0]], y[train][known[0]])
        scores["downstream"] = fitted.score(components[1][known[1]], y[test][known[1]])
    return {**scores, "seconds": seconds}


def groups_for(model, groups):
    """The groups as an argument for the `fit` of a model, or of a Pipeline's last step; {} if it takes none."""
    last, prefix = (model, "") if not isinstance(model, Pipeline) else (model[-1], f"{model.steps[-1][0]}__")
    return {f"{prefix}groups": groups} if has_fit_parameter(last, "groups") else {}


def mean_nats(steps, X):
    """The mean log-density of rows, or NaN if a model of these steps has none in X's units."""
    has_density = len(steps) == 1 and hasattr(steps[0], "score_samples")
    return float(np.mean(steps[0].score_samples(X))) if has_density else np.nan


def r2(steps, X_train, X, Z):
    """R2 of rows X as they come back from their components Z, or NaN if they do not."""
    if not all(map(can_be_undone, steps)):
        return np.nan
    try:
        back = reduce(lambda rows, step: undone(step, rows), reversed(steps), Z)
    except AttributeError:  # of KernelPCA, which has an inverse only if it was fitted, too
        return np.nan
    options = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "input_name": "X"}
    train, test = (check_array(to_supported_table(rows), **options) for rows in (X_train, X))
    total = np.nansum(np.square(test - np.nanmean(train, axis=0)))
    return float(1 - np.nansum(np.square(test - back)) / total)
