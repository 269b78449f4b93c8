"""The precision of the networks' matrix products in training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

PRECISIONS = ("float32", "tf32", "bf16")


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Allow or forbid tf32 in CUDA's float32 matrix products, and restore the setting at the end.

    The setting belongs to the process, not to the thread.
    """
    matmul = torch.backends.cuda.matmul
    has_new_name = hasattr(matmul, "fp32_precision")  # since torch 2.9
    before = matmul.fp32_precision if has_new_name else matmul.allow_tf32
    matmul.allow_tf32 = allowed  # sets both names; where they differ, torch.compile of 2.9 and 2.10 raises
    try:
        yield
    finally:
        matmul.allow_tf32 = before in (True, "tf32")
        if has_new_name:
            matmul.fp32_precision = before


def training_products(precision: str) -> AbstractContextManager[object]:
    """Context for a whole training step, including its backward pass."""
    return tf32_products(True) if precision == "tf32" else nullcontext()


def network_products(precision: str, device_type: str) -> AbstractContextManager[object]:
    """Context for a network in a training step."""
    return torch.autocast(device_type, torch.bfloat16) if precision == "bf16" else nullcontext()


def exact_products(precision: str) -> AbstractContextManager[object]:
    """Context for the linear path's forward pass, whose outputs are many units large, so tf32's error would show."""
    return tf32_products(False) if precision == "tf32" else nullcontext()
