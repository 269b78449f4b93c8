"""From rows and an estimator's parameters to a trained net: scaling, start, selection, refit."""

from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np
import torch
from sklearn.utils import check_random_state

from ._batches import Streamed
from ._build import build_vae, lookup
from ._checkpoint import identity
from ._linear_start import linear_start
from ._net import VAENet
from ._parameters import resolve_device
from ._processes import several
from ._progress import ProgressLine
from ._scaling import column_scaling
from .likelihoods import NOISE_FLOOR
from .objectives import OBJECTIVES

N_STRETCHES = 4  # of consecutive rows, held out for validation
REFIT_BELOW = 10_000  # rows under which "auto" trains again on all of them
TRAINED: ContextVar[dict | None] = ContextVar("TRAINED", default=None)  # fits that were trained together, by `fit_key`


def batch_size(params, n_rows):
    if params.batch_size != "auto":
        return params.batch_size
    return int(np.clip(2 ** round(np.log2(max(1, n_rows / 32))), 16, 256))


def new_net(params, rows, seed, weight=None, gaps=False):
    """An initialised net with the scaling of the rows, without the linear start."""
    mean, scale = column_scaling(rows, weight, gaps)
    net = net_of(params, mean, scale, batch_size(params, len(rows)), seed)
    net.module_.gaps = gaps
    return net


def module_of(params, mean, scale, seed):
    """The VAE that parameters and the scaling of the columns make, as a function of nothing."""
    return partial(
        build_vae,
        n_features=len(mean),
        n_components=params.n_components,
        posterior=params.posterior,
        likelihood=params.likelihood,
        encoder=params.encoder,
        decoder=params.decoder,
        hidden_layer_sizes=tuple(params.hidden_layer_sizes),
        activation=params.activation,
        input_shape=params.input_shape,
        linear=params.init == "linear",
        precision=params.precision,
        mean=mean,
        scale=scale,
        seed=seed,
    )


def n_parameters(params, n_features):
    """Of the VAE that these parameters make of so many features."""
    module = module_of(params, np.zeros(n_features), np.ones(n_features), 0)()
    return sum(p.numel() for p in module.parameters())


def net_of(params, mean, scale, n_rows_a_batch, seed):
    """An initialised net with this scaling of the columns, without the linear start."""
    given = params.net_params or {}
    adamw = {
        "optimizer__weight_decay": params.weight_decay,
        "optimizer__param_groups": [("likelihood.*", {"weight_decay": 0.0})],
    }
    options = {
        "lr": params.learning_rate_init,
        "max_epochs": params.max_iter,
        "batch_size": n_rows_a_batch,
        "n_draws": params.n_draws,
        "n_iter_no_change": params.n_iter_no_change,
        "tol": params.tol,
        "kl_warmup": params.kl_warmup,
        "device": resolve_device(params.device),
        "callbacks": params.callbacks,
        "compile_step": params.compile,
        "precision": params.precision,
        "seed": seed,
        **({} if "optimizer" in given else adamw),
        **given,
    }
    objective = partial(lookup(OBJECTIVES, params.objective), beta=params.beta, free_bits=params.free_bits)
    kind: type[VAENet] = VAENet
    if several(params):
        from ._distributed import DistributedNet, accelerator_for

        options["accelerator"] = accelerator_for(params)
        kind, options["device"] = DistributedNet, str(options["accelerator"].device)
    return kind(module_of(params, mean, scale, seed), objective, **options).initialize()


def to_device(net, rows, order=None):
    """The rows, standardised, in this order: a tensor on the net's device, or Streamed."""
    module = net.module_
    u = Streamed(rows if order is None else rows.select(order), module.shift, module.scale, net.device)
    return u if rows.streams else u.resident()


def on_device(net, weight, order=None):
    """The weights of the rows in this order, on the net's device."""
    if weight is None:
        return None
    return torch.from_numpy(weight if order is None else weight[order]).to(net.device)


def start_linear(net, params, u, weight=None):
    """Move a net to the linear optimum of the rows u, where its likelihood has one."""
    module = net.module_
    noise = module.likelihood.linear_noise
    if params.init == "linear" and noise is not None:
        sizes = module.n_components, module.posterior, noise, module.scale, NOISE_FLOOR
        module.start_at(linear_start(u, *sizes, weight, module.gaps))


def of_mean_one(weight):
    return None if weight is None else (weight / weight.mean()).float()


def train(stage, params, checkpoint=None, task=None):
    """Run a net's training loop, on a progress line if verbose, told to scikit-learn's callbacks if there are any."""
    net, kept = stage.net, stage.net.callbacks_
    if params.verbose:
        net.callbacks_ = [*net.callbacks_, ("progress", ProgressLine(stage.epochs, stage.name))]
    if task is not None:
        net.callbacks_ = [*net.callbacks_, ("task", task.stage(stage.name, stage.epochs))]
    part = None if checkpoint is None else checkpoint.stage(stage.name)
    try:
        learn(net, stage.data, epochs=stage.epochs, cycle=stage.cycle, weights=stage.weights, stage=part)
    finally:
        net.callbacks_ = kept


def learn(net, data, **options):
    """`net.partial_fit`, or ValueError if the rows have no finite score to begin with."""
    net.partial_fit(data, **options)
    if not isfinite(net.best_score_):
        raise ValueError(
            "The score of X is not finite before the first step: X has rows so far from the others, or from those of "
            "an earlier fit, that their score exceeds the range of float32, or a class that was passed computes NaN."
        )
    return net


def go_on_from(module, previous):
    """Take the weights and scaling of an earlier fit."""
    try:
        module.load_state_dict(previous.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the weights of the fit before, so n_components, posterior, likelihood, init, "
            "encoder, decoder, hidden_layer_sizes and the features of X must be as they were then."
        ) from error


def validation_last(n_rows, fraction, seed):
    """An order of the rows with those held out for validation at the end, and where these begin.

    Held out are N_STRETCHES stretches of consecutive rows, not single rows: where rows are neighbours
    in time or space, a single one has its like among the training rows and would be no test.
    """
    n_held_out = int(np.ceil(fraction * n_rows))
    n_stretches = min(n_rows, max(2, round(N_STRETCHES * n_rows / n_held_out)))
    stretches = np.array_split(np.arange(n_rows), n_stretches)
    shuffled = np.random.RandomState(seed).permutation(n_stretches)
    order = np.concatenate([stretches[i] for i in shuffled])
    return order, n_rows - n_held_out


def pass_once(params, rows, seed, weight=None, gaps=False, net=None):
    """Train a net for one pass over the rows at a constant rate; without one, a new net from their start."""
    new = net is None
    if new:
        net = new_net(params, rows, seed, weight, gaps)
    net.module_.gaps = gaps
    u, w = to_device(net, rows), on_device(net, weight)
    if new:
        start_linear(net, params, u, w)
    return learn(net, (u, None), epochs=1, weights=(of_mean_one(w), None))


def draw_seed(params):
    """A seed from `random_state`, the same in all processes."""
    seed = check_random_state(params.random_state).randint(2**31 - 1)
    if several(params):
        from ._distributed import of_first_process

        seed = of_first_process(seed, params)
    return seed


def validates(params):
    """Whether rows are held out."""
    return params.early_stopping and params.max_iter > 0


def refits(params, n_rows, previous=None):
    """Whether training is repeated on all rows."""
    refit = n_rows < REFIT_BELOW if params.refit == "auto" else params.refit
    return refit and validates(params) and previous is None


@dataclass
class Stage:
    """A net in its place, and what to train it on, for so many epochs of a learning-rate cycle."""

    net: VAENet
    data: tuple  # of training and validation rows, or None for these
    weights: tuple
    name: str
    epochs: int
    cycle: int


def fit_net(params, rows, seed, weight=None, gaps=False, previous=None, checkpoint=None, task=None):
    """Train a net on rows: `stages`, each run when it comes."""
    trained = TRAINED.get()
    if trained and (ready := trained.pop(fit_key(params, rows, seed, weight), None)):
        return ready
    plan = stages(params, rows, seed, weight, gaps, previous)
    try:
        while True:
            train(next(plan), params, checkpoint, task)
    except StopIteration as end:
        return end.value


def fit_key(params, rows, seed, weight):
    """What tells one fit from another."""
    return repr(sorted(identity(params.get_params(deep=False), rows, weight).items())), seed


def stages(params, rows, seed, weight=None, gaps=False, previous=None):
    """Yield the stages of a fit, each after the one before was trained.

    Parameters
    ----------
    params : object with the parameters of `VAETransformer` as attributes
    rows : Rows of shape (n, p)
    seed : int
    weight : ndarray of shape (n,) or None
        Of the rows, positive.
    gaps : bool, default=False
        Whether they have NaN.
    previous : VAENet or None
        Whose weights to go on from.

    Yields
    ------
    stage : Stage

    Returns
    -------
    net : VAENet
    selection : VAENet
        The net that was trained with validation rows: `net` itself unless it was refitted.
    held_out : ndarray of int or None
        The validation rows.
    """
    n = len(rows)
    net = new_net(params, rows, seed, weight, gaps)
    if previous is not None:
        go_on_from(net.module_, previous.module_)
    tried = validates(params)
    order, n_training = validation_last(n, params.validation_fraction, seed) if tried else (None, n)
    u = to_device(net, rows, order)  # one copy of the data, of which training and validation rows are views
    w = on_device(net, weight, order)
    parts = [n_training, n - n_training]
    training, validation = u.split(parts) if tried else (u, None)
    of_training, of_validation = w.split(parts) if tried and w is not None else (w, None)
    if previous is None:
        start_linear(net, params, training, of_training)
    weights = of_mean_one(of_training), of_mean_one(of_validation)
    yield Stage(net, (training, validation), weights, "fit", params.max_iter, params.max_iter)

    held_out = None if order is None else order[n_training:]
    if not refits(params, n, previous) or net.interrupted_:
        return net, net, held_out
    again = new_net(params, rows, seed, weight, gaps)
    start_linear(again, params, u, w)
    yield Stage(again, (u, None), (of_mean_one(w), None), "refit", net.best_epoch_, params.max_iter)
    net.interrupted_ = again.interrupted_
    return (net if again.diverged_ or again.interrupted_ else again), net, held_out
