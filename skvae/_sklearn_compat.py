"""What the package takes of scikit-learn that is not public, or not in all of its versions."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import _convert_to_numpy, get_namespace, get_namespace_and_device
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions, validate_parameter_constraints
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config
from sklearn.utils.validation import _check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin  # from 1.9 on
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Before 1.9, estimators have no `set_callbacks`."""


try:
    from sklearn.utils._array_api import check_same_namespace  # from 1.8 on
except ImportError:

    def check_same_namespace(X: Any, estimator: Any, *, attribute: str, method: str) -> None:
        """Before 1.8, there is nothing to check."""


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "_check_sample_weight",
    "array_library",
    "array_to_numpy",
    "check_same_namespace",
    "has_callbacks",
    "in_output_container",
    "open_callback_context",
    "safe_indexing",
    "validate_parameter",
    "validate_parameters",
    "validates_parameters",
]

Method = TypeVar("Method", bound=Callable[..., Any])
# Decorates the methods that fit: they check the estimator's parameters first.
validates_parameters: Callable[[Method], Method] = _fit_context(prefer_skip_nested_validation=True)


def array_library(array):
    """The array API namespace of an array and its device where `array_api_dispatch` is on, else numpy's."""
    library, _, device = get_namespace_and_device(array)
    return library, device


def array_to_numpy(array):
    """An array of any library as an ndarray."""
    return array if isinstance(array, np.ndarray) else _convert_to_numpy(array, get_namespace(array)[0])


def validate_parameters(estimator, params):
    """Raise ValueError or TypeError unless parameters of the estimator meet its constraints."""
    validate_parameter_constraints(estimator._parameter_constraints, params, caller_name=type(estimator).__name__)


def in_output_container(estimator, array, columns, original):
    """The array (n, p) as the frame that `set_output` asks of the estimator, or as it is.

    Parameters
    ----------
    estimator : estimator
    array : array of shape (n, p)
    columns : callable
        The kind of container, such as "pandas" -> labels of the columns.
    original : array-like of shape (n, any)
        Of which pandas takes the index.
    """
    container = _get_output_config("transform", estimator)["dense"]
    if container == "default":
        return array
    return ADAPTERS_MANAGER.adapters[container].create_container(array, original, columns=columns(container))


def has_callbacks(estimator):
    """Whether `set_callbacks` gave the estimator callbacks, from scikit-learn 1.9 on."""
    return hasattr(estimator, "_skl_callbacks")


def open_callback_context(estimator, max_subtasks):
    """The context by which the estimator's callbacks are told of a fit with so many subtasks."""
    return estimator._init_callback_context(max_subtasks=max_subtasks)


def validate_parameter(estimator, name):
    """Raise ValueError unless one of the estimator's parameters meets its constraint."""
    validate_parameters(estimator, {name: getattr(estimator, name)})
