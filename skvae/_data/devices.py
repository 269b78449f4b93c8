"""Devices by name."""

import torch


def resolve_device(device):
    """The torch device that the parameter `device` names.

    Raises
    ------
    ValueError
        If this machine does not have it, or it has no double precision, which rows of float64 are computed in.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device={device!r} is not available here, or cannot compute in float64: {error}") from error
    return device


def names_device(device):
    """Whether this is the name of a device that holds numbers, here or on another machine."""
    try:
        return torch.device(device).type != "meta"
    except RuntimeError:
        return False


def available_device(device):
    """The device, or the CPU if this machine does not have it, so that a GPU's model loads without a GPU."""
    try:
        return resolve_device(device)
    except ValueError:
        return "cpu"
