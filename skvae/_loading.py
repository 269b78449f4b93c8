"""An estimator from a file that somebody else may have written."""

import os
from types import SimpleNamespace
from typing import Any

import torch

from ._inspection import noise_variance
from ._monitoring import Monitor
from ._parameters import resolve_device
from ._persistence import blank_net, check_fitted, give_tensors
from ._state import check_like, restore, zeros
from ._tensor_file import Custom, read, reason
from ._training import module_of
from ._transformer import VAETransformer

SHAPING = ("posterior", "likelihood", "encoder", "decoder", "activation")  # parameters that may be code with shapes
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
    check_fitted(net, fitted)
    restore(net, fitted["net_"])
    vae = estimator(**parameters)
    given = {
        "net_": net,
        "device_": net.device,
        "_fitted_with": fitted_with,
        "_monitor": Monitor.of(*fitted["_monitor"]),
    }
    fitted.update(given, noise_variance_=noise_variance(net.module_))
    give_tensors(fitted)
    vars(vae).update(fitted)
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
        {name: zeros(str(t.dtype)[6:], *t.shape) for name, t in module.state_dict().items()},
        "net.module",
    )
