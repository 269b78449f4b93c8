"""An estimator from a file that somebody else may have written."""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ._inspection import noise_variance
from ._monitoring import Monitor
from ._parameters import resolve_device
from ._persistence import KEPT, blank_net
from ._state import check_history, check_like, check_state, restore
from ._tensor_file import Custom, read, reason
from ._training import module_of
from ._transformer import VAETransformer

SHAPING = ("posterior", "likelihood", "encoder", "decoder", "activation")  # parameters that may be code with shapes
OF_COMPONENTS = ("explained_variance_", "explained_variance_ratio_", "kl_per_component_")
COUNTS = ("n_features_in_", "n_components_", "n_active_components_", "n_iter_", "best_iter_", "_seed")
OPTIONAL = {"feature_names_in_", "_sklearn_output_config"}
REFUSED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def load(
    path: str | os.PathLike[str],
    device: str = "auto",
    *,
    estimator: type[VAETransformer] = VAETransformer,
    **custom: Any,
) -> VAETransformer:
    """Return the fitted estimator that `VAETransformer.save` wrote to a file.

    Nothing that the file says is run: it holds arrays, numbers and strings, and is refused unless they fit together.

    Parameters
    ----------
    path : str or path-like
    device : str, default="auto"
        Where the model shall be, whatever it was fitted on: the estimator's parameter of this name.
    estimator : class, default=VAETransformer
        Of the estimator, where it was a subclass.
    **custom : dict
        The parameters that were objects, such as ``posterior=MyPosterior``: a file holds no code.

    Returns
    -------
    estimator : VAETransformer

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is something else than such a file, is damaged or of a later format; if it needs a parameter that is not
        given; if one is given that it does not need.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> import skvae
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = skvae.VAETransformer(n_components=3, max_iter=2, random_state=0).fit(X)
    >>> path = os.path.join(tempfile.mkdtemp(), "digits.safetensors")
    >>> vae.save(path)
    >>> bool((skvae.load(path).transform(X) == vae.transform(X)).all())
    True
    """
    content = read(path)
    try:
        return _estimator(content, device, estimator, custom)
    except REFUSED as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {reason(error)}") from error


def _estimator(content, device, estimator, custom):
    if content["estimator"] != estimator.__name__:
        raise ValueError(f"it holds an estimator of the class {content['estimator']}; pass estimator=, that class.")
    fitted = content["fitted"]
    fitted["_fitted_with"] = {**content["parameters"], **fitted["_fitted_with"]}
    parameters, fitted_with = _with_custom(content["parameters"], fitted["_fitted_with"], custom=custom)
    for params in (parameters, fitted_with):
        vae = estimator(**params)  # of an older skvae: what is new has its default
        vae._validate_params()
        params.update(vae.get_params(deep=False))
    parameters["device"] = fitted_with["device"] = device
    if not any(name in custom for name in SHAPING):
        _check_shapes(fitted_with, fitted)
    net = blank_net({**fitted_with, "device": resolve_device(device)}, fitted)
    check_state(net, fitted["net_"])
    _check_attributes(fitted, len(net.module_.shift), net.module_.n_components)
    restore(net, fitted["net_"])
    vae = estimator(**parameters)
    given = {
        "net_": net,
        "device_": net.device,
        "_fitted_with": fitted_with,
        "_monitor": Monitor.of(fitted["_monitor"]),
    }
    vars(vae).update({**fitted, **given, "noise_variance_": noise_variance(net.module_)})
    return vae


def _with_custom(*dicts, custom):
    """The parameters with those that the file cannot hold."""
    needed = {
        name: value.description for params in dicts for name, value in params.items() if isinstance(value, Custom)
    }
    missing, unneeded = sorted(set(needed) - set(custom)), sorted(set(custom) - set(needed))
    if missing:
        raise ValueError(f"pass {', '.join(f'{name}=, which was {needed[name]}' for name in missing)}.")
    if unneeded:
        raise ValueError(f"{', '.join(unneeded)} is in it and not to be passed; set_params changes it afterwards.")
    return [
        {name: custom[name] if isinstance(value, Custom) else value for name, value in params.items()}
        for params in dicts
    ]


def _check_shapes(params, fitted):
    """Raise ValueError unless the arrays are what these parameters make, before memory is taken for that."""
    state = fitted["net_"]
    if len(params["hidden_layer_sizes"]) > len(state["module"]):
        raise ValueError("hidden_layer_sizes are more than there are arrays.")
    with torch.device("meta"):
        module = module_of(SimpleNamespace(**params), state["column_mean"], state["column_scale"], seed=0)()
    check_like(
        state["module"],
        {name: _zeros(str(t.dtype)[6:], *t.shape) for name, t in module.state_dict().items()},
        "net.module",
    )


def _check_attributes(fitted, p, d):
    """Raise ValueError unless the attributes are those of a model of d components of p features."""
    unlike = set(fitted) ^ set(KEPT)
    if unlike - OPTIONAL:
        raise ValueError(f"attributes are missing or unknown: {', '.join(sorted(unlike))}.")
    of_X = np.float32 if fitted["mean_"].dtype == np.float32 else np.float64
    like = {
        **dict.fromkeys(OF_COMPONENTS, _zeros(np.float64, d)),
        "mean_": _zeros(of_X, p),
        "components_": _zeros(of_X, d, p),
        "_monitor": [0.0, _zeros(np.float64, d), _zeros(np.float64, d, d), 0.0, 0.0],
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
    check_history(fitted["history_"])


def _zeros(dtype, *shape):
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)
