"""Poisson likelihood for counts."""

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._base import Likelihood, check_range

LEAST_MEAN = 1e-3  # count of a column, at the start
GREATEST_COUNT = 1e10  # rates are at most e^2 times this, so that no step overflows float32


class PoissonLikelihood(Likelihood):
    r"""x | z ~ Poisson(exp(decoder(z))), with independent features: counts of mass or X-ray spectra, zeros allowed.

    log p = x r - exp(r) - log x! is a log-probability in nats for whole numbers x. Nonnegative values that are
    not whole are taken with a warning, as the score is then no probability's. The encoder sees the standardised root
    2 sqrt(x + 3/8), in which all counts but the smallest have the same noise. Training starts at the Poisson
    log-normal model.

    References
    ----------
    Anscombe, The transformation of Poisson, binomial and negative-binomial data, 1948. Chiquet, Mariadassou and Robin,
    Variational inference for probabilistic Poisson PCA, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> X = (10 * X).round()  # tenths of centimetres, whole numbers
    >>> vae = VAETransformer(2, likelihood="poisson", max_iter=2, random_state=0).fit(X)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    is_natural = True
    root_mean: Tensor
    root_scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        mean = mean.clamp(min=LEAST_MEAN)
        self.register_buffer("root_mean", self.root(mean).float())
        self.register_buffer("root_scale", (scale / (mean + 0.375).sqrt()).clamp(min=1e-3).float())  # delta method

    @staticmethod
    def root(x: Tensor) -> Tensor:
        return 2 * torch.sqrt(x + 0.375)

    @staticmethod
    def check(X: NDArray[np.floating]) -> None:
        check_range(X, "poisson", 0, GREATEST_COUNT)
        step = max(1, 2**20 // max(1, X.shape[1]))  # X may be a file that does not fit into memory
        if any((X[start : start + step] % 1 > 0).any() for start in range(0, len(X), step)):
            warnings.warn(
                "likelihood='poisson' is for counts, but X has values that are not whole numbers: its score is then no "
                "log-probability, and not comparable with others. Multiply X by what makes counts of it, or take a "
                "Gaussian likelihood.",
                UserWarning,
                stacklevel=2,
            )

    def inputs(self, u: Tensor) -> Tensor:
        return (self.root(u) - self.root_mean) / self.root_scale

    def log_density(self, raw: Tensor, u: Tensor) -> Tensor:
        """-x (e^delta - 1 - delta) + c(x), with r = log x + delta: x r, e^r and log x! nearly cancel in float32."""
        log_rate = self.log_rate(raw)
        x = torch.where(u > 0, u, 1.0)
        delta = log_rate - x.log()
        stirling = -0.5 * torch.log(2 * math.pi * x) - 1 / (12 * x)  # c(x) to 1 / (360 x^3)
        c = torch.where(x > 50, stirling, x * x.log() - x - torch.lgamma(x + 1))
        return torch.where(u > 0, c - x * (torch.expm1(delta) - delta), -log_rate.exp())

    @staticmethod
    def log_rate(raw: Tensor) -> Tensor:
        return raw.clamp(max=math.log(GREATEST_COUNT) + 2)

    def mean(self, raw: Tensor) -> Tensor:
        return self.log_rate(raw).exp()

    def variance(self, raw: Tensor) -> Tensor:
        return self.mean(raw)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(raw), generator=generator)

    def init_without_linear_model(self) -> tuple[Tensor, Tensor]:
        mean = self.column_mean.clamp(min=LEAST_MEAN)
        return mean.log(), (self.column_scale / mean).clamp(1e-3, 1.0)  # sd(log rate) by the delta method
