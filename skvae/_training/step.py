"""One training step on a batch: eager, compiled, or replayed from a CUDA graph. Nothing is read from the device."""

import threading

import torch

from ..networks import training_products
from ..objectives import ModelOutput
from .adamw import AdamW
from .torch_private import clear_cublas_workspaces

CAPTURING = threading.Lock()  # estimators that are fitted in two threads take turns


def model_output(module, u, eps):
    """What the module says of the rows u for noise eps (..., n, d); log-likelihoods up to its `log_volume`."""
    log_likelihood, q, z = module(u, eps)
    return ModelOutput(log_likelihood, q, q.kl(), z, eps)


def objective_and_kl(module, objective, u, eps, kl_scale):
    """Objective and KL of each row, both (n,)."""
    output = model_output(module, u, eps)
    return objective(output, kl_scale), output.kl


class Step:
    """Gradients of minus the mean objective of a batch, and the optimizer's update.

    Parameters
    ----------
    module : VAEModule
    objective : callable
    optimizer : torch.optim.Optimizer
    compiled : bool, default=False
        Whether torch.compile fuses the operations between the matrix products.
    precision : {"float32", "tf32", "bf16"}, default="float32"
        Of the networks' matrix products.
    kl_scale : float or Tensor of shape () on the device, default=1.0
        Share of the objective's beta. A tensor may be filled anew before each step.
    """

    def __init__(self, module, objective, optimizer, compiled=False, precision="float32", kl_scale=1.0):
        self.module, self.objective, self.optimizer = module, objective, optimizer
        self.objective_and_kl = torch.compile(objective_and_kl) if compiled else objective_and_kl
        self.precision = precision
        self.kl_scale = kl_scale

    def gradients(self, u, eps, weight=None, n_rows=None):
        """Fill the parameters' gradients; return objective and KL of each row, times its weight.

        The mean is the sum over `n_rows`, by default the batch's.
        """
        with training_products(self.precision):
            objective, kl = self.objective_and_kl(self.module, self.objective, u, eps, self.kl_scale)
            n = len(objective) if n_rows is None else n_rows
            row_weight = torch.full_like(objective, -1 / n) if weight is None else -weight / n
            objective.backward(row_weight)  # of minus the mean, with no mean to undo
        objective, kl = objective.detach(), kl.detach()
        return (objective, kl) if weight is None else (objective * weight, kl * weight)

    def __call__(self, *batch):
        """Take the step; return what `gradients` does, before it."""
        objective, kl = self.gradients(*batch)
        if isinstance(self.optimizer, AdamW):
            self.optimizer.update()
        else:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return objective, kl


class CUDAGraphStep(Step):
    """A `Step` that is captured in a CUDA graph, so that the host launches it as one.

    The first steps on batches of one shape run eagerly on a stream of their own, as capturing asks for; the next is
    captured. Smaller batches, such as the last of an epoch, run eagerly. What a plug-in does in ``forward`` must not
    read from the device or copy to it; with another optimizer than `AdamW` it may.

    References
    ----------
    PyTorch's notes on CUDA semantics, "Whole-network capture".
    """

    WARM_UP = 3

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stream = torch.cuda.Stream(self.module.shift.device)
        self.inputs: tuple[torch.Tensor, ...] = ()
        self.outputs: tuple[torch.Tensor, ...] = ()
        self.read: list[torch.Tensor] = []  # what the graph reads beside its inputs
        self.graph, self.n_warm = None, 0

    def __call__(self, *batch):
        read = [tensor for group in self.optimizer.param_groups for tensor in (group["lr"], group["step"])]
        if not all(isinstance(tensor, torch.Tensor) for tensor in read):
            return super().__call__(*batch)  # a graph could not follow a rate on the host
        if batch[0].ndim == 3:
            return super().__call__(*batch)  # rows with errors: factorisations read from the device
        stale = self.graph is not None and any(a is not b for a, b in zip(read, self.read, strict=True))
        n = len(batch[0])
        if stale or len(batch) != len(self.inputs) or n > len(self.inputs[0]):
            self.inputs, self.graph, self.n_warm = tuple(map(torch.empty_like, batch)), None, 0
        if n < len(self.inputs[0]):
            return super().__call__(*batch)
        if self.n_warm < self.WARM_UP:
            self.n_warm += 1
            return self._warm_up(*batch)
        for tensor, values in zip(self.inputs, batch, strict=True):
            tensor.copy_(values)
        if self.graph is None:
            self.graph, self.read = self._capture(), read
        self.graph.replay()
        return tuple(tensor.clone() for tensor in self.outputs)  # the next replay overwrites them

    def _warm_up(self, *batch):
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            terms = super().__call__(*batch)
        here.wait_stream(self.stream)
        return terms

    def _capture(self):
        """The graph of a step on `inputs`. Capturing runs nothing."""
        graph = torch.cuda.CUDAGraph()
        try:
            with CAPTURING:
                # Before, so that the graph takes a cuBLAS workspace from its own pool; after, so that no other
                # graph's end frees it (pytorch issue 193402).
                clear_cublas_workspaces()
                with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                    self.outputs = super().__call__(*self.inputs)
                clear_cublas_workspaces()
        except BaseException:
            self.optimizer.zero_grad()
            raise
        return graph


def captures_on(device):
    """Whether steps on this device are captured in graphs."""
    return torch.device(device).type == "cuda"


def make_step(module, objective, optimizer, *options):
    """The fastest step for where the module lies. Only `AdamW` is written to be captured."""
    is_captured = captures_on(module.shift.device) and isinstance(optimizer, AdamW)
    return (CUDAGraphStep if is_captured else Step)(module, objective, optimizer, *options)
