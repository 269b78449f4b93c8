"""Training by parts: a pass over the rows of one call, from where the calls before left the model.

The rows of the first call may be few or unlike the rest, and scaling, noise and linear start rest on them. So the
moments of all rows are merged over calls. Until `START_ANEW_BELOW` rows were seen, three models are compared on the
rows of a call, which none of them was trained on: the present one, the start at the moments of all rows, and this start
with the networks of the present one, whose outputs are in units of the linear maps. The best of them goes on.
"""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from math import inf, isfinite, log

import numpy as np
import torch

from .._data.rows import Rows, evenly_spread, is_uneven
from .._data.scaling import scaling_of
from .._io.state import map_leaves, restore, state_of
from .._linear.moments import Moments
from .._linear.start import start_of_moments
from .._model.torch_defaults import torch_defaults
from .channel_noise import fit_channel_noise, start_channel_noise, updated_channel_noise
from .early_stopping import N_SCORED, copy_tensors, scored_rows
from .fit import (
    check_score,
    has_linear_optimum,
    net_of,
    new_net,
    run_net,
    start_linear,
    start_options,
    starts_linear,
    weight_decay,
)
from .parts import Part, to_device, values_on_device, with_mean_one

LEARNING_RATE_SHARE = 0.2  # of the greatest one: a constant rate leaves more noise in the weights than one that falls
START_ANEW_BELOW = 10_000  # rows seen: with fewer, the start may be taken anew
GROWTH = 1.1  # of the number of rows seen, after which the models are compared again
TIE = 1e-3  # nats per feature by which a model must be better than a simpler one
MOST_COLUMNS = 2048  # whose products are kept: 32 MiB
ROWS_PER_PARAMETER = 10  # that the first call needs where products are not kept: 0.05 nats per feature are then lost


@contextmanager
def unchanged_on_failure(net):
    """Context that gives a net its present state back if the block raises. None stands for no net."""
    before = None if net is None else map_leaves(np.ndarray, np.copy, state_of(net))
    try:
        yield
    except BaseException:
        if net is not None:
            net.optimizer_.zero_grad()  # a step may have failed between its gradients and its update
            restore(net, before)
        raise


@torch_defaults()
def pass_once(params, data, seed, net=None, moments=None):
    """Train a net for one pass over the rows at a constant rate; without a net, a new one from the rows' start.

    Parameters
    ----------
    params : FitParameters
        Of the first call.
    data : FitData
    seed : int
    net : VAENet or None
        The net that the calls before trained.
    moments : Moments or None
        Of the rows of the calls before. None where there were many rows, or where a fit came before.

    Returns
    -------
    net : VAENet
        A new one, if the start was taken anew.
    moments : Moments or None
        For the next call.

    Raises
    ------
    ValueError
        If the first call has too few rows, where X has too many columns for a start to be taken anew.
    KeyboardInterrupt
        After Ctrl-C, as half a pass does not count.
    """
    is_start = net is None
    if net is None:
        net, moments = first_start(params, data, seed)
    elif moments is not None:
        net, moments, is_start = best_of_starts(params, data, seed, net, moments)
    (u, w), likelihood = rows_on_device(net, data), net.module_.likelihood
    is_updated = likelihood.has_channel_noise and not is_start
    noise = updated_channel_noise(net.module_, Part(u, w)) if is_updated else None
    run_net(net, (u, None), epochs=1, peak=LEARNING_RATE_SHARE, weights=(with_mean_one(w), None))
    if net.interrupted_:
        raise KeyboardInterrupt("Interrupted: the estimator is as it was before this call of partial_fit.")
    if noise is not None:
        likelihood.set_channel_variance(*noise)
    return net, moments


def rows_on_device(net, data):
    """The rows, standardised, and their weights, on the net's device."""
    return to_device(net, data.rows, is_uneven=data.is_uneven), values_on_device(net, data.weight)


def first_start(params, data, seed):
    """A net at the start of these rows, and their moments."""
    net = new_net(params, data, seed)
    is_linear, n_columns = has_linear_optimum(net, params), data.rows.shape[1]
    least = ROWS_PER_PARAMETER * (params.n_components + 2)
    is_wide = is_linear and n_columns > MOST_COLUMNS
    if is_wide and len(data) < least:
        raise ValueError(
            f"X has {len(data)} rows, but the first call of partial_fit needs {least} = {ROWS_PER_PARAMETER} "
            f"(n_components + 2) where X has more than {MOST_COLUMNS} columns: the linear start is taken from them."
        )
    u, w = rows_on_device(net, data)
    start_linear(net, params, u, w)
    if net.module_.likelihood.has_channel_noise:
        fit_channel_noise(net.module_, net.module_, Part(u, w), None)
    # Moments are of rows without errors, and tell nothing of a model whose only noise are the errors.
    is_final = is_wide or not net.module_.likelihood.has_noise
    has_sample = starts_linear(net, params) and not is_linear
    return net, None if is_final else moments_to_keep(Moments.of(data, net.module_, is_linear, has_sample))


def moments_to_keep(moments):
    """The moments, or None if they are of so many rows that no start is taken anew."""
    return moments if moments.n_rows < START_ANEW_BELOW else None


def best_of_starts(params, data, seed, net, moments):
    """The best model on the rows of this call: the net, or a start at the moments of all rows.

    Returns it, the moments of all rows, and whether it is the start without networks that have learned.
    """
    n = moments.n_rows
    moments += Moments.of(data, net.module_, moments.products.ndim > 1, moments.sample is not None)
    if int(log(moments.n_rows, GROWTH)) == int(log(n, GROWTH)):
        return net, moments_to_keep(moments), False
    start = start_anew(params, data, seed, net, moments)
    learned = start_anew(params, data, seed, net, moments)
    copy_learned(learned, net, len(data))
    places = evenly_spread(len(data), N_SCORED)
    rows = replace(data, rows=data.rows.select(places), weight=None if data.weight is None else data.weight[places])
    u, w = rows_on_device(net, rows)
    scored = scored_rows(net, None, u, (None, w))
    nets = start, learned, net
    scores = []
    for each in nets:
        scores.append(scored.mean(each.score_rows(rows_on_device(each, rows)[0], scored.noise)))
    check_score(scores[-1])
    handicap = TIE * data.rows.shape[1]  # so that the start is taken where nothing was learned
    best = max(range(3), key=lambda i: scores[i] - i * handicap if isfinite(scores[i]) else -inf)
    return nets[best], moments_to_keep(moments), nets[best] is start


def start_anew(params, data, seed, net, moments):
    """A net at the start of rows with these moments, with the history and the generator of the present one."""
    mean, scale = scaling_of(moments.mean, moments.variance, moments.n_rows, data.rows.dtype)
    params = replace(params, device=str(net.own_device))
    anew = net_of(params, mean, scale, net.batch_size, weight_decay(params, moments.n_rows), seed)
    module = anew.module_
    if has_linear_optimum(anew, params):
        scatter = moments.scatter(module.scale)
        module.start_at(start_of_moments(scatter, moments.n_rows, **start_options(module)))
        if module.likelihood.has_channel_noise:
            start_channel_noise(module, scatter, moments.n_rows)
    elif module.likelihood.has_channel_noise:
        fit_channel_noise(module, module, Part(*rows_on_device(anew, data)), None)
    elif moments.sample is not None:
        sample = Rows(moments.sample)
        start_linear(anew, params, to_device(anew, sample, is_uneven=is_uneven(sample)))
    anew.history_ = net.history
    anew.generator_.set_state(net.generator_.get_state())
    return anew


@torch.no_grad()
def copy_learned(net, source, n_rows):
    """Give a net at a start the networks of another net, the moments of its optimizer, and its noise per channel.

    If that noise rests on at most `n_rows` rows, those of this call, the start's noise stays and counts for as many.
    """
    module, there = net.module_, source.module_
    for kind in ("encoder", "decoder"):
        copy_tensors(getattr(there, kind).parameters(), getattr(module, kind).parameters())
    ours, theirs = net.optimizer_.state_dict(), deepcopy(source.optimizer_.state_dict())
    pairs = zip(ours["param_groups"], theirs["param_groups"], strict=True)  # the weight decay hangs on the rows
    groups = [{**own, **{key: group[key] for key in ("step",) if key in group}} for own, group in pairs]
    net.optimizer_.load_state_dict({"state": theirs["state"], "param_groups": groups})
    likelihood, known = module.likelihood, there.likelihood
    if likelihood.has_channel_noise and known.n_channel_rows > n_rows:
        ratio = (there.scale / module.scale).square()
        likelihood.set_channel_variance(ratio * known.channel_variance, known.n_channel_rows)
    elif likelihood.has_channel_noise:
        likelihood.set_channel_variance(likelihood.channel_variance, n_rows)
