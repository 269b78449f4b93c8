"""How many components the linear model of some rows should have."""

import math

import torch

from .._data.rows import blocks, rows_per_block
from .._data.weights import bessel_factor, effective_n_rows
from .scatter import Scatter

MOST_COMPONENTS = 64  # that are tried
LOG_2PI = math.log(2 * math.pi)


def n_components_for_share(u, scale, share, weight=None):
    """The least number of PCA's components that explain more than this share of the variance in X's units.

    Parameters
    ----------
    u : Tensor of shape (n, p)
        Rows in units of `scale`, about their mean.
    scale : Tensor of shape (p,), float64
    share : float
    weight : Tensor of shape (n,) or None, default=None
    """
    scatter = Scatter.of(u, weight).weighted(scale.cpu())
    total, k = float(scatter.diagonal().sum()), min(u.shape)
    n = min(MOST_COMPONENTS, k)
    while True:
        explained = scatter.top(n)[0].cumsum(0)
        enough = (explained > share * total).nonzero()
        if len(enough) or n == k:
            return int(enough[0]) + 1 if len(enough) else 1  # without variance no component has a share
        n = min(4 * n, k)


def held_out_nats(train, test, is_unit, scale, floor, weight=None):
    """log p of test rows (n_test, K), in nats and in X's units, under probabilistic PCA of 1 to K components.

    The model is `probabilistic_pca` (Tipping and Bishop, 1999): eigenvalues divide by n - 1, and the noise variance is
    the mean of those left over. One eigendecomposition serves all numbers of components.

    Parameters
    ----------
    train, test : Tensor of shape (n, p)
        In units of `scale`.
    is_unit : bool
        Whether the noise variance is one.
    scale : Tensor of shape (p,), float64
    floor : float
        Least noise variance, as a share of the mean variance.
    weight : Tensor of shape (n_train,) or None, default=None
    """
    scale, (n, p) = scale.cpu(), train.shape
    scatter, correction = Scatter.of(train, weight).weighted(scale), bessel_factor(effective_n_rows(n, weight))
    k = min(MOST_COMPONENTS, max(min(n - 1, p) - 1, 1))  # so that a direction is left over for the noise
    values, vectors = scatter.top(k)
    total, values = correction * scatter.diagonal().sum(), correction * values
    left_over = p - torch.arange(1, k + 1, dtype=torch.float64)
    least = max(floor * float(total) / p, torch.finfo(torch.float64).tiny)
    noise = ((total - values.cumsum(0)) / left_over.clamp(min=1)).clamp(min=least)
    noise = torch.ones_like(noise) if is_unit else noise
    signal = torch.maximum(values, noise)
    constant = p * LOG_2PI + signal.log().cumsum(0) + left_over * noise.log()
    mean, nats = weighted_mean(train, weight), []
    for rows in blocks(len(test), rows_per_block(p)):
        x = (test[rows].cpu().double() - mean) * scale
        squares = (x @ vectors).square()
        left = (x.square().sum(1, keepdim=True) - squares.cumsum(1)).clamp(min=0)
        nats.append(-0.5 * (constant + (squares / signal).cumsum(1) + left / noise))
    return torch.cat(nats)


def weighted_mean(u, weight):
    """The mean (p,) of rows u (n, p) with weights (n,) or None."""
    weight = torch.ones(len(u), dtype=torch.float64) if weight is None else weight.cpu().double()
    return weight @ u.cpu().double() / weight.sum()
