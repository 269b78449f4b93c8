"""How much a row determines its own fitted values, and so what leaving it out would do to its residuals."""

import torch

from .._data.weights import effective_n_rows

MOST_LEVERAGE = 0.9  # a row that alone determines a component says nothing of other rows


def leverages(z, weight=None, groups=None):
    """Leverage of each row in a linear model with these latents and an intercept, at most `MOST_LEVERAGE`.

    A residual is 1 / (1 - h) times as large if its row was left out (Belsley, Kuh and Welsch, Regression
    diagnostics, 1980, chapter 2). The leverage of a row with copies is the sum over its group, as they are left out
    together.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    weight : Tensor of shape (n,) or None
    groups : Tensor of int of shape (n,) or None
        Numbered from 0.
    """
    w = torch.ones_like(z[:, 0]) if weight is None else weight * (effective_n_rows(len(z), weight) / weight.sum())
    z = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
    scatter = (w[:, None] * z).T @ z
    h = (z @ torch.linalg.pinv(scatter, hermitian=True) * z).sum(1)
    if groups is not None:
        h = sums_of_groups(h, groups)[groups]
    return h.clamp(0, MOST_LEVERAGE)


def sums_of_groups(values, groups):
    """Sums of values (n,) over the rows of each group, shape (number of groups,)."""
    return values.new_zeros(int(groups.max()) + 1).index_add(0, groups, values)
