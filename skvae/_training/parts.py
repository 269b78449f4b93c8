"""The rows of a fit on the net's device: those that it trains on and those that it is validated on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .._data.groups import share_of_group
from .._data.rows import UnevenRows
from .batches import StreamedRows


@dataclass(frozen=True)
class Part:
    """Some rows on the device, with their weights and groups."""

    u: Any  # Tensor (n, p) or (n, 2, p), or StreamedRows, standardised
    weight: torch.Tensor | None = None  # (n,)
    groups: torch.Tensor | None = None  # (n,), numbered from 0

    def __len__(self):
        return len(self.u)

    def split(self, sizes):
        """Parts of so many rows each, which share memory with this one."""
        fields = [(None,) * len(sizes) if f is None else f.split(sizes) for f in (self.u, self.weight, self.groups)]
        return [Part(*values) for values in zip(*fields, strict=True)]

    @property
    def n_independent(self):
        """How many of the rows are not copies of each other."""
        return len(self) if self.groups is None else len(self.groups.unique())

    @property
    def weight_of_groups(self):
        """The weights if each group counts for one row."""
        if self.groups is None:
            return self.weight
        share = torch.from_numpy(share_of_group(self.groups.cpu().numpy())).to(self.u.device)
        return share if self.weight is None else share * self.weight


def parts_of(net, data):
    """All rows, the rows of the first phase, and the validation rows or None, as `Part`s that share their memory."""
    held_out = data.held_out
    n_held_out = 0 if held_out is None else len(held_out)
    order = None if held_out is None else np.append(np.setdiff1d(np.arange(len(data)), held_out), held_out)
    of_rows = (values_on_device(net, values, order) for values in (data.weight, data.groups))
    all_rows = Part(to_device(net, data.rows, order, data.is_uneven), *of_rows)
    if data.validation is not None:
        return all_rows, all_rows, Part(to_device(net, data.validation, is_uneven=data.is_uneven))
    if held_out is None:
        return all_rows, all_rows, None
    return all_rows, *all_rows.split([len(data) - n_held_out, n_held_out])


def to_device(net, rows, order=None, is_uneven=False):
    """The rows, standardised, in this order: a tensor on the net's device, or StreamedRows."""
    module, ordered = net.module_, rows if order is None else rows.select(order)
    u = StreamedRows(UnevenRows(ordered) if is_uneven else ordered, module.shift, module.scale, net.own_device)
    return u if rows.is_streamed_to(net.own_device) else u.resident()


def values_on_device(net, values, order=None):
    """Values (n,) of the rows, in this order, as a tensor on the net's device; None stays None."""
    if values is None:
        return None
    return torch.from_numpy(values if order is None else values[order]).to(net.own_device)


def with_mean_one(weight):
    return None if weight is None else (weight / weight.mean()).float()
