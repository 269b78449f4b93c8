"""One training step on a batch, eager or compiled. Nothing is read from the device."""

import torch

from ..networks import training_products
from ..objectives import ModelOutput
from .adamw import AdamW
from .pullback import add_gradients, is_by_hand


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
        self.may_be_by_hand = precision != "bf16" and not compiled
        self.is_by_hand = False  # until an epoch begins
        self.kl_scale = kl_scale

    def gradients(self, u, eps, weight=None, n_rows=None):
        """Fill the parameters' gradients; return objective and KL of each row, times its weight.

        The mean is the sum over `n_rows`, by default the batch's.
        """
        n = len(u) if n_rows is None else n_rows
        row_weight = u.new_full((len(u),), -1 / n) if weight is None else -weight / n  # of minus the mean
        with training_products(self.precision):
            if self.is_by_hand and u.ndim == eps.ndim == 2:  # complete rows, one draw of each
                objective, kl = add_gradients(self.module, self.objective, u, eps, self.kl_scale, row_weight)
            else:
                objective, kl = self.objective_and_kl(self.module, self.objective, u, eps, self.kl_scale)
                objective.backward(row_weight)
        objective, kl = objective.detach(), kl.detach()
        return (objective, kl) if weight is None else (objective * weight, kl * weight)

    def begin_epoch(self):
        """Take up what Python, such as a callback, changed since the last epoch. No gradient is left from it."""
        self.is_by_hand = self.may_be_by_hand and is_by_hand(self.module, self.objective)
        self.optimizer.zero_grad()

    def release(self):
        """Give back the memory that is held for further steps."""

    def __call__(self, *batch):
        """Take the step; return what `gradients` does, before it."""
        objective, kl = self.gradients(*batch)
        if isinstance(self.optimizer, AdamW):
            self.optimizer.update()
        else:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return objective, kl
