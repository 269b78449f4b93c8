"""One training step on a batch: eager, compiled, or replayed from a CUDA graph. Nothing is read from the device."""

import torch

from ._adamw import AdamW
from .networks import training_products


def objective_terms(module, objective, u, eps):
    """Objective, up to the module's constant `log_volume`, and KL of each row, both (n,)."""
    log_likelihood, q, _ = module(u, eps)
    kl = q.kl()
    return objective(log_likelihood, kl), kl


class Step:
    """Gradients of minus the mean objective of a batch, and the optimizer's update.

    Parameters
    ----------
    module : VAE
    objective : callable
    optimizer : torch.optim.Optimizer
    compiled : bool
        Whether torch.compile fuses the operations between the matrix products.
    precision : {"float32", "tf32", "bf16"}
        Of the networks' matrix products.
    """

    def __init__(self, module, objective, optimizer, compiled=False, precision="float32"):
        self.module, self.objective, self.optimizer = module, objective, optimizer
        self.terms = torch.compile(objective_terms) if compiled else objective_terms
        self.precision = precision

    def gradients(self, u, eps):
        """Fill the parameters' gradients; return objective and KL of each row."""
        with training_products(self.precision):
            objective, kl = self.terms(self.module, self.objective, u, eps)
            n = len(objective)
            objective.backward(objective.new_full((n,), -1 / n))  # of minus the mean, with no mean to undo
        return objective.detach(), kl.detach()

    def __call__(self, u, eps):
        """Take the step; return objective and KL of each row, before it."""
        terms = self.gradients(u, eps)
        if isinstance(self.optimizer, AdamW):
            self.optimizer.update()
        else:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return terms


class CapturedStep(Step):
    """A `Step` that is captured in a CUDA graph, so that the host launches it as one.

    The first steps on batches of the first batch's shape run eagerly on a stream of their own, as capturing asks
    for; the next is captured. Batches of another shape, such as the last of an epoch, run eagerly.

    References
    ----------
    PyTorch's notes on CUDA semantics, "Whole-network capture".
    """

    WARM_UP = 3

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.inputs = self.outputs = self.graph = None
        self.n_warm = 0

    def __call__(self, u, eps):
        if self.inputs is None:
            self.inputs = torch.empty_like(u), torch.empty_like(eps)
        if (u.shape, eps.shape) != tuple(tensor.shape for tensor in self.inputs):
            return super().__call__(u, eps)
        if self.n_warm < self.WARM_UP:
            self.n_warm += 1
            return self._aside(u, eps)
        for tensor, batch in zip(self.inputs, (u, eps), strict=True):
            tensor.copy_(batch)
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.outputs = super().__call__(*self.inputs)
        self.graph.replay()
        return tuple(tensor.clone() for tensor in self.outputs)  # the next replay overwrites them

    def _aside(self, u, eps):
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            terms = super().__call__(u, eps)
        here.wait_stream(aside)
        return terms


def make_step(module, objective, optimizer, compiled, precision):
    """The fastest step for where the module lies. Only `AdamW` is written to be captured."""
    captured = module.shift.is_cuda and isinstance(optimizer, AdamW)
    return (CapturedStep if captured else Step)(module, objective, optimizer, compiled, precision)
