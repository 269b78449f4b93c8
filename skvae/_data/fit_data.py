"""What a fit is given: its rows and what is known of them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .groups import numbered, share_of_group
from .rows import Rows

FEW_VALIDATION_ROWS = 8  # fewer validation rows, or groups of them, say too little of new rows


@dataclass(frozen=True)
class FitData:
    """The rows that a model is fitted to, their weights and groups, and the rows that it is validated on."""

    rows: Rows
    weight: NDArray[np.floating] | None = None  # (n,), positive; None where all are one
    is_uneven: bool = False  # whether values of the rows, those of `validation` included, are missing or have errors
    groups: NDArray[np.integer] | None = None  # (n,), numbered from 0 in the order of their first rows
    held_out: NDArray[np.integer] | None = None  # places of the validation rows among `rows`; None: not chosen yet
    validation: Rows | None = None  # validation rows that are not among `rows`
    n_left_out: int = 0  # rows of weight 0, or without a value

    def __len__(self):
        return len(self.rows)

    @property
    def has_enough_validation_rows(self):
        """Whether there are validation rows, and enough of them to tell how new rows fare."""
        if self.validation is not None:
            return len(self.validation) >= FEW_VALIDATION_ROWS
        held_out = np.arange(0) if self.held_out is None else self.held_out
        return len(held_out if self.groups is None else np.unique(self.groups[held_out])) >= FEW_VALIDATION_ROWS

    def parts(self):
        """The training rows and the validation rows, and what each row counts for if each group counts for one."""
        share = np.ones(len(self)) if self.groups is None else share_of_group(self.groups)
        if self.validation is not None:
            return [(self.rows, share), (self.validation, np.ones(len(self.validation)))]
        is_held_out = np.zeros(len(self), dtype=bool)
        is_held_out[self.held_out] = True
        places = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        return [(self.rows.select(part), share[part]) for part in places]

    def select(self, is_kept):
        """The rows for which `is_kept` (n,) is true, with their weights, groups and places."""
        kept, held_out = np.flatnonzero(is_kept), self.held_out
        weight = None if self.weight is None else self.weight[kept]
        return replace(
            self,
            rows=self.rows.select(kept),
            n_left_out=len(self) - len(kept),
            weight=None if weight is None or (weight == 1).all() else weight,
            groups=None if self.groups is None else numbered(self.groups[kept]),
            held_out=None if held_out is None else (np.cumsum(is_kept) - 1)[held_out[is_kept[held_out]]],
        )
