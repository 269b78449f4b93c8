"""Scores a net's weights as training goes, and keeps the best."""

import torch

MONITORED = 1024  # rows times draws that the validation score rests on at least


def monitored(net, train, valid, train_weight=None, valid_weight=None):
    """What a score of the net's weights is called, its rows, their weights and their noise."""
    if valid is None:
        name, rows, weight = "train_score", train[:64], train_weight
    else:
        name, rows, weight = "valid_score", valid, valid_weight
    # The same noise in every epoch, so that epochs differ by their weights alone.
    # Groups of as many draws as a step has, as a bound of several draws is another than that of one.
    groups = 1 if valid is None else -(-MONITORED // (len(valid) * net.n_draws))
    shape = groups, net.n_draws, len(rows), net.module_.n_components
    noise = torch.randn(shape, generator=net.generator_, device=net.device)
    return name, rows, None if weight is None else weight[: len(rows)], noise


class Watch:
    """The best weights so far, those at the start included.

    Parameters
    ----------
    net : VAENet
    train, valid : Tensor
        Without validation rows a few training rows are scored, which tells divergence but not what is best.
    train_weight, valid_weight : Tensor or None, default=None
    """

    def __init__(self, net, train, valid, train_weight=None, valid_weight=None):
        self.net = net
        self.name, self.rows, self.weight, self.noise = monitored(net, train, valid, train_weight, valid_weight)
        self.start = self.score = self.best_score = net.evaluate(self.rows, self.noise, self.weight)
        self.best_epoch, self.since_gain = 0, 0
        self.best = [tensor.clone() for tensor in net.module_.state_dict().values()]

    def look(self, epoch):
        """Score the present weights and keep them if they are the best."""
        self.score = self.net.evaluate(self.rows, self.noise, self.weight)
        self.since_gain = 0 if self.score > self.best_score + self.net.tol else self.since_gain + 1
        if self.score > self.best_score:
            self.best_score, self.best_epoch = self.score, epoch
            self._copy(self.net.module_.state_dict().values(), self.best)

    def restore(self):
        self._copy(self.best, self.net.module_.state_dict().values())

    @property
    def diverged(self):
        """Whether the last score is not finite or one nat a feature under the start's."""
        return not self.score >= self.start - self.rows.shape[1]

    @staticmethod
    @torch.no_grad()
    def _copy(source, target):
        for tensor, copy in zip(source, target, strict=True):
            copy.copy_(tensor)
