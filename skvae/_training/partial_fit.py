"""Training by parts: a pass over the rows of one call, from where the calls before left the model."""

from contextlib import contextmanager

import numpy as np

from .._io.state import map_leaves, restore, state_of
from .._model.torch_defaults import torch_defaults
from .channel_noise import fit_channel_noise, updated_channel_noise
from .fit import new_net, run_net, start_linear
from .parts import Part, known, to_device, with_mean_one


@contextmanager
def unchanged_on_failure(net):
    """Give a net back the state that it has now, if the block raises. None stands for no net."""
    before = None if net is None else map_leaves(np.ndarray, np.copy, state_of(net))
    try:
        yield
    except BaseException:
        if net is not None:
            net.optimizer_.zero_grad()  # a step may have failed between its gradients and its update
            restore(net, before)
        raise


@torch_defaults()
def pass_once(params, data, seed, net=None):
    """Train a net for one pass over the rows at a constant rate; without one, a new net from the rows' start.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, as half a pass is none.
    """
    is_new = net is None
    if is_new:
        net = new_net(params, data, seed)
    u, w = to_device(net, data.rows), known(net, data.weight)
    if is_new:
        start_linear(net, params, u, w, data.has_missing)
    module, noise = net.module_, None
    if module.likelihood.has_channel_noise:
        if is_new:
            fit_channel_noise(module, module, Part(u, w), None, data.has_missing)
        else:
            noise = updated_channel_noise(module, Part(u, w), data.has_missing)
    run_net(net, (u, None), epochs=1, weights=(with_mean_one(w), None), has_missing=data.has_missing)
    if net.interrupted_:
        raise KeyboardInterrupt("Interrupted: the estimator is as it was before this call of partial_fit.")
    if noise is not None:
        module.likelihood.set_channel_variance(*noise)
    return net
