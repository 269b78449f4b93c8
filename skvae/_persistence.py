"""A fitted estimator as arrays and plain values: for pickle, copy, joblib and skops, and for a file."""

import warnings
from os import PathLike
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ._arrays import array_of
from ._fitting import FittingVAE
from ._monitoring import Monitor
from ._parameters import device_here
from ._processes import writes
from ._state import check_history, check_like, check_state, restore, state_of, zeros
from ._tensor_file import Custom, describe, is_plain, write
from ._training import net_of
from ._version import __version__

# What a file has of a fitted estimator beside its parameters.
KEPT = (
    *("net_", "_seed", "_fitted_with", "_monitor", "n_features_in_", "feature_names_in_", "n_components_", "mean_"),
    *("components_", "explained_variance_", "explained_variance_ratio_", "kl_per_component_", "n_active_components_"),
    *("history_", "n_iter_", "best_iter_", "_sklearn_output_config", "_tensors_on"),
)
OF_COMPONENTS = ("explained_variance_", "explained_variance_ratio_", "kl_per_component_")
ARRAYS = ("mean_", "components_", "noise_variance_", *OF_COMPONENTS)
COUNTS = ("n_features_in_", "n_components_", "n_active_components_", "n_iter_", "best_iter_", "_seed")
OPTIONAL = {"feature_names_in_", "_sklearn_output_config", "_tensors_on"}
# What `load` knows without, and what is no fitted state.
LEFT_OUT = (
    *("_version", "device_", "noise_variance_", "_metadata_request"),
    *("_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_parent_callback_ctx"),
)


class PersistentVAE(FittingVAE):
    """The methods of `VAETransformer` that keep it. Its state has no object of torch's or of ours in it."""

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_version": __version__}
        if "net_" in state:
            state.update(net_=state_of(self.net_), _monitor=self._monitor.state)
            if isinstance(self.mean_, torch.Tensor):
                state["_tensors_on"] = str(self.mean_.device)
            state.update({name: array_of(state[name]) for name in ARRAYS if hasattr(state[name], "shape")})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_version", None)
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was pickled by skvae {version} and is read by {__version__}, which "
                "may take it for something else. What `save` writes is read by later versions.",
                stacklevel=2,
            )
        if "net_" in state:
            there = {**state["_fitted_with"], "device": device_here(state["device_"])}
            net = blank_net(there, state)
            restore(net, state["net_"])
            state.update(net_=net, device_=net.device, _monitor=Monitor.of(*state["_monitor"]))
            give_tensors(state)
        super().__setstate__(state)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to a safetensors file, for `skvae.load`.

        It holds weights, the state of optimizer and generator, attributes, parameters and history, with the versions of
        skvae, torch and scikit-learn, and a checksum. Training goes on from it to the same bits. Of parameters that
        are objects, such as a class of one's own, it holds a description alone. Routing requests are not in it.

        Parameters
        ----------
        path : str or path-like
            Replaced in whole or not at all. Of several processes that trained one model, the first writes it.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If a subclass has attributes of its own, or a number is not finite.
        NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        fitted = self.__getstate__()
        parameters = {name: fitted.pop(name) for name in self.get_params(deep=False)}
        others = set(fitted) - set(KEPT) - set(LEFT_OUT)
        if others:
            raise ValueError(f"A file of skvae's has no place for the attributes {', '.join(sorted(others))}.")
        fitted = {name: fitted[name] for name in KEPT if name in fitted}
        check_fitted(self.net_, fitted)  # what is written can be read
        fitted["_fitted_with"] = held({k: v for k, v in self._fitted_with.items() if v is not parameters[k]})
        if writes(self):
            write(path, {"estimator": type(self).__name__, "parameters": held(parameters), "fitted": fitted})


def give_tensors(state):
    """Make tensors of the attributes of a state that were fitted to tensors, on their device if this machine has it."""
    device = state.pop("_tensors_on", None)
    if device is not None:
        arrays = {name: torch.from_numpy(state[name]) for name in ARRAYS if isinstance(state[name], np.ndarray)}
        state.update({name: array.to(device_here(device)) for name, array in arrays.items()})


def held(parameters):
    """Parameters as a file holds them."""
    return {k: v if is_plain(v) else Custom(describe(v)) for k, v in parameters.items()}


def blank_net(parameters, state):
    """A net made with these parameters and a state's scaling and seed. It is this process's alone."""
    params, net = SimpleNamespace(**{**parameters, "distributed": False}), state["net_"]
    return net_of(params, net["column_mean"], net["column_scale"], net["batch_size"], state["_seed"])


def check_fitted(net, fitted):
    """Raise ValueError unless a state without parameters is that of an estimator with such a net, and finite."""
    check_state(net, fitted["net_"])
    p, d = len(net.module_.shift), net.module_.n_components
    unlike = set(fitted) ^ set(KEPT)
    if unlike - OPTIONAL:
        raise ValueError(f"attributes are missing or unknown: {', '.join(sorted(unlike))}.")
    of_X = np.float32 if fitted["mean_"].dtype == np.float32 else np.float64
    like = {
        **dict.fromkeys(OF_COMPONENTS, zeros(np.float64, d)),
        "mean_": zeros(of_X, p),
        "components_": zeros(of_X, d, p),
        "_monitor": [1.0, 0.0, zeros(np.float64, d), zeros(np.float64, d, d), 0.0, 0.0],
    }
    for name, value in like.items():
        check_like(fitted[name], value, name)
    for name in COUNTS:
        if type(fitted[name]) is not int or fitted[name] < 0:
            raise ValueError(f"{name} is {fitted[name]!r}.")
    if (fitted["n_features_in_"], fitted["n_components_"]) != (p, d):
        raise ValueError(f"n_features_in_ and n_components_ are not {p} and {d}.")
    names, config = fitted.get("feature_names_in_"), fitted.get("_sklearn_output_config", {})
    if names is not None and names.shape != (p,):
        raise ValueError(f"feature_names_in_ are {len(names)}, not {p}.")
    if not all(isinstance(value, str) for value in config.values()):
        raise ValueError(f"set_output was not called with {config!r}.")
    if not isinstance(fitted.get("_tensors_on", ""), str):
        raise ValueError(f"_tensors_on is {fitted['_tensors_on']!r}.")
    check_history(fitted["history_"])
