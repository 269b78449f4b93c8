r"""The linear-Gaussian optimum of rows with missing values, by expectation maximisation.

`MissingValueConditional` describes the model and its posterior for such a row. An iteration computes E[z~ z~^T | u_S],
z~ = (z, 1), for each row and regresses each feature's measured values on z~ (Rubin and Thayer, 1982; Ilin and Raiko,
Practical approaches to principal component analysis in the presence of missing values, 2010). The covariance of z is a
parameter of the iteration, which the loadings then absorb (PX-EM: Liu, Rubin and Wu, 1998). Without it, EM would take
thousands of steps where the noise is small.
"""

import math

import torch

from .._data.rows import blocks, evenly_spread, rows_per_block
from .._model.missing_values import MissingValueConditional

# Maximum number of rows in an iteration: the result is only a start, and costs rows x features x components^2.
ROWS = 20_000
# Maximum number of features in `pairwise_start`, as it costs rows x features^2.
FEATURES = 1024
LOG_2PI = math.log(2 * math.pi)


class _Moments:
    """The sums over the measured values that an iteration needs, and the log-likelihood of these values."""

    def __init__(self, u, weight, loadings, mean, noise):
        p, d = loadings.shape
        zeros = lambda *shape: torch.zeros(shape, dtype=torch.float64, device=u.device)  # noqa: E731
        self.pairs = zeros(p, (d + 1) ** 2)  # E[z~ z~^T], summed over the rows that have the feature
        self.cross, self.square, self.count = zeros(p, d + 1), zeros(p), zeros(p)
        self.latent = zeros((d + 1) ** 2)  # E[z~ z~^T], summed over all rows
        self.log_likelihood = 0.0
        log_noise = noise.log() + LOG_2PI
        for block in blocks(len(u), rows_per_block(p + 2 * (d + 1) ** 2, u.device)):
            rows, w = u[block].double(), weight[block]
            given = MissingValueConditional(rows, loadings, mean, noise)
            measured = given.measured.double()
            residual = torch.where(given.measured, rows - mean, 0.0)
            one = torch.ones_like(given.mean[:, :1])
            z = torch.cat([given.mean, one], dim=1)
            pairs = z.unsqueeze(2) * z.unsqueeze(1)
            pairs[:, :d, :d] += torch.cholesky_inverse(given.factor)
            pairs, of_row = pairs.flatten(1), w.unsqueeze(1)
            self.pairs.addmm_((of_row * measured).T, pairs)
            self.cross.addmm_((of_row * residual).T, z)
            self.square += w @ residual.square()
            self.count += w @ measured
            self.latent += w @ pairs
            log_det = 2 * given.factor.diagonal(dim1=1, dim2=2).log().sum(1)
            explained = (given.factor.mT @ given.mean.unsqueeze(2)).square().sum((1, 2))
            exponent = residual.square() @ (1 / noise) - explained
            self.log_likelihood -= 0.5 * (w @ (measured @ log_noise + log_det + exponent)).item()


def regular(moments, of):
    """Moments (..., d, d) with their diagonal raised by 1e-12 of the diagonal of `of`, which they were computed from.

    Rounding then cannot make them singular. They are nearly singular where one row, far from the others, has nearly all
    the weight of the rows with a feature.
    """
    return moments + 1e-12 * torch.diag_embed(of.diagonal(dim1=-2, dim2=-1))


def pairwise_start(u, weight, d, floor):
    """Loadings and noise from the principal components of the pairwise covariance.

    The covariance of two features is taken over the rows that have both. If a block of features that many rows lack
    were filled with means, this would invent a component, which EM might then keep. Of many features, evenly spread
    ones are taken, and EM's first step gives the others their loadings.
    """
    taken = slice(None, None, -(-u.shape[1] // FEATURES))
    p = len(range(u.shape[1])[taken])
    square, count = (torch.zeros(p, p, dtype=torch.float64, device=u.device) for _ in range(2))
    for block in blocks(len(u), rows_per_block(p, u.device)):
        rows = u[block][:, taken].double()
        measured, rows = weight[block].unsqueeze(1) * ~rows.isnan(), rows.nan_to_num(0.0)
        square.addmm_(rows.T, weight[block].unsqueeze(1) * rows)
        count.addmm_((measured > 0).double().T, measured)
    covariance = torch.where(count > 0, square / count.clamp(min=1e-300), 0.0)
    values, vectors = (part.flip(-1)[..., :d] for part in torch.linalg.eigh(covariance))
    loadings, noise = square.new_zeros(u.shape[1], d), square.new_ones(u.shape[1])
    loadings[taken, : len(values)] = vectors * values.clamp(min=0).sqrt()
    noise[taken] = (covariance.diagonal() - loadings[taken].square().sum(1)).clamp(min=max(floor, 1e-4))
    return loadings, noise


def em_with_missing_values(u, weight, start, noise_shape, unit, floor, **options):
    """Maximum likelihood for the measured values, from the better of two starts, as there are several maxima.

    Parameters
    ----------
    u : Tensor of shape (n, p), or StreamedRows
        NaN where a value is missing.
    weight : Tensor of shape (n,) or None
    start : tuple of Tensor
        Loadings (p, d) and noise variances (p,) to begin with, at mean zero; the other start is `pairwise_start`.
    noise_shape : Tensor of shape (p,) or None
        Noise variances up to a common factor. With None, each of them is free.
    unit : bool
        Whether the common factor is one.
    floor : float
        Least noise variance, or least common factor.
    **options : dict
        Options of `_expectation_maximisation`.

    Returns
    -------
    loadings : Tensor of shape (p, d)
    noise_variance : Tensor of shape (p,)
    mean : Tensor of shape (p,)
    """
    rows = evenly_spread(len(u), ROWS)
    u = u[rows]
    weight = torch.ones(len(u), dtype=torch.float64, device=u.device) if weight is None else weight[rows].double()
    noise_shape = None if noise_shape is None else noise_shape.to(u.device)
    d = start[0].shape[1]
    loadings, noise = pairwise_start(u, weight, d, floor)
    if noise_shape is None:  # noise per feature may fit some features exactly, isotropic noise does not
        one_for_all = torch.ones_like(noise)
        fit = _expectation_maximisation(u, weight, loadings, noise, one_for_all, unit, floor, **options)
        loadings, noise = fit[1:3]
    elif unit:
        noise = noise_shape
    starts = [tensor.to(u.device) for tensor in start], (loadings, noise)
    fits = [_expectation_maximisation(u, weight, W, v, noise_shape, unit, floor, **options) for W, v in starts]
    return [tensor.cpu() for tensor in max(fits, key=lambda fit: fit[0])[1:]]


def _expectation_maximisation(u, weight, loadings, noise, noise_shape, unit, floor, tol=1e-3, max_iter=300):
    """Iterate until a step gains less than tol nats per row; return nats per row, loadings, noise and mean."""
    mean, d, best = torch.zeros_like(noise), loadings.shape[1], -math.inf
    for _ in range(max_iter):
        moments = _Moments(u, weight, loadings, mean, noise)
        previous, best = best, moments.log_likelihood / weight.sum().item()
        if best - previous < tol:
            break
        pairs = moments.pairs.unflatten(1, (d + 1, d + 1))
        lacking = moments.count == 0  # features that none of these rows has
        pairs[lacking] = torch.eye(d + 1, dtype=pairs.dtype, device=pairs.device)
        coefficients = torch.linalg.solve(regular(pairs, pairs), moments.cross.unsqueeze(2)).squeeze(2)  # (p, d + 1)
        squares = (moments.square - (coefficients * moments.cross).sum(1)).clamp(min=0)
        if noise_shape is None:
            noise = torch.where(lacking, 1.0, squares / moments.count).clamp(min=floor)
        elif not unit:
            noise = noise_shape * max((squares / noise_shape).sum() / moments.count.sum(), floor)
        latent = (moments.latent / weight.sum()).unflatten(0, (d + 1, d + 1))
        square, centre = latent[:d, :d], latent[:d, d]
        root = torch.linalg.cholesky(regular(square - torch.outer(centre, centre), square))
        loadings, offset = coefficients.split([d, 1], dim=1)
        mean = mean + offset.squeeze(1) + loadings @ centre
        loadings = loadings @ root
    return best, loadings, noise, mean
