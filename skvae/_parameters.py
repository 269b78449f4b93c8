"""What each parameter may be."""

from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ._arrays import array_of
from ._sklearn import Interval, StrOptions, _check_sample_weight, _fit_context
from .likelihoods import LIKELIHOODS, Likelihood
from .networks import ACTIVATIONS, NETWORKS, PRECISIONS
from .objectives import OBJECTIVES, Objective
from .posteriors import POSTERIORS, Posterior

CONSTRAINTS = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "posterior": [StrOptions(set(POSTERIORS)), callable],
    "likelihood": [StrOptions(set(LIKELIHOODS)), callable],
    "objective": [StrOptions(set(OBJECTIVES)), callable],
    "beta": [Interval(Real, 0, None, closed="left")],
    "kl_warmup": [Interval(Integral, 0, None, closed="left")],
    "free_bits": [Interval(Real, 0, None, closed="left")],
    "n_draws": [Interval(Integral, 1, None, closed="left")],
    "encoder": [StrOptions(set(NETWORKS)), callable],
    "decoder": [StrOptions(set(NETWORKS)), callable],
    "input_shape": ["array-like", None],
    "hidden_layer_sizes": ["array-like"],
    "activation": [StrOptions(set(ACTIVATIONS)), callable],
    "init": [StrOptions({"linear", "random"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "refit": ["boolean", StrOptions({"auto"})],
    "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
    "device": [str],
    "precision": [StrOptions(set(PRECISIONS))],
    "compile": ["boolean"],
    "distributed": ["boolean"],
    "callbacks": [list, None],
    "net_params": [dict, None],
    "warm_start": ["boolean"],
    "checkpoint": [str, PathLike, None],
    "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

# The parts for type checkers. Their names are any strings, as the tables are open to more.
PosteriorOption = str | type[Posterior]
LikelihoodOption = str | type[Likelihood]
ObjectiveOption = str | Callable[..., Objective]
NetworkOption = str | Callable[[int, int], nn.Module]
ActivationOption = str | Callable[[], nn.Module]

Method = TypeVar("Method", bound=Callable[..., Any])
validates_parameters: Callable[[Method], Method] = _fit_context(prefer_skip_nested_validation=True)


def resolve_device(device):
    """The torch device that the parameter names; ValueError where this machine lacks it."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device!r} is not available here: {error}") from error
    return device


def device_here(device):
    """That device, or the CPU where this machine lacks it: what was fitted on a GPU loads without one."""
    try:
        return resolve_device(device)
    except ValueError:
        return "cpu"


def check_sample_weight(sample_weight, n_rows):
    """Weights (n_rows,), float64, or None where all are one.

    One that would be lost in the rounding of their sum is 0, so that no row lies farther from the mean than float32
    can tell.

    Raises
    ------
    ValueError
        If there is not one a row, or one is negative or not finite, or the greatest is not from 1e-100 to 1e100.
    """
    if sample_weight is None:
        return None
    if hasattr(sample_weight, "shape"):
        sample_weight = array_of(sample_weight)
    weight = _check_sample_weight(sample_weight, np.empty((n_rows, 0)), dtype=np.float64)
    if not (weight.min() >= 0 and 1e-100 <= weight.max() <= 1e100):
        raise ValueError("sample_weight must be nonnegative, and its greatest from 1e-100 to 1e100.")
    weight = np.where(weight < np.finfo(np.float64).eps * weight.max(), 0.0, weight)
    return None if (weight == 1).all() else weight


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
    sizes = params.hidden_layer_sizes
    if any(not isinstance(size, Integral) or size < 1 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be integers of at least 1, not {sizes!r}.")
    fraction = params.validation_fraction
    if params.early_stopping and params.max_iter and np.ceil(fraction * n_rows) >= n_rows:
        raise ValueError(f"validation_fraction={fraction} leaves none of the {n_rows} rows of X to train on.")
    resolve_device(params.device)
