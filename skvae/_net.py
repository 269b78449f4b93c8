"""The training engine: a skorch net over rows that lie on the device.

What differs from `skorch.NeuralNet`, and why: data are tensors, (train, validation or None), and
batches are slices of them (no per-row collate); losses stay on the device until an epoch ends (no
synchronisation a batch); shuffle and noise come from a private generator; the learning rate follows
one cycle; a step is captured in a CUDA graph where there is a GPU; the weights kept are the best on the
validation rows, the start included; training that diverges ends with the best weights and a warning;
batch-level callbacks run only where a callback defines them; Ctrl-C is noted in `interrupted_`, so that
the estimator can pass it on.
"""

import inspect
import math
import time
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback

from ._adamw import AdamW
from ._batches import Batches
from ._rows import blocks, rows_per_block
from ._step import draw_of, make_step
from ._watch import Watch
from .objectives import ELBO

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
KEPT = 64  # batches whose terms are held: more of them, between larger blocks, would keep the heap from shrinking


def one_cycle(progress, warmup=0.1):
    """Share of the peak learning rate: a linear rise, then half a cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def sums(terms):
    """Sum of the objective and of the KL over the rows of batches, shape (2,)."""
    return torch.stack([torch.cat(rows).sum() for rows in zip(*terms, strict=True)])


class VAENet(NeuralNet):
    """Trains a `VAE` to maximise an objective.

    Parameters
    ----------
    module : callable
        () -> VAE.
    criterion : callable
        () -> objective.
    n_draws : int
        Draws of z a row and step.
    lr_scheduler : callable or None
        Share of the learning rate as a function of the share of steps done. None: constant.
    n_iter_no_change : int
        Epochs without a gain of `tol` nats on the validation rows after which training stops.
    tol : float
    kl_warmup : int
        Epochs over which the share of the objective's beta rises from 0 to 1. Scores are always at 1.
    compile_step : bool
        Whether torch.compile fuses a step's operations.
    precision : {"float32", "tf32", "bf16"}
    seed : int
        Of the private generator of shuffle and noise.

    Other parameters are `skorch.NeuralNet`'s. ``fit_loop`` takes X = (train, validation or None), tensors
    in the module's units on the device.
    """

    def __init__(
        self,
        module,
        criterion=ELBO,
        *,
        optimizer=AdamW,
        n_draws=1,
        lr_scheduler=one_cycle,
        n_iter_no_change=10,
        tol=0.0,
        kl_warmup=0,
        compile_step=False,
        precision="float32",
        seed=0,
        train_split=None,
        verbose=0,
        **kwargs,
    ):
        super().__init__(module, criterion, optimizer=optimizer, train_split=train_split, verbose=verbose, **kwargs)
        self.n_draws = n_draws
        self.lr_scheduler = lr_scheduler
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.kl_warmup = kl_warmup
        self.compile_step = compile_step
        self.precision = precision
        self.seed = seed

    @property
    def _default_callbacks(self):
        return []

    def initialize(self):
        super().initialize()
        self.generator_ = torch.Generator(self.device).manual_seed(self.seed)
        share = torch.zeros((), device=self.device) if self.kl_warmup else 1.0
        self.training_step_ = self._step(self.criterion_, self.optimizer_, self.compile_step, self.precision, share)
        return self

    def _step(self, *options):
        return make_step(self.module_, *options)

    def get_split_datasets(self, X, y=None, **fit_params):
        return X

    def get_iterator(self, dataset, training=False, weight=None):
        return Batches(dataset, self.batch_size, self.n_draws, self.module_.n_components, self.generator_, weight)

    def infer(self, x, eps):
        return draw_of(self.module_, x, eps)

    def train_step_single(self, batch, **fit_params):
        terms = self.training_step_.gradients(*batch)
        return {"loss": self.module_.log_volume - terms[0].mean(), "y_pred": terms}

    def _needs_closure(self):
        """Whether a callback has batch hooks, or the optimizer evaluates the loss itself, as LBFGS does."""
        hooked = any(
            getattr(type(callback), hook) is not getattr(Callback, hook)
            for _, callback in self.callbacks_
            for hook in BATCH_HOOKS
        )
        return hooked or inspect.signature(self.optimizer.step).parameters["closure"].default is not None

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """One pass; records the mean loss and the mean KL of a row, read from the device once."""
        self._set_training(training)
        needs_closure = self._needs_closure()
        terms, totals, n_rows = [], torch.zeros(2, device=self.device), 0  # on the device until the epoch ends
        for i, batch in enumerate(iterator):
            self.n_taken_ += 1
            if self.kl_warmup:
                epochs_done = len(self.history) - 2 + (i + 1) / len(iterator)  # the first row is the start
                self.training_step_.share.fill_(min(1.0, epochs_done / self.kl_warmup))
            if self.lr_scheduler is not None and self.n_steps_ is not None:
                self._set_learning_rate(self.lr_scheduler(self.n_taken_ / self.n_steps_))
            if needs_closure:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch)
                self.notify("on_batch_end", batch=batch, training=training, **step)
                terms.append(step["y_pred"])
            else:
                terms.append(self.training_step_(*batch))
            n_rows += len(terms[-1][0])
            if len(terms) == KEPT:
                totals, terms = totals + sums(terms), []
        if terms:
            totals = totals + sums(terms)
        totals, n_rows = self._of_all_rows(totals, n_rows)
        objective, kl = (totals / n_rows).tolist()
        self.history.record(f"{prefix}_loss", self.module_.log_volume - objective)
        self.history.record(f"{prefix}_kl", kl)

    def _of_all_rows(self, totals, n_rows):
        """Sums over the rows of an epoch, and their number, where this process had a part of them."""
        return totals, n_rows

    def _set_learning_rate(self, share):
        for group in self.optimizer_.param_groups:
            if "initial_lr" not in group:
                group["initial_lr"] = float(group["lr"])  # reads from the device, so once
            rate = share * group["initial_lr"]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)  # where a captured step reads it
            else:
                group["lr"] = rate

    @torch.no_grad()
    def evaluate(self, u, eps, weight=None):
        """Mean objective of the rows u in nats at full beta and without free bits, for noise eps (..., n, d)."""
        self._set_training(False)
        size = rows_per_block(u.shape[1] * eps.shape[:-2].numel())
        total, z = 0.0, []
        for rows in blocks(len(u), size):
            draw = self.infer(u[rows], eps[..., rows, :])
            worth = self.criterion_.rows(draw)
            total += worth.sum() if weight is None else worth @ weight[rows]
            z.append(draw.z)
        penalty = self.criterion_.penalty(torch.cat(z, dim=-2))  # of all rows together, whatever the blocks
        return float(total / (len(u) if weight is None else weight.sum()) - penalty) - self.module_.log_volume

    def fit_loop(self, X, y=None, epochs=None, *, cycle=None, weights=(None, None), stage=None, **fit_params):
        """Train for `epochs` (default max_epochs), the first of a learning-rate cycle of `cycle` epochs.

        `weights` are those of the training rows, of mean 1, and of the validation rows. `stage` is the part of a
        `Checkpoint` to go on from and to write.
        With validation rows the weights kept are those that scored best on them, the start included;
        without, the last. Training has diverged when a loss is not finite, or when it ends, past the warm-up,
        with a score one nat a feature under the start's: then the best weights are kept in either case.
        """
        train, valid = self.get_split_datasets(X)
        iterator = self.get_iterator(train, training=True, weight=weights[0])
        self.interrupted_ = False
        self.n_taken_, self.n_steps_ = 0, cycle and cycle * len(iterator)
        self._set_learning_rate(1.0)
        watch = Watch(self, train, valid, *weights)
        if not self.history:
            self.history.new_epoch()
            self.history.record("epoch", 0)
            self.history.record(watch.name, watch.score)
        last = len(self.history) - 1 + (self.max_epochs if epochs is None else epochs)
        over = stage is not None and stage.resume(self, watch)
        finite = math.isfinite(watch.score + (self.history[-1].get("train_loss", 0.0) if over else 0.0))
        try:
            while finite and not over and len(self.history) <= last and not self._stops(watch, valid):
                begin = time.perf_counter()
                self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
                epoch = len(self.history) - 1
                self.history.record("epoch", epoch)
                self.run_single_epoch(iterator, training=True, prefix="train", step_fn=self.train_step)
                watch.look(epoch)
                self.history.record(watch.name, watch.score)
                self.history.record("dur", time.perf_counter() - begin)
                finite = math.isfinite(watch.score + self.history[-1, "train_loss"])
                if not finite:
                    break
                try:
                    self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
                except KeyboardInterrupt:  # how skorch's own callbacks stop training
                    break
                if stage is not None:
                    stage.keep(self, watch)
            if stage is not None and not over:
                stage.keep(self, watch, over=True)
        except KeyboardInterrupt:
            self.interrupted_ = True
            if watch.name not in self.history[-1]:
                self.history.pop()  # the epoch is not whole
        self._end(watch, watch.diverged, finite)
        if self.diverged_ or valid is not None:
            watch.restore()
        self._set_training(False)
        return self

    def _end(self, best, under_start, finite):
        """Note how training went, by what has `best_epoch` and `best_score`; warn where it diverged."""
        self.diverged_ = (under_start and len(self.history) - 1 > self.kl_warmup) or not finite
        self.best_epoch_, self.best_score_ = best.best_epoch, best.best_score
        if self.diverged_:
            warnings.warn(
                "Training diverged: the loss is not finite, or far above the start's. The best weights of the "
                f"{len(self.history) - 1} epochs, epoch {best.best_epoch}'s, are kept. "
                "Try a smaller learning_rate_init.",
                ConvergenceWarning,
                stacklevel=3,
            )
            self._restart_optimizer()

    def _restart_optimizer(self):
        """Drop what it knows of steps that diverged, which may not be finite."""
        groups = self.optimizer_.state_dict()["param_groups"]
        groups = [{**group, "step": 0.0} if "step" in group else group for group in groups]
        self.optimizer_.load_state_dict({"state": {}, "param_groups": groups})

    def _stops(self, watch, valid):
        """Whether the validation score has not risen for long."""
        epoch = len(self.history) - 1
        return valid is not None and min(watch.since_gain, epoch - self.kl_warmup) >= self.n_iter_no_change

    def partial_fit(self, X, y=None, **fit_params):
        """`fit_loop` between the callbacks' begin and end. Nothing is swallowed, as skorch's own swallows Ctrl-C."""
        self.notify("on_train_begin", X=X)
        try:
            return self.fit_loop(X, **fit_params)
        finally:
            self.notify("on_train_end", X=X)
