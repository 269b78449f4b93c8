r"""The linear-Gaussian optimum, in closed form, as the point where training starts.

x = W z + m + e, z ~ N(0, I), e ~ N(0, Psi). Psi = sigma^2 I is probabilistic PCA (Tipping and Bishop,
1999), whose optimum is an eigendecomposition; Psi diagonal is factor analysis (Rubin and Thayer, EM
algorithms for ML factor analysis, 1982). z | x has precision P = I + W^T Psi^-1 W and mean
P^-1 W^T Psi^-1 (x - m); W is rotated so that P is diagonal, and then as the posterior family asks.

Everything is in the network's units u = (x - shift) / scale and in float64; rows are summed on their device, what
is of the columns' size is solved on the CPU, where iterations need not wait for a GPU's answers.
"""

from dataclasses import dataclass

import torch

from ._eigen import largest
from ._linear_gaps import em_with_gaps
from ._rows import blocks, rows_per_block
from ._scaling import n_counted, unbiased


@dataclass(frozen=True)
class LinearStart:
    """A linear-Gaussian model and its posterior, as plain tensors."""

    loadings: torch.Tensor  # (p, d), W
    mean: torch.Tensor  # (p,), m, 0 where rows have no gaps
    noise_variance: torch.Tensor  # (p,), Psi
    encoder_weight: torch.Tensor  # (d, p), the posterior mean is encoder_weight @ (u - mean)
    posterior_std: torch.Tensor  # (d,), of each component
    posterior_raw: torch.Tensor  # what the posterior takes after its mean


class Scatter:
    """The p x p covariance of the columns, dense or, where rows are fewer, as the centred rows."""

    def __init__(self, dense=None, rows=None):
        self.dense, self.rows = dense, rows

    @classmethod
    def of(cls, u, weight=None):
        """From rows u (n, p) of a weight (n,) each, in one pass over blocks of them; gaps are taken for 0."""
        n, p = u.shape
        total_weight = n if weight is None else weight.double().sum().item()
        if n < p:
            rows = u[:].cpu().double().nan_to_num(0.0)
            if weight is None:
                return cls(rows=(rows - rows.mean(0)) / n**0.5)
            share = weight.cpu().double() / total_weight
            return cls(rows=(rows - share @ rows) * share.sqrt().unsqueeze(1))
        dense, total = (torch.zeros(shape, dtype=torch.float64, device=u.device) for shape in ((p, p), p))
        for block in blocks(n, rows_per_block(p)):
            rows = u[block].double().nan_to_num(0.0)
            weighted = rows if weight is None else weight[block].double().unsqueeze(1) * rows
            dense.addmm_(rows.T, weighted)
            total += weighted.sum(0)
        mean = total / total_weight
        return cls((dense / total_weight - torch.outer(mean, mean)).cpu())

    def weighted(self, weight):
        """That of the columns times `weight` (p,)."""
        if self.dense is None:
            return Scatter(rows=self.rows * weight)
        return Scatter(weight[:, None] * self.dense * weight)

    def __matmul__(self, right):
        return self.rows.T @ (self.rows @ right) if self.dense is None else self.dense @ right

    def diagonal(self):
        return self.rows.square().sum(0) if self.dense is None else self.dense.diagonal().clamp(min=0)

    def top(self, k):
        """The largest k eigenvalues, descending, and their eigenvectors as columns (p, k).

        Where rows or columns are fewer than k, the further eigenvalues are 0 and so are their vectors.
        """
        matrix = self.rows @ self.rows.T if self.dense is None else self.dense
        values, vectors = largest(matrix, min(k, len(matrix)))
        values = values.clamp(min=0)
        if self.dense is None:
            vectors = torch.where(values > 1e-14 * values[0], self.rows.T @ vectors / values.sqrt(), 0)
        missing = k - len(values)
        return torch.nn.functional.pad(values, (0, missing)), torch.nn.functional.pad(vectors, (0, missing))


def probabilistic_pca(u, weight, d, noise_shape, noise, floor):
    r"""W = V (Lambda - sigma^2)^(1/2), sigma^2 the mean of the discarded eigenvalues, for Psi = sigma^2 noise_shape.

    Covariances divide by n - 1, as PCA's do. The mean is over all p - d discarded directions, as
    Tipping and Bishop have it (eq. 8); `PCA.noise_variance_` leaves out those that are exactly 0
    because rows are fewer than columns.
    """
    p = u.shape[1]
    scatter = Scatter.of(u, weight).weighted(noise_shape.rsqrt())
    correction = unbiased(n_counted(len(u), weight))
    values, vectors = scatter.top(d)
    values = correction * values
    if noise is None:
        discarded = correction * scatter.diagonal().sum() - values.sum()
        noise = max((discarded / max(p - d, 1)).item(), floor)
    loadings = vectors * (values - noise).clamp(min=0).sqrt()
    return noise_shape.sqrt()[:, None] * loadings, noise * noise_shape


def factor_analysis(u, weight, d, scale, floor):
    """Maximum likelihood by EM, the better of two starts, as the likelihood has several maxima.

    The starts are principal components of the standardised columns and of the columns in X's units.
    An iteration costs a product of the scatter with a (p, d) matrix, so many are affordable.
    """
    scatter = Scatter.of(u, weight)
    in_x = (scale / scale.max()).clamp(min=1e-8)  # of less spread, an eigenvector's entries are rounding
    fits = [_expectation_maximisation(scatter, w, d, floor) for w in (torch.ones_like(scale), in_x)]
    return max(fits, key=lambda fit: fit[0])[1:]


def _expectation_maximisation(scatter, weight, d, floor, tol=1e-4, max_iter=1000):
    """Iterate from the weighted columns' principal components until a step gains less than tol nats a row."""
    variance, weighted = scatter.diagonal(), scatter.weighted(weight)
    values, vectors = weighted.top(d)
    discarded = (weighted.diagonal().sum() - values.sum()).clamp(min=0) / max(len(variance) - d, 1)
    loadings = vectors * (values - discarded).clamp(min=0).sqrt() / weight[:, None]
    noise = (variance - loadings.square().sum(1)).clamp(min=max(floor, 1e-4))
    eye = torch.eye(d, dtype=torch.float64)
    bound = -torch.inf
    for _ in range(max_iter):
        weighted = loadings / noise[:, None]  # (p, d), Psi^-1 W
        precision = eye + loadings.T @ weighted
        projection = torch.linalg.solve(precision, weighted.T)  # (d, p), E[z | u] = projection @ u
        cross = scatter @ projection.T  # (p, d)
        log_det = noise.log().sum() + torch.logdet(precision)
        previous, bound = bound, -0.5 * (log_det + (variance / noise).sum() - (weighted * cross).sum()).item()
        if bound - previous < tol:
            break
        second_moment = eye - projection @ loadings + projection @ cross
        loadings = torch.linalg.solve(second_moment, cross.T).T
        noise = (variance - (loadings * cross).sum(1)).clamp(min=floor)
    return bound, loadings, noise


def linear_start(u, n_components, posterior, linear_noise, scale, floor, weight=None, gaps=False):
    """Return the optimum for the rows u.

    Parameters
    ----------
    u : Tensor of shape (n, p), or Streamed
        NaN where a value was not measured.
    n_components : int
    posterior : Posterior class
    linear_noise : {"feature", "isotropic", "unit"}
    scale : Tensor of shape (p,), float64
        X's units per unit of u.
    floor : float
        Least noise variance, as a share of the feature's (or the mean) variance.
    weight : Tensor of shape (n,) or None, default=None
        Of the rows, positive: how often each counts.
    gaps : bool, default=False
        Whether u has NaN.

    Returns
    -------
    LinearStart
    """
    scale = scale.cpu()
    unit = linear_noise == "unit"
    if linear_noise == "feature":
        noise_shape = None
        loadings, noise = factor_analysis(u, weight, n_components, scale, floor)
    else:
        noise_shape = scale**-2 if unit else scale.square().mean() / scale.square()
        loadings, noise = probabilistic_pca(u, weight, n_components, noise_shape, 1.0 if unit else None, floor)
    mean = torch.zeros_like(noise)
    if gaps:
        loadings, noise, mean = em_with_gaps(u, weight, (loadings, noise), noise_shape, unit, floor)
        if linear_noise == "isotropic":
            correction = unbiased(n_counted(len(u), weight))
            loadings, noise = correction**0.5 * loadings, correction * noise

    weighted = loadings / noise[:, None]
    gain, basis = torch.linalg.eigh(loadings.T @ weighted)
    exact, basis = 1 + gain.flip(0).clamp(min=0), basis.flip(1)  # descending
    in_x = scale[:, None] * (loadings @ basis)
    sign = torch.sign(in_x.gather(0, in_x.abs().argmax(0, keepdim=True)))  # as PCA's svd_flip
    basis = basis * torch.where(sign == 0, 1.0, sign)

    rotation, precision, raw = posterior.at_precision(exact)
    basis = basis * torch.where(exact > 1, ((precision - 1) / (exact - 1)).sqrt(), 0.0)
    mean_map = (weighted @ basis / precision) @ rotation.T  # (p, d)
    std = (rotation.square() / precision).sum(1).sqrt()
    return LinearStart(loadings @ basis @ rotation.T, mean, noise, mean_map.T, std, raw)
