"""The steps of a fitted model, and rows that come back through them."""

from typing import Any

import numpy as np
from sklearn.decomposition import FactorAnalysis
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from ._base import Floats


def fitted_steps(model: Any) -> list[Any]:
    """The estimators of a fitted model in their order: the steps of a Pipeline, those of the best one of a search."""
    model = getattr(model, "best_estimator_", model)
    if not isinstance(model, Pipeline):
        return [model]
    steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
    return [inner for step in steps for inner in fitted_steps(step)]


def can_be_undone(step: Any) -> bool:
    """Whether `undone` gives the rows that a fitted step had, or what it has kept of them.

    An imputer gives rows in their own units, if it keeps their columns. A function without an inverse has no way back,
    though its `inverse_transform` is there, and does nothing.
    """
    if isinstance(step, FunctionTransformer):
        return step.func is None or step.inverse_func is not None
    if isinstance(step, SimpleImputer | KNNImputer):
        return len(step.get_feature_names_out()) == step.n_features_in_
    return isinstance(step, FactorAnalysis) or hasattr(step, "inverse_transform")


def undone(step: Any, rows: Any) -> Floats:
    """Rows that a step gave, as those that it had: `inverse_transform`, also of factor analysis, which has none."""
    rows = np.asarray(rows)
    if isinstance(step, SimpleImputer | KNNImputer):
        return rows
    if isinstance(step, FactorAnalysis):
        return rows @ step.components_ + step.mean_
    return np.asarray(step.inverse_transform(rows))
