"""Which weights are kept, and when training ends: the same rules for one model and for many that are stacked."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import stdtrit

from .._data.fit_data import FEW_VALIDATION_ROWS
from .._linear.leverage import sums_of_groups

N_SCORED = 1024  # rows times draws, at least, that the validation score rests on
N_TRAINING_ROWS_SCORED = 64
GAIN_LEVEL = 0.95  # of the t test of the gain, where there are few validation rows


@dataclass(frozen=True)
class ScoredRows:
    """The rows on which a model is scored in training, always with the same noise."""

    is_held_out: bool
    u: Any  # (n, p), Tensor or StreamedRows
    weight: torch.Tensor | None  # (n,)
    noise: torch.Tensor  # (repetitions, draws, n, d)
    groups: torch.Tensor | None = None  # (n,), numbered from 0

    @property
    def name(self):
        """Of the score in the history."""
        return "valid_score" if self.is_held_out else "train_score"

    def mean(self, scores):
        """Mean of the rows' scores (n,), a float."""
        return float(scores.mean() if self.weight is None else scores @ self.weight / self.weight.sum())

    def n_independent(self, scores):
        """How many of the rows with these scores are not copies of each other."""
        return len(scores) if self.groups is None else int(self.groups.max()) + 1

    def standard_error(self, scores):
        """Standard error of their mean, in which each group counts as one; infinite for a single row or group."""
        w = torch.ones_like(scores) if self.weight is None else self.weight
        parts, n = w * (scores - self.mean(scores)), self.n_independent(scores)
        if self.groups is not None:
            parts = sums_of_groups(parts, self.groups)
        return math.sqrt(float(parts.square().sum() / w.sum().square()) * n / (n - 1)) if n > 1 else math.inf


def scored_rows(net, train, valid, weights=(None, None), groups=None):
    """The validation rows or, without any, a few training rows, which tell divergence but not what is best.

    The noise comes from the net's generator. Each of its repetitions has as many draws as a step, as the bound depends
    on the number of draws.
    """
    if valid is None:
        u, weight, n_repetitions = train[:N_TRAINING_ROWS_SCORED], weights[0], 1
    else:
        u, weight, n_repetitions = valid, weights[1], -(-N_SCORED // (len(valid) * net.n_draws))
        if groups is not None:
            groups = groups.unique(return_inverse=True)[1]
    shape = n_repetitions, net.n_draws, len(u), net.module_.n_components
    noise = torch.randn(shape, generator=net.generator_, dtype=torch.float32, device=net.own_device)
    return ScoredRows(valid is not None, u, None if weight is None else weight[: len(u)].double(), noise, groups)


class EarlyStopping:
    """The weights to keep, those at the start included, and whether to go on.

    With `n_iter_no_change`, the model is scored after each epoch, and the best weights are kept. Without, it is scored
    when training ends, and the last weights are kept, unless the held-out rows' mean gain over the start lies more than
    a standard error under zero. Where validation rows are few, so are training rows: with fewer than
    `FEW_VALIDATION_ROWS`, the last weights are kept only where a t test shows a gain.

    Parameters
    ----------
    scored : ScoredRows
    scores : Tensor of shape (n,)
        Of these rows at the start, in nats.
    weights : list of Tensor
        At the start.
    epoch : int
        Of the start.
    n_features : int
    n_iter_no_change : int or None
        Epochs without a gain of `tol` after which training stops. None: the model is not scored after each epoch.
    tol : float
        In nats per row.
    kl_warmup : int
        Epochs in which training neither stops nor counts as diverged.

    Attributes
    ----------
    start, score, best_score : float
        Scores at the start, the last one and that of the weights to keep.
    best_epoch, since_gain : int
        The epoch of the weights to keep, and how many have passed since one gained `tol`.
    best : list of Tensor
        The weights to keep.
    """

    def __init__(self, scored, scores, weights, *, epoch, n_features, n_iter_no_change, tol, kl_warmup):
        self.scored, self.scores_at_start = scored, scores
        self.start = self.score = self.best_score = scored.mean(scores)
        self.best_epoch, self.since_gain = epoch, 0
        self.best = [tensor.clone() for tensor in weights]
        self.n_features, self.n_iter_no_change = n_features, n_iter_no_change
        self.tol, self.kl_warmup = tol, kl_warmup
        self.is_finite, self.loss = math.isfinite(self.start), -math.inf

    @classmethod
    def of(cls, net, scored, scores, weights):
        """The rules that a net's parameters ask for. Its history ends with the start."""
        return cls(
            scored,
            scores,
            weights,
            epoch=len(net.history) - 1,
            n_features=len(net.module_.shift),
            n_iter_no_change=net.n_iter_no_change if net.early_stopping and scored.is_held_out else None,
            tol=net.tol,
            kl_warmup=net.kl_warmup,
        )

    def is_due(self, epoch, last):
        """Whether the model is scored after this epoch; `last` is the last one."""
        return self.is_finite and (self.n_iter_no_change is not None or epoch == last)

    def note_loss(self, loss):
        """Note an epoch's training loss."""
        self.loss = loss
        self.is_finite = self.is_finite and math.isfinite(loss)

    def update(self, epoch, scores, weights):
        """Note the rows' scores after an epoch, and keep its weights if they are to be kept."""
        self.score = self.scored.mean(scores)
        self.is_finite = math.isfinite(self.score)
        self.since_gain = 0 if self.score > self.best_score + self.tol else self.since_gain + 1
        if not self.has_diverged(epoch) and self._are_to_be_kept(scores):
            self.best_score, self.best_epoch = self.score, epoch
            copy_tensors(weights, self.best)

    def _are_to_be_kept(self, scores):
        if not self.scored.is_held_out:
            return True
        if self.n_iter_no_change is not None:
            return self.score > self.best_score
        gain = scores - self.scores_at_start
        n = self.scored.n_independent(gain)
        least = stdtrit(max(n - 1, 1), GAIN_LEVEL) if n < FEW_VALIDATION_ROWS else -1
        return self.scored.mean(gain) > least * self.scored.standard_error(gain)

    def stops(self, epoch):
        """Whether training ends after this epoch: a number is not finite, or the score has not risen for long."""
        if not self.is_finite:
            return True
        patience = self.n_iter_no_change
        return patience is not None and min(self.since_gain, epoch - self.kl_warmup) >= patience

    def has_diverged(self, epoch):
        """Whether training failed: a number is not finite, or score and loss are far worse than the start's score.

        Far is one nat per feature, after the warm-up. (Where rows were learned by heart, only the score is worse.)
        """
        least = self.start - self.n_features
        is_worse = not self.score >= least and not -self.loss >= least
        return not self.is_finite or (is_worse and epoch > self.kl_warmup)


@torch.no_grad()
def copy_tensors(source, target):
    """Give each tensor of `target` the values of its partner in `source`."""
    for tensor, copy in zip(source, target, strict=True):
        copy.copy_(tensor)
