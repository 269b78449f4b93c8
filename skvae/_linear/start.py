r"""The optimum of a linear-Gaussian model, as the point where training starts.

x = W z + m + e, z ~ N(0, I), e ~ N(0, Psi). Psi = sigma^2 I is probabilistic PCA (Tipping and Bishop,
1999), whose optimum is an eigendecomposition; Psi diagonal is factor analysis (Rubin and Thayer, EM
algorithms for ML factor analysis, 1982). z | x has precision P = I + W^T Psi^-1 W and mean
P^-1 W^T Psi^-1 (x - m); W is rotated so that P is diagonal, and then as the posterior family asks.

Everything is in the network's units u = (x - shift) / scale and in float64. Sums over rows are computed on the
rows' device, as are large problems of the columns' size. Small ones are solved on the CPU, whose iterations need not
wait for a GPU.
"""

from dataclasses import dataclass, replace

import torch

from .._data.weights import bessel_factor, effective_n_rows
from .factor_analysis import factor_analysis
from .probabilistic_pca import probabilistic_pca
from .scatter import Scatter
from .value_precisions import em_with_precisions, em_with_tails


@dataclass(frozen=True)
class LinearStart:
    """A linear model and its posterior, as plain tensors."""

    loadings: torch.Tensor  # (p, d), W
    mean: torch.Tensor  # (p,), m, which is 0 if the model is Gaussian and no value is missing or has an error
    noise_variance: torch.Tensor | None  # (p,), Psi or what the encoder takes for it; None if the model is not Gaussian
    unit_variance: torch.Tensor | None  # (p,), of noise and errors together: the harmonic mean over the rows
    encoder_weight: torch.Tensor  # (d, p), of the posterior mean
    encoder_bias: torch.Tensor  # (d,)
    posterior_std: torch.Tensor  # (d,), of each component, with such errors
    posterior_raw: torch.Tensor  # the posterior's raw numbers after its mean
    degrees_of_freedom: float | None = None  # of noise that has a t distribution


def linear_start(u, n_components, posterior, linear_noise, scale, floor, has_tails=False, weight=None):
    """Return the linear model that is optimal for the rows u.

    Parameters
    ----------
    u : Tensor of shape (n, p) or (n, 2, p), or StreamedRows
        Rows (n, 2, p) have the variances of their values' errors.
    n_components : int
    posterior : Posterior class
    linear_noise : {"feature", "isotropic", "unit", "known"}
    scale : Tensor of shape (p,), float64
        X's units per unit of u.
    floor : float
        Least noise variance, as a share of the feature's (or the mean) variance.
    has_tails : bool, default=False
        Whether the noise, which is isotropic, has a t distribution.
    weight : Tensor of shape (n,) or None, default=None
        Positive weights of the rows: how often each row counts.

    Returns
    -------
    LinearStart
    """
    scale, n = scale.cpu(), effective_n_rows(len(u), weight)
    loadings, noise = linear_model(Scatter.of(u, weight, has_tails), n, n_components, linear_noise, scale, floor)
    if has_tails:
        shape = noise_shape(linear_noise, scale)
        loadings, noise, mean, effective, nu = em_with_tails(u, weight, (loadings, noise), shape, floor)
        return replace(with_posterior(loadings, mean, noise, posterior, scale, effective), degrees_of_freedom=nu)
    if len(u.shape) == 2:
        return with_posterior(loadings, torch.zeros_like(noise), noise, posterior, scale)
    shape, is_given = noise_shape(linear_noise, scale), linear_noise in ("unit", "known")
    loadings, noise, mean, effective = em_with_precisions(u, weight, (loadings, noise), shape, is_given, floor)
    if linear_noise == "isotropic":
        correction = bessel_factor(n)
        loadings, noise = correction**0.5 * loadings, correction * noise
    return with_posterior(loadings, mean, effective if linear_noise == "known" else noise, posterior, scale, effective)


def start_of_moments(scatter, n, n_components, posterior, linear_noise, scale, floor, has_tails=False):
    """`linear_start`, without tails, for n rows u of mean 0 of which only the covariance, a `Scatter`, is known."""
    scale = scale.cpu()
    loadings, noise = linear_model(scatter, n, n_components, linear_noise, scale, floor)
    return with_posterior(loadings, torch.zeros_like(noise), noise, posterior, scale)


def noise_shape(linear_noise, scale):
    """Noise variances (p,) in units of u up to a common factor, or None where each of them is free."""
    isotropic = scale.square().mean() / scale.square()
    return {"feature": None, "unit": scale**-2, "isotropic": isotropic, "known": 0 * isotropic}[linear_noise]


def linear_model(scatter, n, n_components, linear_noise, scale, floor):
    """Loadings (p, d) and noise variances (p,) that are optimal for n rows with this covariance, on the CPU."""
    scale = scale.to(scatter.device)
    shape = noise_shape("isotropic" if linear_noise == "known" else linear_noise, scale)
    if shape is None:
        loadings, noise = factor_analysis(scatter, n_components, scale, floor)
    else:
        unit = 1.0 if linear_noise == "unit" else None
        loadings, noise = probabilistic_pca(scatter, n, n_components, shape, unit, floor)
    return loadings.cpu(), noise.cpu()


def with_posterior(loadings, mean, noise, posterior, scale, effective=None):
    """The `LinearStart` of a linear-Gaussian model, rotated as the posterior family asks.

    `effective` (p,) is the harmonic mean of the variances of noise and errors; None stands for the noise alone.
    """
    rotation, encoder_weight, std, raw = rotated(loadings, noise, posterior, scale)
    loadings = loadings @ rotation
    if effective is None:
        effective = noise
    else:
        eye = torch.eye(loadings.shape[1], dtype=loadings.dtype)
        std = torch.linalg.inv(eye + loadings.T @ (loadings / effective[:, None])).diagonal().sqrt()
    return LinearStart(loadings, mean, noise, effective, encoder_weight, -(encoder_weight @ mean), std, raw)


def rotated(loadings, noise, posterior, scale):
    """The rotation to z', z = rotation @ z', as the family asks, the map from u - m to the mean of z', its std and raw.

    The rotation (d, d) also shrinks where the family asks for other loadings.
    """
    weighted = loadings / noise[:, None]
    gain, basis = torch.linalg.eigh(loadings.T @ weighted)
    exact, basis = 1 + gain.flip(0).clamp(min=0), basis.flip(1)  # descending
    in_x = scale[:, None] * (loadings @ basis)
    sign = torch.sign(in_x.gather(0, in_x.abs().argmax(0, keepdim=True)))  # as in PCA's svd_flip
    basis = basis * torch.where(sign == 0, 1.0, sign)

    rotation, precision, raw = posterior.init_from_precision(exact.cpu())
    rotation, precision = rotation.to(basis), precision.to(basis)
    basis = basis * torch.where(exact > 1, ((precision - 1) / (exact - 1)).sqrt(), 0.0)
    mean_map = (weighted @ basis / precision) @ rotation.T  # (p, d)
    std = (rotation.square() / precision).sum(1).sqrt()
    return basis @ rotation.T, mean_map.T, std, raw
