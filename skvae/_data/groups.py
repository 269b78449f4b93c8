"""Groups of rows that belong together, such as the scans of one sample."""

import numpy as np
from sklearn.utils import column_or_1d

from .arrays import to_numpy


def check_groups(groups, n_rows):
    """Groups of shape (n_rows,), numbered from 0 in the order of their first rows, or None.

    Raises
    ------
    ValueError
        If there is not one label per row, or all labels are the same.
    """
    if groups is None:
        return None
    groups = column_or_1d(to_numpy(groups) if hasattr(groups, "shape") else groups)
    if len(groups) != n_rows:
        raise ValueError(f"groups has {len(groups)} labels, but X has {n_rows} rows.")
    if groups.dtype.kind == "f" and not np.isfinite(groups).all():
        raise ValueError("groups must have a label for each row, but has NaN or infinity.")
    groups = numbered(groups)
    if n_rows > 1 and not groups.any():
        raise ValueError("groups has one label for all rows, so that none can be held out.")
    return groups


def numbered(labels):
    """The groups that labels (n,) of any kind make, numbered from 0 in the order of their first rows."""
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def share_of_group(groups):
    """What each row counts for if each group counts for one, shape (n,)."""
    return 1 / np.bincount(groups)[groups]
