"""Many nets of one shape trained as one: their weights side by side, a step of all of them one step.

Each net keeps what is its own: rows, the generator of its batches and noise, learning rate, weight decay, share of the
KL, patience. So it takes the steps that it would take alone, to rounding.
"""

import math
import time
from collections import defaultdict
from types import SimpleNamespace

import torch

from ._stack import Stack
from ._watch import monitored

HELD = 20_000_000  # numbers of validation rows and draws that are scored at once


class Member:
    """One net's part of a `Stack`: its rows, its batches, its history."""

    def __init__(self, stage):
        net = stage.net
        self.stage, self.net, (self.train, self.valid) = stage, net, stage.data
        self.batches = net.get_iterator(self.train, training=True, weight=stage.weights[0])
        net.interrupted_, net.n_taken_, net.n_steps_ = False, 0, stage.cycle * len(self.batches)
        net._set_learning_rate(1.0)
        self.rate = net.optimizer_.param_groups[0]["initial_lr"]
        # The generator's, at the moment at which a net that is alone draws it.
        self.name, self.rows, worth, self.noise = monitored(net, self.train, self.valid, *stage.weights)
        worth = torch.ones(len(self.rows), device=self.rows.device) if worth is None else worth
        self.worth = worth / worth.sum()
        self.best = SimpleNamespace(best_epoch=0, best_score=-torch.inf, weights=None)
        self.since_gain, self.epoch, self.finite = -1, 0, True

    def share(self, i):
        """Of the KL, in step i of an epoch: `VAENet.run_single_epoch`."""
        net = self.net
        done = (self.epoch - 1 + (i + 1) / len(self.batches)) / net.kl_warmup if net.kl_warmup else 1.0
        return net.criterion_.beta * min(1.0, done)

    def next_rate(self):
        net = self.net
        net.n_taken_ += 1
        return self.rate * net.lr_scheduler(net.n_taken_ / net.n_steps_)

    def look(self, score, weights, terms=None, seconds=None):
        """Record an epoch; keep its weights if they are the best: `Watch.look`."""
        net = self.net
        score -= net.module_.log_volume
        net.history.new_epoch()
        net.history.record("epoch", self.epoch)
        if terms is not None:
            objective, kl = (terms / len(self.train)).tolist()
            net.history.record("train_loss", net.module_.log_volume - objective)
            net.history.record("train_kl", kl)
        net.history.record(self.name, score)
        if seconds is not None:
            net.history.record("dur", seconds)
        self.score, self.finite = score, math.isfinite(score + net.history[-1].get("train_loss", 0.0))
        self.since_gain = 0 if score > self.best.best_score + net.tol else self.since_gain + 1
        if self.epoch == 0:
            self.start = score
        if score > self.best.best_score or self.epoch == 0:
            self.best.best_score, self.best.best_epoch, self.best.weights = score, self.epoch, weights.clone()

    @property
    def over(self):
        patience = min(self.since_gain, self.epoch - self.net.kl_warmup) >= self.net.n_iter_no_change
        return not self.finite or self.epoch >= self.stage.epochs or (self.valid is not None and patience)

    def end(self, weights, stack):
        """Give the net its weights, and what it tells of training."""
        self.net._end(self.best, not self.score >= self.start - self.rows.shape[1], self.finite)
        kept = self.best.weights if self.net.diverged_ or self.valid is not None else weights
        stack.give(self.net, kept)
        self.net._set_training(False)


def padded(tensors, dim):
    """Tensors of somewhat different length along `dim`, stacked: shorter ones end with their first entries."""
    longest = max(t.shape[dim] for t in tensors)
    return torch.stack([t if t.shape[dim] == longest else fill(t, dim, longest - t.shape[dim]) for t in tensors])


def fill(tensor, dim, n):
    first = tensor.narrow(dim, 0, 1)
    return torch.cat([tensor, *[first] * n], dim)


def zeros_after(worth):
    """Weights of somewhat different number, stacked: zeros at the end of shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(worth, batch_first=True)


class Looks:
    """What scores the nets of a stack on their validation rows: those with rows and noise of one shape at once."""

    def __init__(self, members):
        alike: dict[torch.Size, list[list[int]]] = defaultdict(list)
        for place, member in enumerate(members):
            at_once = max(1, HELD // (member.noise.shape[:-1].numel() * member.rows.shape[1]))
            parts = alike[member.noise.shape]
            if not parts or len(parts[-1]) == at_once:
                parts.append([])
            parts[-1].append(place)
        self.n, self.parts = len(members), []
        for places in (part for parts in alike.values() for part in parts):
            these = [members[place] for place in places]
            stacked = (torch.stack([getattr(m, name) for m in these]) for name in ("rows", "noise", "worth"))
            beta = these[0].rows.new_tensor([m.net.criterion_.beta for m in these])
            self.parts.append((places, *stacked, beta))

    def scores(self, stack):
        """The mean objective of each net, a list."""
        scores = [0.0] * self.n
        for places, *what in self.parts:
            for place, score in zip(places, stack.evaluate(places, *what).tolist(), strict=True):
                scores[place] = score
        return scores


def train_together(stages):
    """Train the nets of stages of one shape: `VAENet.fit_loop` for all of them, side by side."""
    members = [Member(stage) for stage in stages]
    stack, looks = Stack([member.net for member in members]), Looks(members)
    for member, score, weights in zip(members, looks.scores(stack), stack.flat, strict=True):
        member.look(score, weights)
    while members:
        over = [member.over for member in members]
        if any(over):
            for member, ends, weights in zip(members, over, stack.flat, strict=True):
                if ends:
                    member.end(weights, stack)
            kept = [place for place, ends in enumerate(over) if not ends]
            if not kept:
                break
            members, stack = [members[place] for place in kept], stack.part(kept)
            looks = Looks(members)
        begin = time.perf_counter()
        for member in members:
            member.epoch += 1
        terms = run_epoch(stack, members)
        seconds = (time.perf_counter() - begin) / len(members)
        for member, score, weights, sums in zip(members, looks.scores(stack), stack.flat, terms, strict=True):
            member.look(score, weights, sums, seconds)


def run_epoch(stack, members):
    """One pass of each net over its rows; sums of objective and KL (m, 2)."""
    totals = torch.zeros(len(members), 2, device=stack.flat.device)
    iterators = [iter(member.batches) for member in members]
    for i in range(max(len(member.batches) for member in members)):
        drawn = [next(iterator, None) for iterator in iterators]
        here = [k for k, batch in enumerate(drawn) if batch is not None]
        batches = [batch for batch in drawn if batch is not None]
        u, eps = padded([b[0] for b in batches], 0), padded([b[1] for b in batches], -2)
        worth = zeros_after([(b[2] if len(b) > 2 else b[0].new_ones(len(b[0]))) / len(b[0]) for b in batches])
        share = u.new_tensor([members[k].share(i) for k in here])
        rates = [members[k].next_rate() for k in here]
        part = stack if len(here) == len(members) else stack.part(here)
        totals[here] += part.step(u, eps, worth, share, rates)
        if part is not stack:
            stack.take(here, part)
    return totals
