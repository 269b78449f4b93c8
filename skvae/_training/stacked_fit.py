"""Many models of one shape trained as one stacked model.

Each model keeps what is its own: rows, the generator of its batches and noise, learning rate, weight decay, scale of
the KL, patience. So it takes the steps that it would take alone, to rounding.
"""

import time
from collections import defaultdict

import torch

from .early_stopping import EarlyStopping, scored_rows
from .schedules import kl_scale
from .stacked_models import StackedModels

MOST_SCORED = 20_000_000  # numbers of validation rows and draws that are scored at once


class StackedModel:
    """One net's part in a stacked fit: its rows, its batches, its schedules, its history."""

    def __init__(self, phase):
        net = phase.net
        self.phase, self.net, (self.train, self.valid) = phase, net, phase.rows
        self.batches = net.get_iterator(self.train, training=True, weight=phase.weights[0])
        net.interrupted_, net.n_taken_, net.n_steps_ = False, 0, phase.epochs * len(self.batches)
        net._set_learning_rate(1.0)
        self.rate = phase.peak * net.optimizer_.param_groups[0]["initial_lr"]
        # Draws from the generator at the moment at which a net that is alone draws.
        self.scored = scored_rows(net, self.train, self.valid, phase.weights, phase.groups)
        self.epoch = max(len(net.history) - 1, 0)
        self.last = self.epoch + phase.epochs

    def kl_scale(self, i):
        """Weight of the KL term, beta included, in step i of an epoch."""
        net = self.net
        return net.criterion_.beta * kl_scale(self.epoch, i, len(self.batches), net.kl_warmup)

    def next_rate(self):
        net = self.net
        net.n_taken_ += 1
        return self.rate * net.lr_scheduler(net.n_taken_ / net.n_steps_)

    def begin(self, scores, weights):
        """Record the start."""
        if not self.net.history:
            self._record()
            self.net.history.record(self.scored.name, self.scored.mean(scores))
        self.early_stopping = EarlyStopping.of(self.net, self.scored, scores, [weights])

    def end_epoch(self, totals, seconds):
        """Record an epoch."""
        self._record()
        self.net._record_means(totals, len(self.train))
        self.early_stopping.note_loss(self.net.history[-1, "train_loss"])
        self.net.history.record("dur", seconds)

    def _record(self):
        self.net.history.new_epoch()
        self.net.history.record("epoch", self.epoch)

    @property
    def is_due(self):
        """Whether it is scored after this epoch."""
        return self.early_stopping.is_due(self.epoch, self.last)

    def update(self, scores, weights):
        """Record the scores after an epoch, and keep its weights if they are to be kept."""
        self.early_stopping.update(self.epoch, scores, [weights])
        self.net.history.record(self.scored.name, self.early_stopping.score)

    @property
    def is_over(self):
        return self.epoch >= self.last or self.early_stopping.stops(self.epoch)

    def end(self, stack):
        """Give the net its weights, and what it tells of training."""
        self.net._note_outcome(self.early_stopping)
        stack.give_parameters(self.net, self.early_stopping.best[0])
        self.net._set_training(False)


def padded(tensors, dim):
    """Tensors of somewhat different length along `dim`, stacked: shorter ones end with copies of their first entry."""
    longest = max(t.shape[dim] for t in tensors)
    return torch.stack([t if t.shape[dim] == longest else lengthened(t, dim, longest - t.shape[dim]) for t in tensors])


def lengthened(tensor, dim, n):
    first = tensor.narrow(dim, 0, 1)
    return torch.cat([tensor, *[first] * n], dim)


def padded_with_zeros(weights):
    """Weights of somewhat different number, stacked, with zeros at the end of shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)


class StackedScores:
    """The rows' scores of stacked models: of those with rows and noise of one shape at once."""

    def __init__(self, models):
        places_by_shape: dict[torch.Size, list[list[int]]] = defaultdict(list)
        for place, model in enumerate(models):
            noise, u = model.scored.noise, model.scored.u
            at_once = max(1, MOST_SCORED // (noise.shape[:-1].numel() * u.shape[1]))
            parts = places_by_shape[noise.shape]
            if not parts or len(parts[-1]) == at_once:
                parts.append([])
            parts[-1].append(place)
        self.models, self.parts = models, []
        for places in (part for parts in places_by_shape.values() for part in parts):
            these = [models[place] for place in places]
            u = torch.stack([model.scored.u for model in these])
            noise = torch.stack([model.scored.noise for model in these])
            beta = u.new_tensor([model.net.criterion_.beta for model in these])
            self.parts.append((places, u, noise, beta))

    def __call__(self, stack, wanted):
        """Yield the place, the scores and the weights of each model that is wanted, a set of places."""
        for places, *rows in self.parts:
            if wanted.intersection(places):
                for place, scores in zip(places, stack.score_rows(places, *rows), strict=True):
                    if place in wanted:
                        yield place, scores - self.models[place].net.module_.log_volume, stack.flat[place]


def train_stacked(phases):
    """Train the nets of phases of one shape side by side: `VAENet.fit_loop` for all of them."""
    models = [StackedModel(phase) for phase in phases]
    stack, score = StackedModels([model.net for model in models]), StackedScores(models)
    for place, scores, weights in score(stack, set(range(len(models)))):
        models[place].begin(scores, weights)
    while models:
        is_over = [model.is_over for model in models]
        if any(is_over):
            for model, ends in zip(models, is_over, strict=True):
                if ends:
                    model.end(stack)
            kept = [place for place, ends in enumerate(is_over) if not ends]
            if not kept:
                break
            models, stack = [models[place] for place in kept], stack.select(kept)
            score = StackedScores(models)
        begin = time.perf_counter()
        for model in models:
            model.epoch += 1
        totals = run_epoch(stack, models)
        seconds = (time.perf_counter() - begin) / len(models)
        for model, sums in zip(models, totals, strict=True):
            model.end_epoch(sums, seconds)
        for place, scores, weights in score(stack, {place for place, model in enumerate(models) if model.is_due}):
            models[place].update(scores, weights)


def run_epoch(stack, models):
    """One pass of each model over its rows; sums of objective and KL (m, 2). Nothing is sent to the device in a step.

    From step to step the models that have a batch are the same, until the shortest of them is through.
    """
    lengths = [len(model.batches) for model in models]
    steps = range(max(lengths))
    scale = stack.flat.new_tensor([[model.kl_scale(i) for i in steps] for model in models])
    iterators = [iter(model.batches) for model in models]
    totals = torch.zeros(len(models), 2, dtype=torch.float32, device=stack.flat.device)
    done = 0
    for length in sorted(set(lengths)):
        here = [k for k, n in enumerate(lengths) if n >= length]
        part = stack if len(here) == len(models) else stack.select(here)
        sums, scales = totals[here], scale[here].unbind(1)
        for i in range(done, length):
            batches = [next(iterators[k]) for k in here]
            rates = [models[k].next_rate() for k in here]
            sums += part.step(*stacked_batch(batches), scales[i], rates)
        totals[here] = sums
        if part is not stack:
            stack.assign(here, part)
        done = length
    return totals


def stacked_batch(batches):
    """Rows, noise and weights in the mean of batches of somewhat different length, side by side."""
    u, eps = padded([b[0] for b in batches], 0), padded([b[1] for b in batches], -2)
    weights = [b[2] if len(b) > 2 else b[0].new_ones(len(b[0])) for b in batches]
    return u, eps, padded_with_zeros([weight / len(weight) for weight in weights])
