"""Devices by their names, and what each can do."""

from math import inf

import torch


def resolve_device(device):
    """The torch device that the parameter `device` names.

    Raises
    ------
    ValueError
        If this machine does not have it, or if it cannot compute in double precision, as rows of float64 ask for.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device={device!r} is not available here, or cannot compute in float64: {error}") from error
    return device


def device_module(device):
    """What torch has for a kind of device, such as `torch.cuda`, or None."""
    return getattr(torch, torch.device(device).type, None)


def captures_on(device):
    """Whether the work of this device can be captured in graphs."""
    return hasattr(device_module(device), "CUDAGraph")


def memory_of(device):
    """Bytes of memory of the device's own; infinite where it computes in the host's."""
    module = device_module(device)
    return module.get_device_properties(device).total_memory if hasattr(module, "get_device_properties") else inf


def names_device(device):
    """Whether this names a device that can hold numbers, on this machine or another."""
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
