"""A fit: from rows and parameters to a trained net, in phases."""

from dataclasses import dataclass, replace
from functools import partial
from math import isfinite

import numpy as np
import torch
from sklearn.utils import check_random_state

from .._data.devices import resolve_device
from .._data.fit_data import FitData
from .._data.rows import with_nan
from .._data.scaling import column_scaling
from .._io.checkpoint import fit_identity
from .._io.state import restore, state_of
from .._linear.exponential_family import exponential_family_start
from .._linear.start import linear_start
from .._model.build import build_vae, lookup
from .._model.torch_defaults import torch_defaults
from .._parameters import ARCHITECTURE, NET
from ..likelihoods import LIKELIHOODS, NOISE_FLOOR
from ..objectives import OBJECTIVES
from .channel_noise import fit_channel_noise
from .net import VAENet
from .parts import Part, parts_of, to_device, with_mean_one
from .processes import is_distributed
from .progress import ProgressLine
from .report import Report, initial_report, r2, warn_of_rows
from .validation import held_out_blocks, near_copies

REFIT_BELOW = 10_000  # rows: with fewer, refit="auto" goes on with all of them
EPOCHS_PER_REFIT_EPOCH = 6
REFIT_PEAK = 0.4  # of the greatest learning rate


@dataclass
class TrainingPhase:
    """A net, its rows, and the number of epochs of its training, which are one cycle of the learning rate."""

    name: str
    net: VAENet
    training: Part
    validation: Part | None
    epochs: int
    peak: float = 1.0  # share of the greatest learning rate

    @property
    def rows(self):
        """Training rows, and validation rows or None."""
        return self.training.u, None if self.validation is None else self.validation.u

    @property
    def weights(self):
        """Weights of mean 1 of the training rows and of the validation rows, or None for each."""
        validation = None if self.validation is None else with_mean_one(self.validation.weight_of_groups)
        return with_mean_one(self.training.weight), validation

    @property
    def groups(self):
        """The groups of the validation rows, or None."""
        return None if self.validation is None else self.validation.groups

    def run(self, params, checkpoint=None, task=None):
        """Train, with a progress line if verbose, and tell scikit-learn's callbacks if there are any."""
        net, callbacks = self.net, self.net.callbacks_
        if params.verbose:
            net.callbacks_ = [*net.callbacks_, ("progress", ProgressLine(self.epochs, self.name))]
        if task is not None:
            net.callbacks_ = [*net.callbacks_, ("task", task.phase(self.name, self.epochs))]
        try:
            run_net(
                net,
                self.rows,
                epochs=self.epochs,
                cycle=self.epochs,
                peak=self.peak,
                weights=self.weights,
                groups=self.groups,
                checkpoint=None if checkpoint is None else checkpoint.phase(self.name),
            )
        finally:
            net.callbacks_ = callbacks
            net.training_step_.release()


@dataclass
class NoisePhase:
    """The phase after training, in which a noise variance per channel is fitted to the means."""

    net: VAENet
    selection: VAENet
    training: Part
    validation: Part | None

    def run(self, params=None, checkpoint=None, task=None):
        """Fit the noise. As this takes little time, no checkpoint holds it."""
        phase_task = None if task is None else task.phase("noise", 1)
        if phase_task is not None:
            phase_task.on_train_begin(self.net)
        modules = self.net.module_, self.selection.module_
        fit_channel_noise(*modules, self.training, self.validation)
        if phase_task is not None:
            phase_task.on_train_end(self.net)


@dataclass(frozen=True)
class FitResult:
    """What a fit gives."""

    net: VAENet
    selection: VAENet  # the net that was trained with validation rows: `net` itself unless it was refitted
    data: FitData  # with the groups and the validation rows that the fit chose
    report: Report


class TrainedFit:
    """The states of a fit that was made elsewhere, and the key by which the estimator knows that the fit is its own.

    Only arrays are kept, so that it can be sent to another process.
    """

    def __init__(self, result, key):
        self.key = key
        self.state, self.held_out, self.groups = state_of(result.net), result.data.held_out, result.data.groups
        self.report = result.report
        self.selection_state = None if result.selection is result.net else state_of(result.selection)

    def result(self, params, data, seed):
        """The `FitResult`, with nets that are made of these parameters and data."""
        net = net_from_state(params, self.state, seed)
        selection = net if self.selection_state is None else net_from_state(params, self.selection_state, seed)
        return FitResult(net, selection, replace(data, held_out=self.held_out, groups=self.groups), self.report)


@torch_defaults()
def fit_model(params, data, seed, previous=None, checkpoint=None, task=None, trained=None):
    """Train a net on rows, phase by phase.

    Parameters
    ----------
    params : FitParameters
    data : FitData
    seed : int
    previous : VAENet or None
        The net whose weights training goes on from.
    checkpoint : Checkpoint or None
    task : FitTask or None
        It tells scikit-learn's callbacks of the phases.
    trained : TrainedFit or None
        Its result takes the place of training, if its key is that of this fit.

    Returns
    -------
    FitResult
    """
    if trained is not None and trained.key == fit_key(params, data, seed):
        return trained.result(params, data, seed)
    plan = phases(params, data, seed, previous)
    try:
        while True:
            next(plan).run(params, checkpoint, task)
    except StopIteration as end:
        return end.value


def fit_key(params, data, seed):
    """What tells one fit from another."""
    return repr(sorted(fit_identity(vars(params), data).items())), seed


def phases(params, data, seed, previous=None):
    """Yield the phases of a fit. Each must be trained before the next is asked for.

    Parameters
    ----------
    params, data, seed, previous
        As `fit_model` has them.

    Yields
    ------
    TrainingPhase or NoisePhase

    Returns
    -------
    FitResult
    """
    net = new_net(params, data, seed)
    if previous is not None:
        load_previous_weights(net.module_, previous.module_)
    groups_given = data.groups
    data = with_validation_rows(net, params, data, seed)
    all_rows, training, validation = parts_of(net, data)
    if previous is None:
        start_linear(net, params, training.u, training.weight)
    report = initial_report(data, validation)
    groups_found = data.groups if groups_given is None else None
    warn_of_rows(report, params, net.module_, training, groups_found, data.rows.columns)
    if validation is not None:
        report.r2_of_start = r2(net.module_, validation.u)
    yield TrainingPhase("fit", net, training, validation, params.max_iter)

    if validation is not None:
        report.r2 = r2(net.module_, validation.u)
    chosen = net
    if should_refit(params, data, previous) and not net.interrupted_:
        refit_net = net_for_refit(params, data, seed, net, all_rows)
        epochs = -(-net.best_epoch_ // EPOCHS_PER_REFIT_EPOCH)
        yield TrainingPhase("refit", refit_net, all_rows, None, epochs, REFIT_PEAK)
        net.interrupted_, report.n_refit_epochs = refit_net.interrupted_, epochs
        chosen = net if refit_net.diverged_ or refit_net.interrupted_ else refit_net
    is_trained = previous is None or params.max_iter > 0
    if net.module_.likelihood.has_channel_noise and is_trained:
        if data.has_enough_validation_rows:
            yield NoisePhase(chosen, net, training, validation)
        else:
            yield NoisePhase(chosen, chosen, all_rows, None)
    return FitResult(chosen, net, data, report)


def with_validation_rows(net, params, data, seed):
    """The data with the rows to hold out, if any, and with the groups of copies that were found among the rows."""
    if not validates(params, data):
        if params.early_stopping and params.max_iter:
            raise ValueError(
                "early_stopping=True needs validation rows: a validation_fraction that is not None, or X_val."
            )
        return replace(data, held_out=None, validation=None)
    if data.held_out is not None or data.validation is not None:
        return data
    groups = data.groups
    if groups is None and not data.rows.is_streamed_to(net.own_device):
        groups = near_copies(with_nan(to_device(net, data.rows, is_uneven=data.is_uneven)))
    return replace(data, groups=groups, held_out=held_out_blocks(len(data), params.validation_fraction, seed, groups))


def net_for_refit(params, data, seed, net, all_rows):
    """The net for the refit: with the trained weights or, if those are the start, at the start of all rows."""
    refit_net = new_net(params, data, seed)
    refit_net.history_ = type(net.history)(dict(row) for row in list(net.history)[: net.best_epoch_ + 1])
    if net.best_epoch_:
        refit_net.module_.load_state_dict(net.module_.state_dict())
    else:
        start_linear(refit_net, params, all_rows.u, all_rows.weight)
    return refit_net


def run_net(net, data, **options):
    """`net.partial_fit`, or ValueError if the rows have no finite score to begin with."""
    net.partial_fit(data, **options)
    check_score(net.best_score_)
    return net


def check_score(score):
    """Raise ValueError unless the score of rows, before a step, is finite."""
    if not isfinite(score):
        raise ValueError(
            "The score of X is not finite before the first step: X has rows so far from the others, or from those of "
            "an earlier fit, or known errors so small beside what the rows differ by, that their score exceeds the "
            "range of float32, or a class that was passed computes NaN."
        )


def validates(params, data):
    """Whether there are validation rows."""
    return params.max_iter > 0 and (params.validation_fraction is not None or data.validation is not None)


def should_refit(params, data, previous=None):
    """Whether training goes on with all rows, where some were held out."""
    refit = len(data) < REFIT_BELOW if params.refit == "auto" else params.refit
    return refit and validates(params, data) and data.validation is None and previous is None


def has_noise_phase(params):
    """Whether a noise variance per channel is fitted after training."""
    return lookup(LIKELIHOODS, params.likelihood).has_channel_noise


def draw_seed(params):
    """A seed from `random_state`, the same in all processes."""
    seed = check_random_state(params.random_state).randint(2**31 - 1)
    if is_distributed(params):
        from .distributed import of_first_process

        seed = of_first_process(seed, params)
    return seed


def batch_size(params, n_rows):
    if params.batch_size != "auto":
        return params.batch_size
    return int(np.clip(2 ** round(np.log2(max(1, n_rows / 32))), 16, 256))


def weight_decay(params, n_rows):
    """The weight decay: "auto" is larger for fewer rows, which make fewer steps and are sooner learned by heart."""
    if params.weight_decay != "auto":
        return params.weight_decay
    return float(np.clip(130 / n_rows, 0.1, 3.0))


def new_net(params, data, seed):
    """An initialised net with the scaling of the rows, without the linear start."""
    mean, scale = column_scaling(
        data.rows, data.weight, data.is_uneven, lookup(LIKELIHOODS, params.likelihood).has_tails
    )
    return net_of(params, mean, scale, batch_size(params, len(data)), weight_decay(params, len(data)), seed)


def module_of(params, mean, scale, seed):
    """A function without arguments that builds the `VAEModule` of these parameters and this scaling of the columns."""
    architecture = {name: getattr(params, name) for name in ARCHITECTURE}
    return partial(build_vae, **architecture, mean=mean, scale=scale, seed=seed)


def n_weights(params, n_features):
    """The number of weights of the model that these parameters give for `n_features` columns."""
    with torch.device("meta"):
        module = module_of(params, np.zeros(n_features), np.ones(n_features), 0)()
    return sum(p.numel() for p in module.parameters())


@torch_defaults()
def net_of(params, mean, scale, n_rows_per_batch, decay, seed):
    """An initialised net with this scaling of the columns, without the linear start."""
    given = params.net_params or {}
    adamw = {
        "optimizer__weight_decay": decay,
        "optimizer__param_groups": [("likelihood.*", {"weight_decay": 0.0})],
    }
    options = {
        **{option: getattr(params, name) for option, name in NET.items()},
        "batch_size": n_rows_per_batch,
        "device": resolve_device(params.device),
        "callbacks": None if params.callbacks is None else list(params.callbacks),
        "seed": seed,
        **({} if "optimizer" in given else adamw),
        **given,
    }
    objective = partial(lookup(OBJECTIVES, params.objective), beta=params.beta, free_bits=params.free_bits)
    kind: type[VAENet] = VAENet
    if is_distributed(params):
        from .distributed import DistributedNet, accelerator_for

        options["accelerator"] = accelerator_for(params)
        kind, options["device"] = DistributedNet, str(options["accelerator"].device)
    return kind(module_of(params, mean, scale, seed), objective, **options).initialize()


def blank_net(params, state, seed):
    """A net with these parameters and a state's scaling, which is yet to be given the state."""
    decay = 0.0  # the state has its own
    return net_of(params, state["column_mean"], state["column_scale"], state["batch_size"], decay, seed)


def net_from_state(params, state, seed):
    """The net that has a state (`state_of`)."""
    net = blank_net(params, state, seed)
    restore(net, state)
    return net


def starts_linear(net, params):
    """Whether the net has a linear model to start at."""
    return params.init == "linear" and net.module_.likelihood.has_linear_model()


def has_linear_optimum(net, params):
    """Whether this model is Gaussian, so that its optimum follows from the moments of the rows."""
    return params.init == "linear" and net.module_.likelihood.linear_noise is not None


def start_linear(net, params, u, weight=None):
    """Move a net to the linear model of the rows u, where its likelihood has one."""
    module = net.module_
    if has_linear_optimum(net, params):
        module.start_at(linear_start(u, **start_options(module), weight=weight))
    elif starts_linear(net, params):
        module.start_at(exponential_family_start(module, u, weight))


def start_options(module):
    """The arguments of `linear_start` that a module gives."""
    return {
        "n_components": module.n_components,
        "posterior": module.posterior,
        "linear_noise": module.likelihood.linear_noise,
        "scale": module.scale,
        "floor": NOISE_FLOOR,
        "has_tails": module.likelihood.has_tails,
    }


def load_previous_weights(module, previous):
    """Take the weights and scaling of an earlier fit."""
    try:
        module.load_state_dict(previous.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the weights of the fit before, so n_components, posterior, likelihood, init, "
            "encoder, decoder, hidden_layer_sizes and the features of X must be as they were then."
        ) from error
