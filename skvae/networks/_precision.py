"""The precision of the networks' matrix products in training."""

from contextlib import contextmanager, nullcontext

import torch

PRECISIONS = ("float32", "tf32", "bf16")


@contextmanager
def float32_products(precision):
    """Do float32 matrix products as torch.set_float32_matmul_precision says, and put that back at the end.

    The setting is the process's, not the thread's.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def training_products(precision):
    """Around a whole training step, its backward pass included."""
    return float32_products("high") if precision == "tf32" else nullcontext()


def network_products(precision, device_type):
    """Around a network, in a training step."""
    return torch.autocast(device_type, torch.bfloat16) if precision == "bf16" else nullcontext()


def exact_products(precision):
    """Around the linear path: its outputs are many of its units long, and a relative error of theirs would show."""
    return float32_products("highest") if precision == "tf32" else nullcontext()
