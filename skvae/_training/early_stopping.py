"""Which weights are kept, and when training ends: the same rules for one model and for many that are stacked."""

import math
from dataclasses import dataclass
from typing import Any

import torch

N_SCORED = 1024  # rows times draws that the validation score rests on at least
N_TRAINING_ROWS_SCORED = 64


@dataclass(frozen=True)
class ScoredRows:
    """The rows on which a model is scored after each epoch, always with the same noise."""

    name: str  # of the score in the history
    u: Any  # (n, p), Tensor or StreamedRows
    weight: torch.Tensor | None  # (n,)
    noise: torch.Tensor  # (groups, draws, n, d)


def scored_rows(net, train, valid, train_weight=None, valid_weight=None):
    """The validation rows or, without any, a few training rows, which tell divergence but not what is best.

    The noise comes from the net's generator. There are groups of as many draws as a step has, as a bound of several
    draws is another than that of one.
    """
    if valid is None:
        name, u, weight = "train_score", train[:N_TRAINING_ROWS_SCORED], train_weight
        n_groups = 1
    else:
        name, u, weight = "valid_score", valid, valid_weight
        n_groups = -(-N_SCORED // (len(valid) * net.n_draws))
    shape = n_groups, net.n_draws, len(u), net.module_.n_components
    noise = torch.randn(shape, generator=net.generator_, dtype=torch.float32, device=net.device)
    return ScoredRows(name, u, None if weight is None else weight[: len(u)], noise)


class EarlyStopping:
    """The best weights so far, those at the start included, and whether to go on.

    Parameters
    ----------
    score : float
        At the start, in nats per row.
    weights : list of Tensor
        At the start.
    n_features : int
    n_iter_no_change : int or None
        Epochs without a gain of `tol` after which training stops. None: it does not.
    tol : float
        In nats per row.
    kl_warmup : int
        Epochs in which training neither stops nor counts as diverged.

    Attributes
    ----------
    start, score, best_score : float
        Scores at the start, of the last epoch and of the best one.
    best_epoch, since_gain : int
        The best epoch, and how many have passed since one gained `tol`.
    best : list of Tensor
        The best weights.
    """

    def __init__(self, score, weights, n_features, n_iter_no_change, tol, kl_warmup):
        self.start = self.score = self.best_score = score
        self.best_epoch, self.since_gain = 0, 0
        self.best = [tensor.clone() for tensor in weights]
        self.n_features, self.n_iter_no_change = n_features, n_iter_no_change
        self.tol, self.kl_warmup = tol, kl_warmup
        self.is_finite = math.isfinite(score)

    @classmethod
    def of(cls, net, score, weights, valid):
        """By the parameters of a net. Without validation rows training does not stop early."""
        n_features = len(net.module_.shift)
        patience = None if valid is None else net.n_iter_no_change
        return cls(score, weights, n_features, patience, net.tol, net.kl_warmup)

    def update(self, epoch, score, loss, weights):
        """Note an epoch's score and training loss, and keep its weights if they are the best."""
        self.score = score
        self.is_finite = math.isfinite(score + loss)
        self.since_gain = 0 if score > self.best_score + self.tol else self.since_gain + 1
        if score > self.best_score:
            self.best_score, self.best_epoch = score, epoch
            copy_tensors(weights, self.best)

    def stops(self, epoch):
        """Whether training ends after this epoch: a number is not finite, or the score has not risen for long."""
        if not self.is_finite:
            return True
        patience = self.n_iter_no_change
        return patience is not None and min(self.since_gain, epoch - self.kl_warmup) >= patience

    def has_diverged(self, epoch):
        """Whether training failed: a number is not finite or, past the warm-up, the score is one nat per feature under
        the start's."""
        is_under_start = not self.score >= self.start - self.n_features
        return not self.is_finite or (is_under_start and epoch > self.kl_warmup)


@torch.no_grad()
def copy_tensors(source, target):
    """Give each tensor of `target` the values of its partner in `source`."""
    for tensor, copy in zip(source, target, strict=True):
        copy.copy_(tensor)
