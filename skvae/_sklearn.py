"""What the package takes of scikit-learn that is not public, or not in all of its versions."""

from typing import Any

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._array_api import _convert_to_numpy, get_namespace, get_namespace_and_device
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin  # from 1.9 on
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Before, estimators have no `set_callbacks`."""


try:
    from sklearn.utils._array_api import check_same_namespace  # from 1.8 on
except ImportError:

    def check_same_namespace(X: Any, estimator: Any, *, attribute: str, method: str) -> None:
        """Before, nothing."""


__all__ = [
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "array_library",
    "array_to_numpy",
    "check_same_namespace",
]


def array_library(array):
    """The array API namespace of an array, and its device, where `array_api_dispatch` is on; else numpy's."""
    library, _, device = get_namespace_and_device(array)
    return library, device


def array_to_numpy(array):
    """An array of any library as an ndarray."""
    return array if isinstance(array, np.ndarray) else _convert_to_numpy(array, get_namespace(array)[0])
