"""The training engine: a skorch net over rows that lie on the device.

It differs from `skorch.NeuralNet` in these points. Data are tensors, (train, validation or None), and batches are
slices of them, so that nothing is collated row by row. Losses stay on the device until an epoch ends, so that no batch
waits for the host. Shuffle and noise come from a private generator. The learning rate follows one cycle. A step is
captured in a CUDA graph where there is a GPU. Which weights are kept is `EarlyStopping`'s rule.
Training that diverges ends with weights from before and a warning. Batch-level callbacks run only where a callback
defines them. Ctrl-C is noted in `interrupted_`, so that the estimator can pass it on.
"""

import inspect
import math
import time
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback

from .._data.rows import blocks, rows_per_block
from ..objectives import ELBO
from .adamw import AdamW
from .batches import BatchLoader
from .captured_step import make_step
from .early_stopping import EarlyStopping, copy_tensors, scored_rows
from .schedules import kl_scale, one_cycle
from .step import model_output

BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
HELD_ROWS = 2**14  # whose terms are held: with more of these small tensors among larger ones, the heap would not shrink


def summed(terms):
    """Sums of the objective and of the KL over the rows of batches, shape (2,)."""
    return torch.stack([torch.cat(rows).sum() for rows in zip(*terms, strict=True)])


class VAENet(NeuralNet):
    """Trains a `VAEModule` to maximise an objective.

    Parameters
    ----------
    module : callable
        () -> VAEModule.
    criterion : callable
        () -> objective.
    n_draws : int
        Draws of z per row and step.
    lr_scheduler : callable or None
        Share of the learning rate as a function of the share of steps done. None: constant.
    early_stopping : bool
        Whether validation rows are scored after each epoch, and the best weights kept.
    n_iter_no_change : int
        Epochs without a gain of `tol` nats on the validation rows after which training then stops.
    tol : float
    kl_warmup : int
        Epochs over which the share of the objective's beta rises from 0 to 1. Scores are always at 1.
    compile_step : bool
        Whether torch.compile fuses a step's operations.
    precision : {"float32", "tf32", "bf16"}
    seed : int
        Of the private generator of shuffle and noise.

    Other parameters are `skorch.NeuralNet`'s. ``fit_loop`` takes X = (train, validation or None), tensors in the
    module's units on the device.
    """

    def __init__(
        self,
        module,
        criterion=ELBO,
        *,
        optimizer=AdamW,
        n_draws=1,
        lr_scheduler=one_cycle,
        early_stopping=False,
        n_iter_no_change=10,
        tol=0.0,
        kl_warmup=0,
        compile_step=False,
        precision="float32",
        seed=0,
        train_split=None,
        **kwargs,
    ):
        super().__init__(module, criterion, optimizer=optimizer, train_split=train_split, **kwargs)
        self.n_draws = n_draws
        self.lr_scheduler = lr_scheduler
        self.early_stopping = early_stopping
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
        self.generator_ = torch.Generator(self.own_device).manual_seed(self.seed)
        self._prepare_step()
        return self

    @property
    def own_device(self):
        """The device that the module lies on. `device` may be "cuda", which is whichever GPU is the current one."""
        return self.module_.shift.device

    def _prepare_step(self):
        scale = torch.zeros((), dtype=torch.float32, device=self.own_device) if self.kl_warmup else 1.0
        self.training_step_ = self._make_step(
            self.criterion_, self.optimizer_, self.compile_step, self.precision, scale
        )

    def __getstate__(self):
        state = super().__getstate__()
        state.pop("training_step_", None)  # it belongs to this process, and to this net's module
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.initialized_:
            self._prepare_step()

    def _make_step(self, *options):
        return make_step(self.module_, *options)

    def get_split_datasets(self, X, y=None, **fit_params):
        return X

    def get_iterator(self, dataset, training=False, weight=None):
        return BatchLoader(dataset, self.batch_size, self.n_draws, self.module_.n_components, self.generator_, weight)

    def infer(self, x, eps):
        return model_output(self.module_, x, eps)

    def train_step_single(self, batch, **fit_params):
        objective, kl = self.training_step_.gradients(*batch)
        return {"loss": self.module_.log_volume - objective.mean(), "y_pred": (objective, kl)}

    def _step_optimizer(self, step_fn):
        """Let the optimizer evaluate the gradients or, where its `step` takes no closure, evaluate them before."""
        if "closure" in optimizer_arguments(self.optimizer_):
            self.optimizer_.step(step_fn)
        else:
            step_fn()
            self.optimizer_.step()

    def _needs_closure(self):
        """Whether a callback has batch hooks, or the optimizer evaluates the loss itself, as LBFGS does."""
        is_hooked = any(
            getattr(type(callback), hook) is not getattr(Callback, hook)
            for _, callback in self.callbacks_
            for hook in BATCH_HOOKS
        )
        closure = optimizer_arguments(self.optimizer_).get("closure")
        return is_hooked or (closure is not None and closure.default is inspect.Parameter.empty)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """One pass; records the mean loss and the mean KL per row, read from the device once."""
        self._set_training(training)
        needs_closure, epoch = self._needs_closure(), len(self.history) - 1  # the history's first row is the start
        self.training_step_.begin_epoch()
        totals = torch.zeros(2, dtype=torch.float32, device=self.own_device)  # on the device until the epoch ends
        terms, n_rows = [], 0
        for i, batch in enumerate(iterator):
            self.n_taken_ += 1
            if self.kl_warmup:
                self.training_step_.kl_scale.fill_(kl_scale(epoch, i, len(iterator), self.kl_warmup))
            if self.lr_scheduler is not None and self.n_steps_ is not None:
                self._set_learning_rate(self.peak_ * self.lr_scheduler(self.n_taken_ / self.n_steps_))
            if needs_closure:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch)
                self.notify("on_batch_end", batch=batch, training=training, **step)
                terms.append(step["y_pred"])
            else:
                terms.append(self.training_step_(*batch))
            n_rows += len(terms[-1][0])
            if len(terms) * len(terms[0][0]) >= HELD_ROWS:
                totals, terms = totals + summed(terms), []
        if terms:
            totals = totals + summed(terms)
        totals, n_rows = self._over_processes(totals, n_rows)
        self._record_means(totals, n_rows, prefix)

    def _record_means(self, totals, n_rows, prefix="train"):
        """Record the means of loss and KL per row, from their sums (2,) over the rows of an epoch."""
        objective, kl = (totals / n_rows).tolist()
        self.history.record(f"{prefix}_loss", self.module_.log_volume - objective)
        self.history.record(f"{prefix}_kl", kl)

    def _over_processes(self, totals, n_rows):
        """The sums over the rows of an epoch, and their number. `DistributedNet` adds those of the other processes."""
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
    def score_rows(self, u, eps):
        """Objective of each of the rows u in nats at full beta and without free bits, for noise eps (..., n, d).

        The objective's penalty, which belongs to all rows together, is subtracted from each row's.
        """
        self._set_training(False)
        size = rows_per_block(u.shape[-1] * eps.shape[:-2].numel(), self.own_device)
        objective, z = [], []
        for rows in blocks(len(u), size):
            output = self.infer(u[rows], eps[..., rows, :])
            objective.append(self.criterion_.rows(output))
            z.append(output.z)
        penalty = self.criterion_.penalty(torch.cat(z, dim=-2))
        return torch.cat(objective).double() - penalty - self.module_.log_volume

    def fit_loop(
        self,
        X,
        y=None,
        epochs=None,
        *,
        cycle=None,
        peak=1.0,
        weights=(None, None),
        groups=None,
        checkpoint=None,
        **fit_params,
    ):
        """Train for `epochs` (default max_epochs), the first of a learning-rate cycle of `cycle` epochs.

        `EarlyStopping` says which weights are kept, and when training ends.

        Parameters
        ----------
        X : tuple
            Training rows, and validation rows or None.
        y : ignored
        epochs, cycle : int or None
        peak : float
            Share of the learning rate that the cycle rises to.
        weights : tuple
            Those of the training rows, of mean 1, and of the validation rows, or None for these.
        groups : Tensor or None
            Of the validation rows.
        checkpoint : PhaseCheckpoint or None
            To go on from, and to write.
        """
        train, valid = self.get_split_datasets(X)
        iterator = self.get_iterator(train, training=True, weight=weights[0])
        self.interrupted_ = False
        self.n_taken_, self.n_steps_, self.peak_ = 0, cycle and cycle * len(iterator), peak
        self._set_learning_rate(peak)
        early_stopping = self._scored_start(scored_rows(self, train, valid, weights, groups))
        last = len(self.history) - 1 + (self.max_epochs if epochs is None else epochs)
        is_over = checkpoint is not None and checkpoint.resume(self, early_stopping)
        early_stopping.is_finite = math.isfinite(early_stopping.score)
        if is_over:
            early_stopping.note_loss(self.history[-1].get("train_loss", 0.0))
        try:
            if not is_over:
                self._run_epochs(iterator, (train, valid), last, early_stopping, checkpoint)
            self._score_at_the_end(early_stopping)
            if checkpoint is not None and not is_over:
                checkpoint.keep(self, early_stopping, over=True)
        except KeyboardInterrupt:
            self.interrupted_ = True
            if len(self.history) > 1 and "dur" not in self.history[-1]:
                self.history.pop()  # the epoch is not complete
            self._score_at_the_end(early_stopping)
        self._note_outcome(early_stopping)
        copy_tensors(early_stopping.best, self.state_tensors)
        self._set_training(False)
        return self

    def _scored_start(self, scored):
        """Score the start, record it in a new history, and return the `EarlyStopping` that begins with it."""
        start = self.score_rows(scored.u, scored.noise)
        if not self.history:
            self.history.new_epoch()
            self.history.record("epoch", 0)
            self.history.record(scored.name, scored.mean(start))
        return EarlyStopping.of(self, scored, start, self.state_tensors)

    def _run_epochs(self, iterator, datasets, last, early_stopping, checkpoint):
        """Train until epoch `last`, or until early stopping, a callback or a number that is not finite ends it."""
        train, valid = datasets
        while len(self.history) <= last and not early_stopping.stops(len(self.history) - 1):
            begin = time.perf_counter()
            self.notify("on_epoch_begin", dataset_train=train, dataset_valid=valid)
            epoch = len(self.history) - 1
            self.history.record("epoch", epoch)
            self.run_single_epoch(iterator, training=True, prefix="train", step_fn=self.train_step)
            early_stopping.note_loss(self.history[-1, "train_loss"])
            if early_stopping.is_due(epoch, last):
                self._score(early_stopping)
            self.history.record("dur", time.perf_counter() - begin)
            if not early_stopping.is_finite:
                break
            try:
                self.notify("on_epoch_end", dataset_train=train, dataset_valid=valid)
            except KeyboardInterrupt:  # how skorch's own callbacks stop training
                break
            if checkpoint is not None:
                checkpoint.keep(self, early_stopping)

    def _score(self, early_stopping):
        """Score the present weights, tell `early_stopping`, and record the score."""
        scored = early_stopping.scored
        scores = self.score_rows(scored.u, scored.noise)
        early_stopping.update(len(self.history) - 1, scores, self.state_tensors)
        self.history.record(scored.name, early_stopping.score)

    def _score_at_the_end(self, early_stopping):
        """Score the weights of the last epoch unless that was done, or training diverged."""
        if early_stopping.is_finite and early_stopping.scored.name not in self.history[-1]:
            self._score(early_stopping)

    @property
    def state_tensors(self):
        """All tensors of the module's state."""
        return list(self.module_.state_dict().values())

    def _note_outcome(self, early_stopping):
        """Note how training went, and warn if it diverged or ended too early."""
        epoch = len(self.history) - 1
        self.diverged_ = early_stopping.has_diverged(epoch)
        self.best_epoch_, self.best_score_ = early_stopping.best_epoch, early_stopping.best_score
        if self.diverged_:
            warnings.warn(
                "Training diverged: the loss is not finite, or far above the start's. The best weights of the "
                f"{epoch} epochs, epoch {self.best_epoch_}'s, are kept. "
                "Try a smaller learning_rate_init.",
                ConvergenceWarning,
                stacklevel=3,
            )
            self._restart_optimizer()
        elif early_stopping.n_iter_no_change is not None and epoch == self.best_epoch_ > 0:
            warnings.warn(
                f"Training ended at epoch {epoch} while the score of the validation rows still rose. Try a larger "
                "max_iter.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _restart_optimizer(self):
        """Drop what the optimizer knows of steps that diverged, which may not be finite."""
        groups = self.optimizer_.state_dict()["param_groups"]
        groups = [{**group, "step": 0.0} if "step" in group else group for group in groups]
        self.optimizer_.load_state_dict({"state": {}, "param_groups": groups})

    def partial_fit(self, X, y=None, **fit_params):
        """`fit_loop` between the callbacks' begin and end. Nothing is swallowed, as skorch's own swallows Ctrl-C."""
        self.notify("on_train_begin", X=X, y=y)
        try:
            return self.fit_loop(X, **fit_params)
        finally:
            self.notify("on_train_end", X=X, y=y)


def optimizer_arguments(optimizer):
    """The parameters of an optimizer's `step`, by name."""
    return inspect.signature(optimizer.step).parameters
