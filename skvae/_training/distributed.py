"""One model trained by several processes, each on its share of every batch, by Hugging Face Accelerate.

Every process is given all rows, most sensibly as a mapped file, draws the same batches and takes every k-th row of
them; gradients are averaged. The steps are those of one process with the same batches, to rounding.
"""

import torch
from accelerate import Accelerator, AutocastKwargs, DistributedDataParallelKwargs
from accelerate.utils import broadcast, broadcast_object_list, reduce

from .net import VAENet
from .step import Step


def accelerator_for(params):
    """The Accelerator of this process: on its own GPU, or the CPU."""
    has_plug_in = any(not isinstance(option, str) for option in (params.encoder, params.decoder, params.likelihood))
    gradients = DistributedDataParallelKwargs(find_unused_parameters=has_plug_in)  # ours have no unused ones
    precision = AutocastKwargs(enabled=False)  # `precision` says it, and never for the linear maps
    return Accelerator(cpu=params.device == "cpu", kwargs_handlers=[gradients, precision], device_placement=False)


def of_first_process(value, params):
    """A number as the first process has it."""
    accelerator_for(params)  # the first one connects the processes
    return broadcast_object_list([value])[0]


class BatchShares:
    """One process's share of batches, with the number of rows of the whole batch."""

    def __init__(self, batches, rank, n_processes):
        self.batches, self.rows = batches, slice(rank, None, n_processes)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for u, eps, *weight in self.batches:
            own_weight = weight[0][self.rows] if weight else None
            yield u[self.rows], eps[..., self.rows, :], own_weight, len(u)


class DistributedStep(Step):
    """A step of which this process computes its share."""

    def __init__(self, n_processes, *args):
        super().__init__(*args)
        self.n_processes = n_processes

    def gradients(self, u, eps, weight=None, n_rows=None):
        n_rows = n_rows / self.n_processes  # the processes' gradients are averaged
        return super().gradients(u, eps, weight, n_rows)


class DistributedNet(VAENet):
    """A `VAENet` whose steps several processes share.

    skorch's `AccelerateMixin` wraps net.module_, which then lacks the VAE's attributes, and has data come from a
    DataLoader. Here the accelerator prepares the module of the training step alone (`DistributedDataParallel`, which
    averages gradients), and everything else knows the bare one.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    """

    def __init__(self, module, *args, accelerator, **kwargs):
        super().__init__(module, *args, **kwargs)
        self.accelerator = accelerator

    def _make_step(self, *options):
        prepared = self.accelerator.prepare(self.module_)
        return DistributedStep(self.accelerator.num_processes, prepared, *options)

    def get_iterator(self, dataset, training=False, weight=None):
        batches = super().get_iterator(dataset, training, weight)
        return BatchShares(batches, self.accelerator.process_index, self.accelerator.num_processes)

    def _over_processes(self, totals, n_rows):
        return reduce(totals, "sum"), int(reduce(torch.tensor(n_rows, device=self.own_device), "sum"))

    def score_rows(self, *args, **kwargs):
        """Each process scores all rows; the means are the same in each, so that they decide alike."""
        return reduce(super().score_rows(*args, **kwargs), "mean")

    def fit_loop(self, *args, **kwargs):
        for tensor in self.state_tensors:
            tensor.copy_(broadcast(tensor))  # starts may differ in rounding
        return super().fit_loop(*args, **kwargs)
