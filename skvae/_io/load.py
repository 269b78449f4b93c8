"""Loading of an estimator from a file that somebody else may have written."""

import inspect
import os
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from .._data.devices import resolve_device
from .._inference.components import noise_variance
from .._parameters import ARCHITECTURE_CODE, PARAMETERS, parameters_of
from .._sklearn_compat import validate_parameters
from .._training.fit import blank_net, module_of
from .._vae import VAETransformer
from .estimator_state import check_fields, check_fitted, migrate, parameters_of_file, restored_sums, with_tensors
from .state import check_matches, restore, zeros
from .tensor_file import Custom, is_plain, read_with_format


def load(
    path: str | os.PathLike[str],
    device: str = "auto",
    *,
    estimator: type[VAETransformer] = VAETransformer,
    **custom: Any,
) -> VAETransformer:
    """Return the fitted estimator that `VAETransformer.save` wrote to a file.

    No code from the file is run: it holds arrays, numbers and strings, and is refused unless they fit together.

    Parameters
    ----------
    path : str or path-like
    device : str, default="auto"
        Device of the model, whatever it was fitted on: it becomes the estimator's parameter `device`.
    estimator : class, default=VAETransformer
        Class of the estimator, if it was a subclass.
    **custom : dict
        The parameters that were classes or other objects, such as ``posterior=MyPosterior``, as a file holds no code.

    Returns
    -------
    estimator : VAETransformer

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file was not written by `save`, is damaged or has a later format; if it needs a parameter that is not
        given; or if a parameter is given that it does not need.

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
    file_format, content = read_with_format(path)
    try:
        _check_content(content)
        migrate(content, file_format)
        return _estimator(content, device, estimator, custom)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {error}") from error


def _estimator(content, device, estimator, custom):
    if content["estimator"] != estimator.__name__:
        raise ValueError(f"it holds an estimator of the class {content['estimator']}; pass that class as estimator=.")
    fitted = content["fitted"]
    fitted["_fitted_with"] = {**content["parameters"], **fitted["_fitted_with"]}
    parameters, fitted_with = _with_custom(content["parameters"], fitted["_fitted_with"], custom=custom)
    for params in (parameters, fitted_with):
        params.update(_checked_parameters(estimator, params))
    parameters["device"] = fitted_with["device"] = device
    _check_shapes(parameters_of_file(fitted_with, device), fitted)
    net = blank_net(parameters_of_file(fitted_with, resolve_device(device)), fitted["net_"], fitted["_seed"])
    check_fitted(net, fitted)
    restore(net, fitted["net_"])
    fitted.update(
        net_=net,
        device_=net.device,
        noise_variance_=noise_variance(net.module_, ~np.isnan(fitted["mean_"])),
        _fitted_with=fitted_with,
        _predictors={},
        **restored_sums(fitted),
    )
    vae = _with_parameters(estimator, parameters)
    vars(vae).update(with_tensors(fitted))
    return vae


def _check_content(content):
    """Raise ValueError unless this is what `save` writes, as far as can be told without the parameters."""
    kinds = {"estimator": str, "parameters": dict, "fitted": dict}
    if not isinstance(content, dict) or set(content) != set(kinds):
        raise ValueError("it holds no estimator.")
    for name, kind in kinds.items():
        if not isinstance(content[name], kind):
            raise ValueError(f"{name} is {content[name]!r:.300}.")
    check_fields(content["fitted"])
    for name, value in (*content["parameters"].items(), *content["fitted"]["_fitted_with"].items()):
        holds_objects = name in PARAMETERS and not {list, dict}.isdisjoint(PARAMETERS[name].constraint)
        if not isinstance(value, Custom) and (value if holds_objects else not is_plain(value)):
            raise ValueError(f"the parameter {name} is {value!r:.300}.")


def _checked_parameters(estimator, params):
    """All parameters of an estimator, checked; those that an older skvae did not know have their defaults."""
    unknown = set(params) - set(PARAMETERS) - set(inspect.signature(estimator).parameters)
    if unknown:
        raise ValueError(f"it has parameters that {estimator.__name__} does not know: {', '.join(sorted(unknown))}.")
    vae = _with_parameters(estimator, params)
    validate_parameters(vae, parameters_of(vae))
    return parameters_of(vae)


def _with_parameters(estimator, params):
    """A new estimator with these parameters, also those of `VAETransformer` that a subclass's `__init__` lacks."""
    taken = inspect.signature(estimator).parameters
    vae = estimator(**{name: value for name, value in params.items() if name in taken})
    vars(vae).update({name: value for name, value in params.items() if name in PARAMETERS})
    return vae


def _with_custom(*dicts, custom):
    """The parameters, with `custom` for those that the file cannot hold."""
    needed = {
        name: value.description for params in dicts for name, value in params.items() if isinstance(value, Custom)
    }
    missing, unneeded = sorted(set(needed) - set(custom)), sorted(set(custom) - set(needed))
    if missing:
        raise ValueError(f"pass {', '.join(f'{name}=, which was {needed[name]}' for name in missing)}.")
    if unneeded:
        raise ValueError(f"{', '.join(unneeded)} is in it and must not be passed; set_params changes it afterwards.")
    return [
        {name: custom[name] if isinstance(value, Custom) else value for name, value in params.items()}
        for params in dicts
    ]


def _check_shapes(params, fitted):
    """Raise ValueError unless the arrays have the shapes that these parameters give, before memory is taken.

    Code of the caller's may need numbers where there are only shapes. Then the sizes are known to be those of arrays of
    the file's size, and shapes are compared when the model is made.
    """
    state = fitted["net_"]
    arrays = state.get("module")
    if not isinstance(arrays, dict) or not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("net.module is not a dict of arrays.")
    n_values = sum(array.size for array in arrays.values())
    has_layers = isinstance(params.encoder, str) or isinstance(params.decoder, str)
    sizes = params.hidden_layer_sizes if has_layers else ()
    if len(sizes) > len(arrays):
        raise ValueError("there are more hidden_layer_sizes than arrays.")
    for size in (params.n_components, *sizes, *(params.input_shape or ())):
        if not isinstance(size, int) or not 1 <= size <= n_values:
            raise ValueError(f"a size is {size!r}, but there are {n_values} values.")
    for n_in, n_out in pairwise(sizes):
        if n_in * n_out > n_values:
            raise ValueError(f"a layer has {n_in} x {n_out} weights, but there are {n_values} values.")
    try:
        with torch.device("meta"):
            module = module_of(params, state["column_mean"], state["column_scale"], seed=0)()
    except Exception:
        if all(isinstance(getattr(params, name), str) for name in ARCHITECTURE_CODE):
            raise
        return
    shapes = {name: zeros(str(t.dtype).removeprefix("torch."), *t.shape) for name, t in module.state_dict().items()}
    check_matches(arrays, shapes, "net.module")
