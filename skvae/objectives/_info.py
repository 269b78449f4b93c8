"""InfoVAE: the aggregated posterior is drawn to the prior by their maximum mean discrepancy."""

import numpy as np
import torch

from ._base import Objective

ROWS = 1024  # whose pairs are formed at once
NODES = 32


def rbf(d):
    """k = exp(-|z - z'|^2 / (2 d)), as (k of squared distances, rates, weights)."""
    return (lambda distance: torch.exp(-distance / (2 * d))), [1 / (2 * d)], [1.0]


def imq(d):
    """k = C / (C + |z - z'|^2), C = 2 d (Tolstikhin et al., Wasserstein auto-encoders, 2018, section 4).

    It is the mixture of exp(-t |z - z'|^2), t = s / C, over s ~ Exp(1), to 1e-7: the trapezoidal rule after
    s = exp(x - exp(-x)) (Takahasi and Mori, Double exponential formulas for numerical integration, 1974).
    """
    x, step = np.linspace(-3.0, 3.5, NODES, retstep=True)
    s = np.exp(x - np.exp(-x))
    return (lambda distance: 2 * d / (2 * d + distance)), s / (2 * d), step * s * (1 + np.exp(-x)) * np.exp(-s)


KERNELS = {"imq": imq, "rbf": rbf}


class InfoVAE(Objective):
    r"""E_q[log p(x | z)] - (1 - alpha) KL(q(z | x) || p(z)) - (alpha + lambda - 1) MMD^2(q(z), p(z)).

    q(z) is the aggregated posterior of the batch, whose draws z_1 ... z_n give, without bias,

        MMD^2 = mean_{i != j} k(z_i, z_j) - 2 mean_i E_p[k(z_i, z)] + E_p[k(z, z')].

    Both kernels are mixtures of sum_t w_t exp(-t |z - z'|^2), so that the expectations over the prior
    are exact where others draw from it: E_p[k(z_i, z)] = sum_t w_t (1 + 2t)^(-d/2) exp(-t |z_i|^2 / (1 + 2t)),
    E_p[k(z, z')] = sum_t w_t (1 + 4t)^(-d/2).

    Parameters
    ----------
    beta, free_bits : float
        Of the KL term.
    alpha : float, default=0.0
        1 leaves no KL term, which is the MMD-VAE.
    lambda_ : float, default=1000.0
        In nats of a row. (Where a loss is averaged over the features, the same weight is 1 / n_features of it.)
    kernel : {"imq", "rbf"}, default="imq"

    Notes
    -----
    No bound on log p(x) in general. To set alpha, lambda and the kernel, give the estimator a callable:
    ``objective=functools.partial(InfoVAE, lambda_=10.0)``.

    References
    ----------
    Zhao, Song and Ermon, InfoVAE: Information maximizing variational autoencoders, 2017, eq. (6).
    Gretton et al., A kernel two-sample test, 2012, lemma 6.
    """

    def __init__(self, beta=1.0, free_bits=0.0, alpha=0.0, lambda_=1000.0, kernel="imq"):
        super().__init__(beta, free_bits)
        if alpha + lambda_ < 1:
            raise ValueError(
                f"alpha + lambda_ must be at least 1, or the objective rewards a discrepancy, not {alpha + lambda_}."
            )
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {sorted(KERNELS)}, not {kernel!r}.")
        self.alpha, self.lambda_, self.kernel = alpha, lambda_, kernel
        self.mixture = {}  # (d, dtype, device): tensors, as a captured step may not copy to its device

    def __call__(self, draw, share=1.0):
        kl = self.beta * share * (1 - self.alpha) * self.kl(draw)
        return self.expected_log_likelihood(draw) - kl - (self.alpha + self.lambda_ - 1) * self.mmd(draw.z)

    def mmd(self, z):
        """The squared discrepancy of z (..., n, d), averaged over the draws, for each of its rows (n,).

        Rows have that of the `ROWS` they are among, so that many rows need no more memory.
        """
        parts = [self._mmd(part).mean().expand(part.shape[-2]) for part in z.split(ROWS, dim=-2)]
        return torch.cat(parts)

    def _mmd(self, z):
        n, d = z.shape[-2:]
        kernel = KERNELS[self.kernel](d)[0]
        rate, weight = self._mixture(z)
        square = z.square().sum(-1)  # (..., n)
        distance = (square.unsqueeze(-1) + square.unsqueeze(-2) - 2 * z @ z.mT).clamp(min=0)
        pairs = kernel(distance).sum((-2, -1)) - n  # k(z, z) = 1
        near = torch.exp(-square.unsqueeze(-1) * (rate / (1 + 2 * rate))) @ (weight * (1 + 2 * rate) ** (-d / 2))
        prior = (weight * (1 + 4 * rate) ** (-d / 2)).sum()
        return pairs / max(n * (n - 1), 1) - 2 * near.mean(-1) + prior

    def _mixture(self, z):
        key = z.shape[-1], z.dtype, z.device
        if key not in self.mixture:
            self.mixture[key] = [
                torch.tensor(part, dtype=z.dtype, device=z.device) for part in KERNELS[self.kernel](key[0])[1:]
            ]
        return self.mixture[key]
