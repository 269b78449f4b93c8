"""The state from which a net's training goes on, as a tree of arrays and plain values without torch's objects."""

import math
from numbers import Real

import numpy as np
import torch

from .._model.torch_defaults import torch_defaults

PROGRESS = {"best_epoch_": int, "best_score_": float, "diverged_": bool, "interrupted_": bool, "n_taken_": int}
# Arrays of the module that are variances or scales, those of some likelihoods among them.
POSITIVE = ("scale", "fill_noise", "likelihood.channel_variance", "likelihood.least")
WATCHED = ("start", "score", "best_score", "best_epoch", "since_gain")  # attributes of EarlyStopping


def state_of(net, early_stopping=None):
    """The state of a net and, in mid-training, of its `EarlyStopping`.

    Arrays share the net's memory if it is on the CPU.
    """
    optimizer, scaling = net.optimizer_.state_dict(), net.module.keywords
    tensors = {
        "module": dict(net.module_.state_dict()),
        "moments": {str(index): dict(moments) for index, moments in optimizer["state"].items()},
        "generator": net.generator_.get_state(),
        "best": [] if early_stopping is None else early_stopping.best,
    }
    return {
        **map_leaves(torch.Tensor, lambda tensor: tensor.detach().cpu().numpy(), tensors),
        "column_mean": scaling["mean"],
        "column_scale": scaling["scale"],
        "param_groups": optimizer_options(net),
        "device": torch.device(net.device).type,
        "batch_size": net.batch_size,
        "history": [dict(row) for row in net.history],
        "progress": {name: getattr(net, name) for name in PROGRESS if hasattr(net, name)},
        "watched": {} if early_stopping is None else {name: getattr(early_stopping, name) for name in WATCHED},
    }


@torch_defaults()
def restore(net, state, early_stopping=None):
    """Give the state of a net to a new net that was made with the same parameters and scaling."""
    tensors = map_leaves(np.ndarray, torch.tensor, state)
    net.module_.load_state_dict(tensors["module"])
    net.module_.eval()
    moments = {int(index): moments for index, moments in tensors["moments"].items()}
    net.optimizer_.load_state_dict({"state": moments, "param_groups": optimizer_options(net, state)})
    if state["device"] == torch.device(net.device).type:  # a generator of another kind of device starts anew
        net.generator_.set_state(tensors["generator"])
    net.history_ = type(net.history)(dict(row) for row in state["history"])
    vars(net).update(state["progress"])
    if early_stopping is not None:
        vars(early_stopping).update(state["watched"])
        early_stopping.best = [tensor.to(net.own_device) for tensor in tensors["best"]]


def map_leaves(kind, function, tree):
    """A tree of dicts, lists and tuples, with `function` applied to each leaf of the given kind."""
    if isinstance(tree, dict):
        return {key: map_leaves(kind, function, item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map_leaves(kind, function, item) for item in tree)
    return function(tree) if isinstance(tree, kind) else tree


def optimizer_options(net, state=None):
    """The options of each of the optimizer's groups: the net's or, where the state has them, the state's."""
    groups = map_leaves(torch.Tensor, torch.Tensor.item, net.optimizer_.state_dict()["param_groups"])
    groups = [{"initial_lr": group["lr"], **group} for group in groups]
    if state is None:
        return groups
    pairs = zip(groups, state["param_groups"], strict=True)  # another version of torch may have other options
    return [{key: given.get(key, group[key]) for key in group} for group, given in pairs]


@torch_defaults()
def check_state(net, state):
    """Raise ValueError unless `state` can be restored to this net: same shapes and types, finite numbers."""
    expected = state_of(net)
    if not isinstance(state, dict) or set(state) != set(expected):
        raise ValueError(f"net does not have the parts {', '.join(expected)}.")
    for name in ("module", "moments", "progress"):
        if not isinstance(state[name], dict):
            raise ValueError(f"net.{name} is {outlined(state[name])}.")
    for name in ("history", "param_groups"):
        if not isinstance(state[name], list) or not all(isinstance(row, dict) for row in state[name]):
            raise ValueError(f"net.{name} is {outlined(state[name])}.")
    if len(state["param_groups"]) != len(expected["param_groups"]):
        raise ValueError(
            f"net.param_groups has length {len(state['param_groups'])}, not {len(expected['param_groups'])}."
        )
    expected["moments"] = state["moments"]
    if hasattr(net.optimizer_, "moment_shapes"):  # our optimizer; an untrained parameter has no moments
        shapes = net.optimizer_.moment_shapes()
        expected["moments"] = {index: shapes[index] for index in state["moments"] if index in shapes}
    for name in ("column_mean", "column_scale", "module", "moments", "best", "watched"):
        check_matches(state[name], expected[name], f"net.{name}")
    check_matches(optimizer_options(net, state), optimizer_options(net), "net.param_groups")
    if type(state["batch_size"]) is not int or state["batch_size"] < 1:
        raise ValueError(f"net.batch_size is {state['batch_size']!r}.")
    if sorted(state["module"]["order"]) != list(range(net.module_.n_components)):
        raise ValueError("net.module.order is no order of the components.")
    positive = {name: state["module"][name] for name in POSITIVE if name in state["module"]}
    for name, array in {**positive, "column_scale": state["column_scale"]}.items():
        if not array.min() > 0:
            raise ValueError(f"net.{name} is not positive.")
    if any((moments["exp_avg_sq"] < 0).any() for moments in state["moments"].values() if "exp_avg_sq" in moments):
        raise ValueError("net.moments has a mean of squares below 0.")
    for name, value in state["progress"].items():
        if type(value) is not PROGRESS.get(name):
            raise ValueError(f"net.progress.{name} is {value!r}.")
    check_history(state["history"])
    if state["device"] == torch.device(net.device).type:
        try:
            torch.Generator(net.device).set_state(torch.tensor(state["generator"]))
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"net.generator is no generator's state: {error}") from error


def check_history(rows):
    """Raise ValueError unless these are rows of a training history."""
    for row in rows:
        if not isinstance(row, dict) or any(isinstance(value, np.ndarray | dict) for value in row.values()):
            raise ValueError("A history holds something other than numbers, strings and lists.")


def check_matches(given, expected, name, allow_nan=False):
    """Raise ValueError unless `given` has the keys, lengths, shapes and types of `expected`, and finite numbers.

    Strings, booleans and None must also be equal. An array may have NaN if `allow_nan`.
    """
    if isinstance(expected, torch.Tensor):
        expected = expected.detach().cpu().numpy()
    if isinstance(expected, np.ndarray):
        matches = isinstance(given, np.ndarray) and (given.shape, given.dtype) == (expected.shape, expected.dtype)
        if matches and not (np.isfinite(given) | (allow_nan & np.isnan(given))).all():
            raise ValueError(f"{name} has a NaN or an infinity in it.")
    elif isinstance(expected, dict):
        matches = isinstance(given, dict) and set(given) == set(expected)
    elif isinstance(expected, list | tuple):
        matches = isinstance(given, list | tuple) and len(given) == len(expected)
    elif isinstance(expected, Real) and not isinstance(expected, bool):
        matches = isinstance(given, Real) and not isinstance(given, bool) and math.isfinite(given)
    else:
        matches = type(given) is type(expected) and given == expected
    if not matches:
        raise ValueError(f"{name} should be {outlined(expected)}, but is {outlined(given)}.")
    if isinstance(expected, dict):
        for key in expected:
            check_matches(given[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, list | tuple):
        for i, pair in enumerate(zip(given, expected, strict=True)):
            check_matches(*pair, f"{name}.{i}")


def outlined(value):
    """A short description of a value for an error message."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(str, value)) or 'nothing'}"[:300]
    return f"{value!r}"[:300]


def zeros(dtype, *shape):
    """Zeros that take no memory, for `check_matches`."""
    return np.broadcast_to(np.zeros((), dtype), shape)
