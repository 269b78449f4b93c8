"""The only file that knows torch's private functions: each with a test for it, and a public way where it is gone."""

import torch
from torch.optim.adamw import adamw

_fused_kernel = getattr(torch, "_fused_adamw_", None)
_clear_workspaces = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)


def update_adamw(params, gradients, exp_avgs, exp_avg_sqs, steps, **options):
    """One update of AdamW, in place, by one call of the fused kernel.

    Parameters
    ----------
    params, gradients, exp_avgs, exp_avg_sqs : list of Tensor
    steps : list of Tensor of shape ()
        The number of steps, this one included. They may be one tensor several times.
    **options : dict
        lr, beta1, beta2, weight_decay, eps.
    """
    if _fused_kernel is not None:
        _fused_kernel(params, gradients, exp_avgs, exp_avg_sqs, [], steps, amsgrad=False, maximize=False, **options)
        return
    steps_before = [step - 1 for step in steps]  # torch's own function counts the step itself
    adamw(
        params, gradients, exp_avgs, exp_avg_sqs, [], steps_before, fused=True, amsgrad=False, maximize=False, **options
    )


def clear_cublas_workspaces():
    """Free the memory in which cuBLAS works; where torch has no such function, it keeps it."""
    if _clear_workspaces is not None:
        _clear_workspaces()
