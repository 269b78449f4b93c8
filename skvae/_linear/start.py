r"""The optimum of a linear-Gaussian model, as the point where training starts.

x = W z + m + e, z ~ N(0, I), e ~ N(0, Psi). Psi = sigma^2 I is probabilistic PCA (Tipping and Bishop,
1999), whose optimum is an eigendecomposition; Psi diagonal is factor analysis (Rubin and Thayer, EM
algorithms for ML factor analysis, 1982). z | x has precision P = I + W^T Psi^-1 W and mean
P^-1 W^T Psi^-1 (x - m); W is rotated so that P is diagonal, and then as the posterior family asks.

Everything is in the network's units u = (x - shift) / scale and in float64. Sums over rows are computed on the
rows' device. Problems of the columns' size are solved on the CPU, where iterations need not wait for a GPU's answers.
"""

from dataclasses import dataclass

import torch

from .._data.weights import bessel_factor, effective_n_rows
from .factor_analysis import factor_analysis
from .missing_values import em_with_missing_values
from .probabilistic_pca import probabilistic_pca


@dataclass(frozen=True)
class LinearStart:
    """A linear-Gaussian model and its posterior, as plain tensors."""

    loadings: torch.Tensor  # (p, d), W
    mean: torch.Tensor  # (p,), m, which is 0 if no value is missing
    noise_variance: torch.Tensor  # (p,), Psi
    encoder_weight: torch.Tensor  # (d, p), the posterior mean is encoder_weight @ (u - mean)
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
    scale = scale.cpu()
    unit = linear_noise == "unit"
    if linear_noise == "feature":
        noise_shape = None
        loadings, noise = factor_analysis(u, weight, n_components, scale, floor)
    else:
        noise_shape = scale**-2 if unit else scale.square().mean() / scale.square()
        loadings, noise = probabilistic_pca(u, weight, n_components, noise_shape, 1.0 if unit else None, floor)
    mean = torch.zeros_like(noise)
    if has_missing:
        loadings, noise, mean = em_with_missing_values(u, weight, (loadings, noise), noise_shape, unit, floor)
        if linear_noise == "isotropic":
            correction = bessel_factor(effective_n_rows(len(u), weight))
            loadings, noise = correction**0.5 * loadings, correction * noise

    weighted = loadings / noise[:, None]
    gain, basis = torch.linalg.eigh(loadings.T @ weighted)
    exact, basis = 1 + gain.flip(0).clamp(min=0), basis.flip(1)  # descending
    in_x = scale[:, None] * (loadings @ basis)
    sign = torch.sign(in_x.gather(0, in_x.abs().argmax(0, keepdim=True)))  # as in PCA's svd_flip
    basis = basis * torch.where(sign == 0, 1.0, sign)

    rotation, precision, raw = posterior.init_from_precision(exact)
    basis = basis * torch.where(exact > 1, ((precision - 1) / (exact - 1)).sqrt(), 0.0)
    mean_map = (weighted @ basis / precision) @ rotation.T  # (p, d)
    std = (rotation.square() / precision).sum(1).sqrt()
    return LinearStart(loadings @ basis @ rotation.T, mean, noise, mean_map.T, std, raw)
