r"""The optimum of a linear-Gaussian model, as the point where training starts.

x = W z + m + e, z ~ N(0, I), e ~ N(0, Psi). Psi = sigma^2 I is probabilistic PCA (Tipping and Bishop,
1999), whose optimum is an eigendecomposition; Psi diagonal is factor analysis (Rubin and Thayer, EM
algorithms for ML factor analysis, 1982). z | x has precision P = I + W^T Psi^-1 W and mean
P^-1 W^T Psi^-1 (x - m); W is rotated so that P is diagonal, and then as the posterior family asks.

Everything is in the network's units u = (x - shift) / scale and in float64. Sums over rows are computed on the
rows' device, as are large problems of the columns' size. Small ones are solved on the CPU, where iterations need not
wait for a GPU's answers.
"""

from dataclasses import dataclass

import torch

from .._data.weights import bessel_factor, effective_n_rows
from .factor_analysis import factor_analysis
from .missing_values import em_with_missing_values
from .probabilistic_pca import probabilistic_pca
from .scatter import Scatter


@dataclass(frozen=True)
class LinearStart:
    """A linear model and its posterior, as plain tensors."""

    loadings: torch.Tensor  # (p, d), W
    mean: torch.Tensor  # (p,), m, which is 0 if the model is Gaussian and no value is missing
    noise_variance: torch.Tensor | None  # (p,), Psi; None if the model is not Gaussian
    encoder_weight: torch.Tensor  # (d, p), of the posterior mean
    encoder_bias: torch.Tensor  # (d,)
    posterior_std: torch.Tensor  # (d,), of each component
    posterior_raw: torch.Tensor  # the posterior's raw numbers after its mean


def linear_start(u, n_components, posterior, linear_noise, scale, floor, weight=None, has_missing=False):
    """Return the linear model that is optimal for the rows u.

    Parameters
    ----------
    u : Tensor of shape (n, p), or StreamedRows
        NaN where a value is missing.
    n_components : int
    posterior : Posterior class
    linear_noise : {"feature", "isotropic", "unit"}
    scale : Tensor of shape (p,), float64
        X's units per unit of u.
    floor : float
        Least noise variance, as a share of the feature's (or the mean) variance.
    weight : Tensor of shape (n,) or None, default=None
        Positive weights of the rows: how often each row counts.
    has_missing : bool, default=False
        Whether u has missing values.

    Returns
    -------
    LinearStart
    """
    scale, n = scale.cpu(), effective_n_rows(len(u), weight)
    loadings, noise = linear_model(Scatter.of(u, weight), n, n_components, linear_noise, scale, floor)
    mean = torch.zeros_like(noise)
    if has_missing:
        shape, unit = noise_shape(linear_noise, scale), linear_noise == "unit"
        loadings, noise, mean = em_with_missing_values(u, weight, (loadings, noise), shape, unit, floor)
        if linear_noise == "isotropic":
            correction = bessel_factor(n)
            loadings, noise = correction**0.5 * loadings, correction * noise
    return with_posterior(loadings, mean, noise, posterior, scale)


def start_of_moments(scatter, n, n_components, posterior, linear_noise, scale, floor):
    """`linear_start` for n rows u of which the mean, 0, and the covariance, a `Scatter`, are known."""
    scale = scale.cpu()
    loadings, noise = linear_model(scatter, n, n_components, linear_noise, scale, floor)
    return with_posterior(loadings, torch.zeros_like(noise), noise, posterior, scale)


def noise_shape(linear_noise, scale):
    """Noise variances (p,) in units of u up to a common factor, or None where each of them is free."""
    return {"feature": None, "unit": scale**-2, "isotropic": scale.square().mean() / scale.square()}[linear_noise]


def linear_model(scatter, n, n_components, linear_noise, scale, floor):
    """Loadings (p, d) and noise variances (p,) that are optimal for n rows with this covariance, on the CPU."""
    scale = scale.to(scatter.device)
    shape = noise_shape(linear_noise, scale)
    if shape is None:
        loadings, noise = factor_analysis(scatter, n_components, scale, floor)
    else:
        unit = 1.0 if linear_noise == "unit" else None
        loadings, noise = probabilistic_pca(scatter, n, n_components, shape, unit, floor)
    return loadings.cpu(), noise.cpu()


def with_posterior(loadings, mean, noise, posterior, scale):
    """The `LinearStart` of a linear-Gaussian model, rotated as the posterior family asks."""
    rotation, encoder_weight, std, raw = rotated(loadings, noise, posterior, scale)
    return LinearStart(loadings @ rotation, mean, noise, encoder_weight, -(encoder_weight @ mean), std, raw)


def rotated(loadings, noise, posterior, scale):
    """Where z = rotation @ z' with a posterior of the family: rotation, map from u - m to the mean of z', std and raw.

    The rotation (d, d) shrinks, too, where the family asks for other loadings.
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
