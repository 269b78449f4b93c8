"""The table of `VAETransformer`'s parameters: what each may be, and what it decides."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, make_dataclass
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal, Protocol

import numpy as np
from torch import nn

from ._data.devices import resolve_device
from ._sklearn_compat import HasMethods, Interval, RealNotInt, StrOptions
from .likelihoods import LIKELIHOODS, Likelihood
from .networks import ACTIVATIONS, NETWORKS, PRECISIONS
from .objectives import OBJECTIVES, Objective
from .posteriors import POSTERIORS, Posterior

# What options may be, for type checkers. Names are any strings, as the tables are open to more.
PosteriorOption = str | type[Posterior]
LikelihoodOption = str | type[Likelihood]
ObjectiveOption = str | Callable[..., Objective]
NetworkOption = str | Callable[[int, int], nn.Module]
ActivationOption = str | Callable[[], nn.Module]


class Splitter(Protocol):
    """What scikit-learn's splitters have."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterable[tuple[Any, Any]]: ...


def at_least(minimum, kind=Integral):
    return Interval(kind, minimum, None, closed="left")


def is_name(option):
    return isinstance(option, str)


def is_default(*values):
    """Whether an option is one of these values."""
    return lambda option: any(option is value or (type(option) is type(value) and option == value) for value in values)


def is_anything(option):
    return True


@dataclass(frozen=True)
class Parameter:
    """What the package knows of one parameter of `VAETransformer`.

    Parameters
    ----------
    constraint : list
        What it may be, as scikit-learn's parameter validation has it.
    decides : {"architecture", "objective", "optimisation", "scoring", "machine"}
        What it decides. The architecture's parameters are arguments of `build_vae`.
    net : str or None, default=None
        The parameter of `VAENet` that takes its value.
    shapes_the_fit : bool, default=True
        Whether the fitted weights depend on it.
    stacks : callable or "each", default=is_anything
        Whether models with this value can be trained as one stacked model, if the value is the same for all of them.
        "each": it may also differ between them.
    """

    constraint: list[Any]
    decides: Literal["architecture", "objective", "optimisation", "scoring", "machine"]
    net: str | None = None
    shapes_the_fit: bool = True
    stacks: Callable[[Any], bool] | Literal["each"] = is_anything


PARAMETERS = {
    "n_components": Parameter(
        [at_least(1), Interval(RealNotInt, 0, 1, closed="neither"), StrOptions({"auto"}), None], "architecture"
    ),
    "posterior": Parameter([StrOptions(set(POSTERIORS)), callable], "architecture", stacks=is_name),
    "likelihood": Parameter([StrOptions(set(LIKELIHOODS)), callable], "architecture", stacks=is_name),
    "objective": Parameter([StrOptions(set(OBJECTIVES)), callable], "objective", stacks=is_default("elbo", "iwae")),
    "beta": Parameter([at_least(0, Real)], "objective", stacks="each"),
    "kl_warmup": Parameter([at_least(0)], "objective", net="kl_warmup", stacks="each"),
    "free_bits": Parameter([at_least(0, Real)], "objective", stacks=lambda nats: not nats),
    "n_draws": Parameter([at_least(1)], "objective", net="n_draws"),
    "encoder": Parameter([StrOptions(set(NETWORKS)), callable], "architecture", stacks=is_name),
    "decoder": Parameter([StrOptions(set(NETWORKS)), callable], "architecture", stacks=is_name),
    "input_shape": Parameter(["array-like", None], "architecture"),
    "hidden_layer_sizes": Parameter(["array-like", at_least(1)], "architecture"),
    "activation": Parameter([StrOptions(set(ACTIVATIONS)), callable], "architecture", stacks=is_name),
    "init": Parameter([StrOptions({"linear", "random"})], "architecture"),
    "learning_rate_init": Parameter(
        [Interval(Real, 0, None, closed="neither")], "optimisation", net="lr", stacks="each"
    ),
    "weight_decay": Parameter([at_least(0, Real), StrOptions({"auto"})], "optimisation", stacks="each"),
    "batch_size": Parameter([at_least(1), StrOptions({"auto"})], "optimisation"),
    "max_iter": Parameter([at_least(0)], "optimisation", net="max_epochs", stacks="each"),
    "early_stopping": Parameter(["boolean"], "optimisation", net="early_stopping", stacks="each"),
    "validation_fraction": Parameter(
        [Interval(Real, 0, 1, closed="neither"), HasMethods(["split"]), None], "optimisation", stacks="each"
    ),
    "n_iter_no_change": Parameter([at_least(1)], "optimisation", net="n_iter_no_change", stacks="each"),
    "tol": Parameter([at_least(0, Real)], "optimisation", net="tol", stacks="each"),
    "refit": Parameter(["boolean", StrOptions({"auto"})], "optimisation", stacks="each"),
    "n_importance_samples": Parameter([at_least(1)], "scoring", shapes_the_fit=False, stacks="each"),
    "device": Parameter([str], "machine", shapes_the_fit=False),
    "precision": Parameter(
        [StrOptions(set(PRECISIONS))], "architecture", net="precision", stacks=is_default("float32")
    ),
    "compile": Parameter(["boolean"], "machine", net="compile_step", stacks=lambda compiled: not compiled),
    "distributed": Parameter(["boolean"], "machine", shapes_the_fit=False, stacks=lambda distributed: not distributed),
    "callbacks": Parameter([list, None], "optimisation", net="callbacks", stacks=is_default(None)),
    "net_params": Parameter([dict, None], "optimisation", stacks=is_default(None)),
    "warm_start": Parameter(["boolean"], "optimisation", stacks=lambda warm: not warm),
    "checkpoint": Parameter([str, PathLike, None], "machine", shapes_the_fit=False, stacks=is_default(None)),
    "checkpoint_every": Parameter([at_least(1)], "machine", shapes_the_fit=False, stacks="each"),
    "random_state": Parameter(["random_state"], "optimisation", stacks="each"),
    "verbose": Parameter(["verbose"], "machine", shapes_the_fit=False, stacks="each"),
}

CONSTRAINTS = {name: parameter.constraint for name, parameter in PARAMETERS.items()}
ARCHITECTURE = [name for name, parameter in PARAMETERS.items() if parameter.decides == "architecture"]
NET = {parameter.net: name for name, parameter in PARAMETERS.items() if parameter.net is not None}
# Architecture that may be code of the user's, whose shapes nobody knows before it runs.
ARCHITECTURE_CODE = [name for name in ARCHITECTURE if callable in PARAMETERS[name].constraint]

# What `net_params` may hold: parameters of `VAENet`, and prefixes of such. None: it works. Else what does its work.
NET_PARAMS = {
    **dict.fromkeys(("optimizer", "lr", "lr_scheduler", "verbose", "use_caching", "torch_load_kwargs")),
    **{parameter: name for parameter, name in NET.items() if parameter != "lr"},
    "module": "encoder and decoder",
    "criterion": "objective",
    "batch_size": "batch_size",
    "iterator_train": "batch_size",
    "iterator_valid": "batch_size",
    "dataset": "X, of which a mapped file is streamed",
    "train_split": "early_stopping and validation_fraction",
    "predict_nonlinearity": "likelihood",
    "warm_start": "warm_start",
    "history": "warm_start",
    "device": "device",
    "compile": "compile",
    "seed": "random_state",
    "accelerator": "distributed",
}

# skorch's own callbacks, by name. None: it works. Else what does its work. Refused is what reads what training does not
# record (the validation loss of every epoch, batches), moves weights or learning rates that training moves itself, or
# takes the first phase of a fit for the whole.
SKORCH_CALLBACKS = {
    **dict.fromkeys(("Callback", "EpochTimer", "GradientNormClipping", "PrintLog", "TensorBoard")),
    "EarlyStopping": "early_stopping=True, with n_iter_no_change and tol",
    "Checkpoint": "checkpoint, a file from which a fit that was cut off goes on, and save after the fit",
    "TrainEndCheckpoint": "save after the fit",
    "LoadInitState": "checkpoint, or skvae.load and warm_start=True",
    **dict.fromkeys(
        ("LRScheduler", "WarmRestartLR"), "net_params={'lr_scheduler': function}, of the share of steps that are done"
    ),
    "ProgressBar": "verbose=1",
    **dict.fromkeys(
        ("BatchScoring", "EpochScoring"),
        "set_callbacks(ScoringMonitor(...)), scikit-learn's (from 1.9 on), which scores the estimator of each epoch",
    ),
    "PassthroughScoring": "history_, which has the means of each epoch",
    "Freezer": "encoder and decoder, with networks of your own in which what stays has requires_grad=False",
    "Initializer": "init, or encoder and decoder, with networks of your own, which initialise themselves",
    "InputShapeSetter": "encoder and decoder, which are called with the numbers of inputs and outputs",
    **dict.fromkeys(("ParamMapper", "Unfreezer"), "a Callback of your own, with on_epoch_begin"),
    **dict.fromkeys(
        ("MlflowLogger", "NeptuneLogger", "SacredLogger", "WandbLogger"),
        "a Callback of your own, whose on_epoch_end logs net.history[-1]",
    ),
}

# The parameters of one fit: a copy whose fields nobody can set anew, and which no later change of a list reaches.
FitParameters = make_dataclass("FitParameters", [(name, Any) for name in PARAMETERS], frozen=True)


def frozen(value):
    """A value whose later changes do not reach what is returned: sequences become tuples, dicts are copied.

    Numbers of numpy's become Python's.
    """
    if getattr(value, "ndim", 0) and hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, np.generic):  # such as a number of np.arange, which files do not hold
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    return dict(value) if type(value) is dict else value


def parameters_of(estimator):
    """The estimator's parameters by name: all of the table, whatever a subclass's `__init__` takes, and its own."""
    return {**estimator.get_params(deep=False), **{name: getattr(estimator, name) for name in PARAMETERS}}


def frozen_parameters(values):
    """`FitParameters` of values by name. A single hidden layer may be given by its size, as to scikit-learn's MLPs."""
    values = {name: frozen(values[name]) for name in PARAMETERS}
    if isinstance(values["hidden_layer_sizes"], Integral):
        values["hidden_layer_sizes"] = (values["hidden_layer_sizes"],)
    return FitParameters(**values)


def fit_parameters(estimator):
    """The estimator's `FitParameters`."""
    return frozen_parameters(parameters_of(estimator))


def can_be_stacked(params):
    """Whether a fit with these parameters can be one of a stacked model."""
    if not isinstance(params.random_state, Integral) or not params.max_iter:
        return False
    values = ((parameter.stacks, getattr(params, name)) for name, parameter in PARAMETERS.items())
    return all(stacks == "each" or stacks(value) for stacks, value in values)


def check_parameters(params, n_rows):
    """Raise ValueError or TypeError where parameters are wrong in ways that their constraints cannot say."""
    for name, base in (("posterior", Posterior), ("likelihood", Likelihood)):
        option = getattr(params, name)
        if not isinstance(option, str) and (not hasattr(option, "n_raw") or isinstance(option, base)):
            raise TypeError(
                f"{name} must be a name or a class that has what {base.__module__}.{base.__name__} has, not {option!r}."
            )
    if not isinstance(params.objective, str):
        try:
            params.objective(beta=params.beta, free_bits=params.free_bits).rows  # noqa: B018
        except (AttributeError, TypeError) as error:
            raise TypeError(
                "objective must be a name, or a class or another callable that takes beta and free_bits and returns an "
                f"Objective (other settings go in by functools.partial), not {params.objective!r}: {error}"
            ) from error
    sizes: Sequence[Any] = params.hidden_layer_sizes
    if any(not isinstance(size, Integral) or size < 1 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be integers of at least 1, not {sizes!r}.")
    check_net_params(params.net_params or {})
    check_callbacks(params.callbacks or ())
    fraction = params.validation_fraction
    if isinstance(fraction, Real) and params.max_iter and np.ceil(fraction * n_rows) >= n_rows:
        raise ValueError(f"validation_fraction={fraction} leaves none of the {n_rows} rows of X to train on.")
    resolve_device(params.device)


def check_net_params(net_params):
    """Raise ValueError where `net_params` has a parameter that training does not heed."""
    for name in net_params:
        root = name.partition("__")[0]
        if root not in NET_PARAMS:
            raise ValueError(f"net_params has {name!r}, which is no parameter of skorch.NeuralNet.")
        if NET_PARAMS[root] is not None:
            raise ValueError(f"net_params cannot have {name!r}: pass {NET_PARAMS[root]} to VAETransformer.")


def check_callbacks(callbacks):
    """Raise ValueError or TypeError where one of `callbacks` does not do its work here. Subclasses are trusted."""
    for item in callbacks:
        callback = item[-1] if isinstance(item, tuple) else item  # or a pair of a name and a callback
        kind = callback if isinstance(callback, type) else type(callback)
        instead = SKORCH_CALLBACKS.get(kind.__name__) if kind.__module__.startswith("skorch.") else None
        if instead is not None:
            raise ValueError(f"callbacks cannot have skorch's {kind.__name__}: use {instead}.")
        if callback is not None and not hasattr(kind, "on_train_begin"):
            raise TypeError(
                f"callbacks has {callback!r}, which is no callback of skorch's. Scikit-learn's go into set_callbacks."
            )
