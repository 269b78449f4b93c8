"""A fitted estimator as arrays and plain values, for pickle, copy, joblib and skops, and for a file."""

import os
import warnings
from dataclasses import asdict, replace

import numpy as np
import torch

from .._data.arrays import to_numpy
from .._data.devices import available_device, names_device
from .._inference.control_limits import ScoreStatistics
from .._linear.moments import Moments
from .._parameters import frozen, frozen_parameters, parameters_of
from .._sklearn_compat import validate_parameters
from .._training.fit import net_from_state
from .._training.processes import is_main_process
from .._training.report import Report
from .state import check_history, check_matches, check_state, outlined, state_of, zeros
from .tensor_file import Custom, describe, is_plain, write
from .version import __version__

# Attributes of a fitted estimator that a file holds besides its parameters. Score statistics are "_monitor" there.
FILE_FIELDS = (
    *("net_", "_seed", "_fitted_with", "_monitor", "n_features_in_", "feature_names_in_", "n_components_", "mean_"),
    *("components_", "explained_variance_", "explained_variance_ratio_", "kl_per_component_", "n_active_components_"),
    *("history_", "n_iter_", "best_iter_", "_sklearn_output_config", "_tensors_on", "_report", "_moments"),
    *("wavelengths_", "n_components_scores_"),
)
LABELS = ("feature_names_in_", "wavelengths_")
OPTIONAL_FIELDS = {*LABELS, "n_components_scores_", "_sklearn_output_config", "_tensors_on", "_report", "_moments"}
# Attributes that `load` derives from the rest.
DERIVED_FIELDS = ("_version", "device_", "noise_variance_")
OF_COMPONENTS = ("explained_variance_", "explained_variance_ratio_", "kl_per_component_")
ARRAYS = ("mean_", "components_", "noise_variance_", *OF_COMPONENTS)
COUNTS = ("n_features_in_", "n_components_", "n_active_components_", "n_iter_", "best_iter_", "_seed")
# Attributes that a fit or a call makes for its own use.
TEMPORARY = ("_predictors", "_trained_fit")


def plain_state(attributes):
    """The attributes of a fitted estimator, with plain values in place of objects of torch and of this package."""
    state = {name: value for name, value in attributes.items() if name not in TEMPORARY}
    state.update(net_=state_of(state["net_"]), _monitor=state.pop("_score_statistics").state)
    moments = state.pop("_moments")
    if moments is not None:
        state["_moments"] = [value for value in vars(moments).values() if value is not None]
    if isinstance(state["mean_"], torch.Tensor):
        state["_tensors_on"] = str(state["mean_"].device)
    state.update({name: to_numpy(state[name]) for name in ARRAYS if hasattr(state[name], "shape")})
    return state


def restored_attributes(state):
    """The attributes whose `plain_state` is `state`, on the device that they were on if this machine has it."""
    state = dict(state)
    params = parameters_of_file(state["_fitted_with"], available_device(state["device_"]))
    net = net_from_state(params, state["net_"], state["_seed"])
    state.update(net_=net, device_=net.device, **restored_sums(state))
    return with_tensors(state)


def restored_sums(state):
    """The attributes that are sums over training rows, which are taken out of the state."""
    moments = state.pop("_moments", None)
    return {
        "_score_statistics": ScoreStatistics.from_state(*state.pop("_monitor")),
        "_moments": None if moments is None else Moments(*moments),
    }


def with_tensors(state):
    """The state with tensors for arrays if the fit was to tensors, on their device if this machine has it."""
    device = state.pop("_tensors_on", None)
    if device is None:
        return state
    arrays = {name: torch.from_numpy(state[name]) for name in ARRAYS if isinstance(state[name], np.ndarray)}
    return {**state, **{name: array.to(available_device(device)) for name, array in arrays.items()}}


def parameters_of_file(fitted_with, device):
    """`FitParameters` for a net on a device that belongs to this process alone."""
    return replace(frozen_parameters(fitted_with), device=device, distributed=False)


def migrate(content, file_format):
    """Change a file's content, in place, to what the present format has for it."""
    if file_format < 2:
        for parameters in (content["parameters"], content["fitted"]["_fitted_with"]):
            if parameters.get("likelihood") == "gaussian":
                parameters["likelihood"] = "gaussian_diag"


def warn_of_other_version(name, version):
    if version != __version__:
        warnings.warn(
            f"This {name} was pickled by skvae {version} and is read by {__version__}, which may misread it. "
            "Later versions can read what `save` writes.",
            stacklevel=3,
        )


def write_estimator(estimator, path):
    """Write a fitted estimator to a file; see `VAETransformer.save`."""
    state = estimator.__getstate__()
    parameters = parameters_of(estimator)
    unknown = set(state) - set(parameters) - set(FILE_FIELDS) - set(DERIVED_FIELDS)
    own = sorted(name for name in unknown if declares(type(estimator), name))
    if own:
        raise ValueError(
            f"A file of skvae cannot hold the attributes {', '.join(own)}. Delete them before, or pickle the estimator."
        )
    fitted = {name: state[name] for name in FILE_FIELDS if name in state}
    validate_parameters(estimator, parameters)  # so that what is written can be read
    check_fitted(estimator.net_, fitted)
    changed = {name: value for name, value in state["_fitted_with"].items() if not is_same(value, parameters[name])}
    fitted["_fitted_with"] = writable(changed)
    if is_main_process(estimator):
        content = {"estimator": type(estimator).__name__, "parameters": writable(parameters), "fitted": fitted}
        write(path, content)


def is_same(value, parameter):
    """Whether the value that a model was fitted with is still the estimator's parameter."""
    now = frozen(parameter)
    if isinstance(value, dict) and isinstance(now, dict):
        return value.keys() == now.keys() and all(value[key] is now[key] for key in value)
    return value is parameter or (is_plain(value) and is_plain(now) and describe(value) == describe(now))


def declares(estimator_class, name):
    """Whether an unknown attribute belongs to a subclass: it is public, or the subclass's code mentions it.

    Other unknown attributes are scikit-learn's.
    """
    bases = estimator_class.__mro__
    own_bases = [base for base in bases if base.__module__.partition(".")[0] not in ("skvae", "sklearn", "builtins")]
    mentioned: set[str] = set()
    for base in own_bases:
        mentioned.update(vars(base).get("__annotations__", ()))
        for member in vars(base).values():
            mentioned.update(getattr(getattr(member, "__code__", None), "co_names", ()))
    return bool(own_bases) and (not name.startswith("_") or name in mentioned)


def writable(parameters):
    """Parameters as a file holds them: paths as strings, and descriptions of other objects."""
    values = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in parameters.items()}
    return {k: v if is_plain(v) else Custom(describe(v)) for k, v in values.items()}


def check_moments(given, p):
    """Raise ValueError unless this is a list of what `Moments` of p columns are made of."""
    sums, sample = given[:3], given[3:]
    columns, square = zeros(np.float64, p), zeros(np.float64, p, p)
    check_matches(sums, [columns, columns, square if getattr(sums[-1], "ndim", 0) > 1 else columns], "_moments")
    moments = Moments(*sums)
    if not (moments.n.min() > 0 and moments.variance.min() >= 0):
        raise ValueError("_moments are no moments of rows.")
    for rows in sample:  # one, if any, in which values may be missing
        check_matches(rows, zeros(np.float64, np.size(rows) // p, p), "_moments.3", allow_nan=True)


def check_fields(fitted):
    """Raise ValueError unless a file's fitted state has the expected fields, of the right types."""
    if not isinstance(fitted, dict):
        raise ValueError("it has no fitted state.")
    differing = set(fitted) ^ set(FILE_FIELDS)
    if differing - OPTIONAL_FIELDS:
        raise ValueError(f"attributes are missing or unknown: {', '.join(sorted(differing))}.")
    kinds = {
        **dict.fromkeys(("net_", "_fitted_with", "_sklearn_output_config", "_report"), dict),
        **dict.fromkeys(("mean_", "components_", *LABELS, "n_components_scores_", *OF_COMPONENTS), np.ndarray),
        **dict.fromkeys(("_monitor", "_moments", "history_"), list),
        **dict.fromkeys(COUNTS, int),
        "_tensors_on": str,
    }
    for name, value in fitted.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r:.300}.")
    if "_tensors_on" in fitted and not names_device(fitted["_tensors_on"]):
        raise ValueError(f"_tensors_on is {fitted['_tensors_on']!r:.300}.")
    for name in ("column_mean", "column_scale"):
        array = fitted["net_"].get(name)
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != np.float64 or not len(array):
            raise ValueError(f"net_.{name} is {array!r:.300}.")


def check_fitted(net, fitted):
    """Raise ValueError unless a fitted state belongs to an estimator with this net, and is finite."""
    check_fields(fitted)
    check_state(net, fitted["net_"])
    p, d = len(net.module_.shift), net.module_.n_components
    fitted, n_features = of_known_columns(fitted)
    dtype_of_X = np.float32 if fitted["mean_"].dtype == np.float32 else np.float64
    expected = {
        **dict.fromkeys(OF_COMPONENTS, zeros(np.float64, d)),
        "mean_": zeros(dtype_of_X, p),
        "components_": zeros(dtype_of_X, d, p),
        "_monitor": [1.0, 0.0, zeros(np.float64, d), zeros(np.float64, d, d), 0.0, 0.0],
    }
    if "_moments" in fitted:
        check_moments(fitted["_moments"], p)
    if "wavelengths_" in fitted:
        expected["wavelengths_"] = zeros(np.float64, n_features)
    if "n_components_scores_" in fitted:
        expected["n_components_scores_"] = zeros(np.float64, fitted["n_components_scores_"].size)
    for name, value in expected.items():
        check_matches(fitted[name], value, name)
    unit, n_rows, _, squares, *of_q = fitted["_monitor"]
    if unit <= 0 or min(n_rows, *squares.diagonal(), *of_q) < 0:
        raise ValueError("_monitor has a unit, a number of rows or a sum of squares that is too small.")
    for name in COUNTS:
        if fitted[name] < 0:
            raise ValueError(f"{name} is {fitted[name]!r}.")
    if (fitted["n_features_in_"], fitted["n_components_"]) != (n_features, d):
        raise ValueError(f"n_features_in_ and n_components_ are not {n_features} and {d}.")
    names, config = fitted.get("feature_names_in_"), fitted.get("_sklearn_output_config", {})
    if names is not None and names.shape != (n_features,):
        raise ValueError(f"feature_names_in_ has {len(names)} names, not {n_features}.")
    if not all(isinstance(value, str) for value in config.values()):
        raise ValueError(f"set_output was not called with {config!r}.")
    check_history(fitted["history_"])
    if "_report" in fitted:
        check_report(fitted["_report"])


def of_known_columns(fitted):
    """A fitted state without the columns that are NaN in `mean_`, of which the model knows nothing; and of how many."""
    mean, components = fitted["mean_"], fitted["components_"]
    if mean.dtype.kind != "f" or mean.ndim != 1 or components.dtype.kind != "f" or components.ndim != 2:
        raise ValueError(f"mean_ and components_ are {outlined(mean)} and {outlined(components)}.")
    known = ~np.isnan(mean)
    if components.shape[1] != len(known) or not np.isnan(components[:, ~known]).all():
        raise ValueError("mean_ and components_ are not of the same columns.")
    return {**fitted, "mean_": mean[known], "components_": components[:, known]}, len(known)


def check_report(report):
    """Raise ValueError unless this is the `Report` of a fit, as a dict."""
    if set(report) != set(asdict(Report(0))):
        raise ValueError(f"the report of the fit has {', '.join(sorted(report))}.")
    for name, value in report.items():
        if name == "remarks":
            is_right = isinstance(value, list) and all(isinstance(remark, str) for remark in value)
        else:
            is_right = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        if not is_right:
            raise ValueError(f"{name} in the report of the fit is {value!r:.300}.")
