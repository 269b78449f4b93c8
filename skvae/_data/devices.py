"""Devices by name."""

import torch


def resolve_device(device):
    """The torch device that the parameter names.

    Raises
    ------
    ValueError
        If this machine lacks it.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device!r} is not available here: {error}") from error
    return device


def available_device(device):
    """That device, or the CPU where this machine lacks it: what was fitted on a GPU loads without one."""
    try:
        return resolve_device(device)
    except ValueError:
        return "cpu"
