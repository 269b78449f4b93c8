"""The precision of the networks' matrix products in training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

PRECISIONS = ("float32", "tf32", "bf16")


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Allow tf32 in CUDA's matrix products of float32, or not, and put the setting back at the end.

    It is the process's, not the thread's.
    """
    matmul = torch.backends.cuda.matmul
    value: str | bool
    if hasattr(matmul, "fp32_precision"):  # since torch 2.9, where the older name raises once this one was used
        name, value = "fp32_precision", "tf32" if allowed else "ieee"
    else:
        name, value = "allow_tf32", allowed
    before = getattr(matmul, name)
    setattr(matmul, name, value)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def training_products(precision: str) -> AbstractContextManager[object]:
    """Around a whole training step, its backward pass included."""
    return tf32_products(True) if precision == "tf32" else nullcontext()


def network_products(precision: str, device_type: str) -> AbstractContextManager[object]:
    """Around a network, in a training step."""
    return torch.autocast(device_type, torch.bfloat16) if precision == "bf16" else nullcontext()


def exact_products(precision: str) -> AbstractContextManager[object]:
    """Around the linear path's forward pass: its outputs are many units long, so a relative error of theirs shows."""
    return tf32_products(False) if precision == "tf32" else nullcontext()
