"""Devices by name."""

import torch


def resolve_device(device):
    """The torch device that the parameter `device` names.

    Raises
    ------
    ValueError
        If this machine does not have it.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device!r} is not available here: {error}") from error
    return device


def available_device(device):
    """The device, or the CPU if this machine does not have it, so that a GPU's model loads without a GPU."""
    try:
        return resolve_device(device)
    except ValueError:
        return "cpu"
