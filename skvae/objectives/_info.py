"""InfoVAE: the aggregated posterior is drawn to the prior by their maximum mean discrepancy."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ._elbo import ELBO

ROWS = 1024  # maximum number of rows whose pairs are formed at once
NODES = 32
Kernel = Callable[[Tensor], Tensor]
Mixture = tuple[Kernel, ArrayLike, ArrayLike]


def rbf(d: int) -> Mixture:
    """k = exp(-|z - z'|^2 / (2 d)), as (k of squared distances, rates, weights)."""
    return (lambda distance: torch.exp(-distance / (2 * d))), [1 / (2 * d)], [1.0]


def imq(d: int) -> Mixture:
    """k = C / (C + |z - z'|^2), C = 2 d (Tolstikhin et al., Wasserstein auto-encoders, 2018, section 4).

    It is the mixture of exp(-t |z - z'|^2), t = s / C, over s ~ Exp(1), to 1e-7: the trapezoidal rule after
    s = exp(x - exp(-x)) (Takahasi and Mori, Double exponential formulas for numerical integration, 1974).
    """
    x, step = np.linspace(-3.0, 3.5, NODES, retstep=True)
    s = np.exp(x - np.exp(-x))
    return (lambda distance: 2 * d / (2 * d + distance)), s / (2 * d), step * s * (1 + np.exp(-x)) * np.exp(-s)


KERNELS = {"imq": imq, "rbf": rbf}


class InfoVAE(ELBO):
    r"""E_q[log p(x | z)] - (1 - alpha) KL(q(z | x) || p(z)) - (alpha + lambda - 1) MMD^2(q(z), p(z)).

    q(z) is the aggregated posterior of the batch, whose draws z_1 ... z_n give, without bias,

        MMD^2 = mean_{i != j} k(z_i, z_j) - 2 mean_i E_p[k(z_i, z)] + E_p[k(z, z')].

    Both kernels are mixtures of sum_t w_t exp(-t |z - z'|^2), so that the expectations over the prior
    are exact, where other implementations draw samples from it:
    E_p[k(z_i, z)] = sum_t w_t (1 + 2t)^(-d/2) exp(-t |z_i|^2 / (1 + 2t)),
    E_p[k(z, z')] = sum_t w_t (1 + 4t)^(-d/2).

    Parameters
    ----------
    beta, free_bits : float
        Weight and free bits of the KL term.
    alpha : float, default=0.0
        With 1 there is no KL term, which is the MMD-VAE.
    lambda_ : float, default=1000.0
        In nats per row. (If a loss is averaged over the features, the same weight is lambda / n_features.)
    kernel : {"imq", "rbf"}, default="imq"

    Notes
    -----
    This is not a bound on log p(x) in general. To set alpha, lambda and the kernel, give the estimator a callable:
    ``objective=functools.partial(InfoVAE, lambda_=10.0)``.

    References
    ----------
    Zhao, Song and Ermon, InfoVAE: Information maximizing variational autoencoders, 2017, eq. (6).
    Gretton et al., A kernel two-sample test, 2012, lemma 6.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> from skvae.objectives import InfoVAE
    >>> vae = VAETransformer(2, objective=partial(InfoVAE, lambda_=10.0), max_iter=2, random_state=0).fit(X)
    >>> vae.n_components_
    2
    """

    def __init__(
        self,
        beta: float = 1.0,
        free_bits: float = 0.0,
        alpha: float = 0.0,
        lambda_: float = 1000.0,
        kernel: str = "imq",
    ) -> None:
        super().__init__(beta, free_bits)
        if alpha > 1 or alpha + lambda_ < 1:
            raise ValueError(
                f"alpha={alpha} must be at most 1 and alpha + lambda_={alpha + lambda_} at least 1, or else the "
                "objective rewards a divergence."
            )
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {sorted(KERNELS)}, not {kernel!r}.")
        self.kl_weight = beta * (1 - alpha)
        self.alpha, self.lambda_, self.kernel = alpha, lambda_, kernel
        # The tensors are kept by (d, dtype, device), as a captured step must not copy to its device.
        self.mixture: dict[tuple[int, torch.dtype, torch.device], tuple[Kernel, Tensor, Tensor]] = {}

    def penalty(self, z: Tensor) -> Tensor:
        return (self.alpha + self.lambda_ - 1) * self.mmd(z)

    def mmd(self, z: Tensor) -> Tensor:
        """The squared discrepancy of z (..., n, d), averaged over the draws; 0 for a single row, which has no pairs.

        Many rows are split into parts of at most `ROWS`, each spread over all rows, so that memory grows in proportion
        to the number of rows.
        """
        n = z.shape[-2]
        if n < 2:
            return z.new_zeros(())
        n_parts = -(-n // ROWS)
        parts = (self._mmd(z[..., i::n_parts, :]) * (len(range(i, n, n_parts)) / n) for i in range(n_parts))
        return sum(parts, z.new_zeros(()))

    def _mmd(self, z: Tensor) -> Tensor:
        n, d = z.shape[-2:]
        kernel, rate, weight = self._mixture(z)
        square = z.square().sum(-1)  # (..., n)
        distance = (square.unsqueeze(-1) + square.unsqueeze(-2) - 2 * z @ z.mT).clamp(min=0)
        pairs = kernel(distance).sum((-2, -1)) - n  # k(z, z) = 1
        near = torch.exp(-square.unsqueeze(-1) * (rate / (1 + 2 * rate))) @ (weight * (1 + 2 * rate) ** (-d / 2))
        prior = (weight * (1 + 4 * rate) ** (-d / 2)).sum()
        return (pairs / max(n * (n - 1), 1) - 2 * near.mean(-1)).mean() + prior

    def _mixture(self, z: Tensor) -> tuple[Kernel, Tensor, Tensor]:
        key = z.shape[-1], z.dtype, z.device
        if key not in self.mixture:
            kernel, *numbers = KERNELS[self.kernel](key[0])
            rate, weight = (torch.tensor(part, dtype=z.dtype, device=z.device) for part in numbers)
            self.mixture[key] = kernel, rate, weight
        return self.mixture[key]
