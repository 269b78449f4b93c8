r"""The linear-Gaussian optimum of rows whose values have precisions of their own, by expectation maximisation.

`LinearConditional` describes the model and its posterior for such a row. An iteration computes E[z~ z~^T | u_i],
z~ = (z, 1), for each row and regresses each feature's values on z~, weighted by their precisions
w_ij = 1 / (v_j + s_ij^2), where v_j is the noise and s_ij the value's error, infinite where it is missing (Rubin and
Thayer, 1982; Ilin and Raiko, Practical approaches to principal component analysis in the presence of missing values,
2010; Bovy, Hogg and Roweis, Extreme deconvolution, 2011; Bailey, Principal component analysis with noisy and/or missing
data, 2012). With the expected squares q_ij of what is left, v_j <- v_j sum_i(w_ij^2 q_ij) / sum_i(w_ij), whose fixed
point is the likelihood's (Zhou et al., MM algorithms for variance components models, 2019): this is EM's own step where
the errors are 0 or infinite, and a faster one elsewhere. The covariance of z is a parameter of the iteration, which the
loadings then absorb (PX-EM: Liu, Rubin and Wu, 1998). Without it, EM would take thousands of steps where the noise is
small.
"""

import math

import torch

from .._data.rows import blocks, evenly_spread, rows_per_block, values_and_errors
from .._model.laplace import log_height
from .._model.value_precisions import LinearConditional
from ..likelihoods._student_t import t_log_density

MOST_ROWS = 20_000  # in an iteration: the result is only a start, and costs rows x features x components^2
MOST_FEATURES = 1024  # in `pairwise_start`, as it costs rows x features^2
DEGREES_OF_FREEDOM = torch.cat([torch.linspace(2.6, 5, 9), torch.logspace(0.8, 2.3, 16)]).double()  # that are tried
LEAST_AT_START = 5.0  # degrees of freedom: training learns tails, but no curve that was taken for tails
N_FIRST_SQUARES = 5  # iterations that only find the squares
MOST_SQUARES = 100_000  # that tell which degrees of freedom are likely


class _Sums:
    """Sums over the rows for each feature, with weights (n, p) of the values."""

    def __init__(self, p, n_latents, device):
        zeros = lambda *shape: torch.zeros(shape, dtype=torch.float64, device=device)  # noqa: E731
        self.pairs = zeros(p, n_latents**2)  # E[z~ z~^T]
        self.cross, self.square, self.total = zeros(p, n_latents), zeros(p), zeros(p)

    def add(self, weight, residual, z, pairs):
        weighted = weight * residual
        self.pairs.addmm_(weight.T, pairs)
        self.cross.addmm_(weighted.T, z)
        self.square += (weighted * residual).sum(0)
        self.total += weight.sum(0)

    def squares(self, coefficients):
        """Of what is left of the values when they are regressed on z~ with these coefficients (p, d + 1)."""
        fitted = (self.pairs.unflatten(1, (-1, coefficients.shape[1])) @ coefficients.unsqueeze(2)).squeeze(2)
        return (self.square - 2 * (coefficients * self.cross).sum(1) + (coefficients * fitted).sum(1)).clamp(min=0)


class Tails:
    """What EM keeps of values (n, p) with a t distribution: their expected squares in units of the scale.

    The posterior of z and of the values' precisions is taken to be a product (Lange, Little and Taylor, 1989; Liu and
    Rubin, 1995): a precision's mean is (nu + 1) / (nu + q) of the scale's, for the expected square q.
    """

    def __init__(self, u, nu=5.0):
        self.squares = torch.ones(u.shape[0], u.shape[-1], device=u.device)
        self.nu = torch.tensor(nu, dtype=torch.float64, device=u.device)

    def weights(self, block):
        return (self.nu + 1) / (self.nu + self.squares[block].double())

    def fit_degrees_of_freedom(self, measured, weight):
        """ECME's step, from about `MOST_SQUARES` of the squares of measured values, in rows with these weights."""
        step = -(-self.squares.numel() // MOST_SQUARES)
        squares, one = self.squares[::step].double(), torch.ones((), dtype=torch.float64, device=weight.device)
        weights = weight[::step].unsqueeze(1) * measured[::step]
        likely = [(weights * t_log_density(squares, one, nu)).sum() for nu in DEGREES_OF_FREEDOM.to(weight.device)]
        self.nu = DEGREES_OF_FREEDOM[torch.stack(likely).argmax()].to(weight.device)


class _Moments:
    """The sums over the values that an iteration needs, and the log-likelihood of these values (or a bound on it)."""

    def __init__(self, u, weight, loadings, mean, noise, tails=None):
        p, d = loadings.shape
        self.by_precision, self.by_square = (_Sums(p, d + 1, u.device) for _ in range(2))
        self.total = torch.zeros_like(noise)  # of 1 / (v + s^2)
        self.latent = torch.zeros((d + 1) ** 2, dtype=torch.float64, device=u.device)  # E[z~ z~^T], over all rows
        self.count = torch.zeros_like(noise)  # of the rows that have the feature
        self.log_likelihood = 0.0
        for block in blocks(len(u), rows_per_block(2 * p + 2 * (d + 1) ** 2, u.device)):
            (values, errors), w = values_and_errors(u[block].double()), weight[block].unsqueeze(1)
            variance, residual = noise + errors, values - mean
            if tails is not None:  # a value far out counts like one with an error
                errors = torch.where(errors.isinf(), errors, variance / tails.weights(block) - noise)
            given = LinearConditional(values, errors, loadings, mean, noise)
            z = torch.cat([given.mean, torch.ones_like(given.mean[:, :1])], dim=1)
            pairs = z.unsqueeze(2) * z.unsqueeze(1)
            pairs[:, :d, :d] += torch.cholesky_inverse(given.factor)
            pairs = pairs.flatten(1)
            self.by_precision.add(w * given.precision, residual, z, pairs)
            self.by_square.add(w * given.precision / variance, residual, z, pairs)
            self.total += (w / variance).sum(0)
            self.latent += (w * pairs).sum(0)
            self.count += (w * (given.precision > 0)).sum(0)
            half_log_det = given.factor.diagonal(dim1=1, dim2=2).log().sum(1)
            explained = (given.factor.mT @ given.mean.unsqueeze(2)).square().sum((1, 2))
            exponent = (given.precision * residual.square()).sum(1) - explained
            log_likelihood = log_height(given.precision) - half_log_det - 0.5 * exponent
            if tails is not None:
                log_likelihood = self._bound(given, residual, variance, loadings, half_log_det, tails, block)
            self.log_likelihood += (weight[block] @ log_likelihood).item()

    @staticmethod
    def _bound(given, residual, variance, loadings, half_log_det, tails, block):
        """The bound (n,) on log p(u_i). Its expected squares are kept in `tails`."""
        covariance = torch.cholesky_inverse(given.factor)
        spread = covariance.flatten(1) @ (loadings.unsqueeze(2) * loadings.unsqueeze(1)).flatten(1).T
        measured = variance.isfinite()
        c = torch.where(measured, variance, 1.0)
        square = (residual - given.mean @ loadings.T).square() + spread
        tails.squares[block] = torch.where(measured, square / c, 1.0).float()
        kl = half_log_det + 0.5 * (
            covariance.diagonal(dim1=1, dim2=2).sum(1) + given.mean.square().sum(1) - loadings.shape[1]
        )
        return torch.where(measured, t_log_density(square, c, tails.nu), 0.0).sum(1) - kl


def regular(moments, of):
    """Moments (..., d, d) with their diagonal raised by 1e-12 of the diagonal of `of`, which they were computed from.

    Rounding then cannot make them singular. They are nearly singular where one row, far from the others, has nearly all
    the weight of the rows with a feature.
    """
    return moments + 1e-12 * torch.diag_embed(of.diagonal(dim1=-2, dim2=-1))


def pairwise_start(u, weight, d, floor):
    """Loadings and noise from the principal components of the pairwise covariance.

    The covariance of two features is taken over the rows that have both, each value weighted by 1 / (1 + s^2). If a
    block of features that many rows lack were filled with means, this would invent a component, which EM might then
    keep. Of many features, evenly spread ones are taken, and EM's first step gives the others their loadings.
    """
    taken = slice(None, None, -(-u.shape[-1] // MOST_FEATURES))
    p = len(range(u.shape[-1])[taken])
    square, count = (torch.zeros(p, p, dtype=torch.float64, device=u.device) for _ in range(2))
    for block in blocks(len(u), rows_per_block(p, u.device)):
        values, errors = values_and_errors(u[block][..., taken].double())
        w, share = weight[block].unsqueeze(1), 1 / (1 + errors)
        square.addmm_((share * values).T, w * share * values)
        count.addmm_(share.T, w * share)
    covariance = torch.where(count > 0, square / count.clamp(min=1e-300), 0.0)
    values, vectors = (part.flip(-1)[..., :d] for part in torch.linalg.eigh(covariance))
    loadings, noise = square.new_zeros(u.shape[-1], d), square.new_ones(u.shape[-1])
    loadings[taken, : len(values)] = vectors * values.clamp(min=0).sqrt()
    noise[taken] = (covariance.diagonal() - loadings[taken].square().sum(1)).clamp(min=max(floor, 1e-4))
    return loadings, noise


def em_with_tails(u, weight, start, noise_shape, floor, **options):
    """`em_with_precisions` for values with a t distribution of one scale, from one start; and its degrees of freedom.

    The noise variance is the t distribution's, nu / (nu - 2) of the squared scale.
    """
    rows = evenly_spread(len(u), MOST_ROWS)
    u = u[rows]
    if u.ndim == 2:
        u = torch.stack([u, torch.zeros_like(u)], dim=1)
    weight = torch.ones(len(u), dtype=torch.float64, device=u.device) if weight is None else weight[rows].double()
    tails, (loadings, noise, shape) = Tails(u), (tensor.to(u.device) for tensor in (*start, noise_shape))
    fit = _expectation_maximisation(u, weight, loadings, noise, shape, False, floor, tails=tails, **options)
    loadings, noise, mean, effective = [tensor.cpu() for tensor in fit[1:]]
    nu = tails.nu.item()
    return loadings, noise * (nu / (nu - 2)), mean, effective, max(nu, LEAST_AT_START)


def em_with_precisions(u, weight, start, noise_shape, is_given, floor, **options):
    """Maximum likelihood for the values, from the better of two starts, as there are several maxima.

    Parameters
    ----------
    u : Tensor of shape (n, 2, p), or StreamedRows
        Values and the variances of their errors.
    weight : Tensor of shape (n,) or None
    start : tuple of Tensor
        Loadings (p, d) and noise variances (p,) to begin with, at mean zero; the other start is `pairwise_start`.
    noise_shape : Tensor of shape (p,) or None
        Noise variances up to a common factor. With None, each of them is free.
    is_given : bool
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
    effective : Tensor of shape (p,)
        Harmonic mean over the rows of the variance of noise and error.
    """
    rows = evenly_spread(len(u), MOST_ROWS)
    u = u[rows]
    weight = torch.ones(len(u), dtype=torch.float64, device=u.device) if weight is None else weight[rows].double()
    noise_shape = None if noise_shape is None else noise_shape.to(u.device)
    d = start[0].shape[1]
    loadings, noise = pairwise_start(u, weight, d, floor)
    if noise_shape is None:  # noise per feature may fit some features exactly, isotropic noise does not
        one_for_all = torch.ones_like(noise)
        fit = _expectation_maximisation(u, weight, loadings, noise, one_for_all, is_given, floor, **options)
        loadings, noise = fit[1:3]
    starts = [tensor.to(u.device) for tensor in start], (loadings, noise)
    fits = [_expectation_maximisation(u, weight, W, v, noise_shape, is_given, floor, **options) for W, v in starts]
    return [tensor.cpu() for tensor in max(fits, key=lambda fit: fit[0])[1:]]


def _expectation_maximisation(
    u, weight, loadings, noise, noise_shape, is_given, floor, tol=1e-3, max_iter=300, tails=None
):
    """Iterate until a step gains less than tol nats per row; return nats per row and `em_with_precisions`' results."""
    mean, d, best = torch.zeros_like(noise), loadings.shape[1], -math.inf
    if is_given:
        noise = noise_shape
    elif noise_shape is not None:
        noise = noise_shape * (noise / noise_shape).mean()
    for _ in range(0 if tails is None else N_FIRST_SQUARES):  # so that values far out are known before they are used
        _Moments(u, weight, loadings, mean, noise, tails)
    for _ in range(max_iter):
        moments = _Moments(u, weight, loadings, mean, noise, tails)
        previous, best = best, moments.log_likelihood / weight.sum().item()
        if best - previous < tol:
            break
        by_precision, by_square = moments.by_precision, moments.by_square
        lacking = moments.count == 0  # features that were measured in none of these rows
        pairs = by_precision.pairs.unflatten(1, (d + 1, d + 1)).clone()
        pairs[lacking] = torch.eye(d + 1, dtype=pairs.dtype, device=pairs.device)
        coefficients = torch.linalg.solve(regular(pairs, pairs), by_precision.cross.unsqueeze(2)).squeeze(2)
        squares, total = by_square.squares(coefficients), moments.total
        if tails is not None:
            tails.fit_degrees_of_freedom(u[:, 1].isfinite(), weight)
        if noise_shape is None:
            noise = torch.where(lacking, 1.0, noise * squares / total).clamp(min=floor)
        elif not is_given:
            precision = (noise_shape * total).sum().clamp(min=1e-300)  # 0 where errors drown all values
            noise = noise * ((noise_shape * squares).sum() / precision)
            noise = torch.maximum(noise, floor * noise_shape)
        latent = (moments.latent / weight.sum()).unflatten(0, (d + 1, d + 1))
        square, centre = latent[:d, :d], latent[:d, d]
        root = torch.linalg.cholesky(regular(square - torch.outer(centre, centre), square))
        loadings, offset = coefficients.split([d, 1], dim=1)
        mean = mean + offset.squeeze(1) + loadings @ centre
        loadings = loadings @ root
    effective = torch.where(moments.count > 0, moments.count / moments.by_precision.total, 1.0)
    return best, loadings, noise, mean, effective
