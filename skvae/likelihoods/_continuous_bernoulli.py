"""Continuous Bernoulli likelihood for features between 0 and 1."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._base import Likelihood, check_range

STEEPEST = 200.0  # greatest |r|, so that means stay 0.005 from 0 and 1 and log p of a constant column is bounded


def log_sinhc(r: Tensor) -> Tensor:
    """log(sinh(r / 2) / (r / 2)), which is even in r, by its series near 0."""
    a = r.abs().clamp(min=0.5)
    large = a / 2 + torch.log(-torch.expm1(-a)) - torch.log(a)
    s = (r.clamp(-0.5, 0.5) / 2).square()
    small = s / 6 - s.square() / 180 + s**3 / 2835 - s**4 / 37800
    return torch.where(r.abs() < 0.5, small, large)


def mean_of(r: Tensor) -> Tensor:
    """d/dr log Z(r) = 1 / (1 - exp(-r)) - 1 / r, by its series near 0."""
    a = torch.where(r.abs() < 0.5, 0.5, r.abs())
    low = 1 / a + torch.exp(-a) / torch.expm1(-a)  # the mean at -|r|, as exp(|r|) and its slope would overflow float32
    far = torch.where(r < 0, low, 1 - low)
    b = r.clamp(-0.5, 0.5)
    near = 0.5 + b / 12 - b**3 / 720 + b**5 / 30240 - b**7 / 1209600
    return torch.where(r.abs() < 0.5, near, far)


def variance_of(r: Tensor) -> Tensor:
    """d^2/dr^2 log Z(r) = 1 / r^2 - 1 / (4 sinh(r / 2)^2), by its series near 0."""
    a = torch.where(r.abs() < 0.5, 0.5, r.abs())
    far = 1 / a.square() - torch.exp(-a) / torch.expm1(-a).square()
    b = r.clamp(-0.5, 0.5).square()
    near = 1 / 12 - b / 240 + b**2 / 6048 - b**3 / 172800
    return torch.where(r.abs() < 0.5, near, far)


class ContinuousBernoulliLikelihood(Likelihood):
    r"""p(x | z) proportional to lambda^x (1 - lambda)^(1 - x) on [0, 1], with lambda = sigmoid(r).

    r is the decoder's output. The density is exp(r x) / Z(r) with Z(r) = (e^r - 1) / r. Unlike the
    Bernoulli likelihood, it is normalised on grey values. r is clipped to [-200, 200], so that the density of a value
    is at most 200.

    References
    ----------
    Loaiza-Ganem and Cunningham, The continuous Bernoulli, 2019, eq. (5), written in the natural parameter r.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> X = X / X.max(axis=0)
    >>> vae = VAETransformer(2, likelihood="continuous_bernoulli", max_iter=2, random_state=0).fit(X)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    is_natural = True

    @staticmethod
    def check(X: NDArray[np.floating]) -> None:
        check_range(X, "continuous_bernoulli", 0, 1)

    def log_density(self, raw: Tensor, u: Tensor) -> Tensor:
        # log Z(r) = r / 2 + log(sinh(r / 2) / (r / 2))
        r = raw.clamp(-STEEPEST, STEEPEST)
        return (u - 0.5) * r - log_sinhc(r)

    def mean(self, raw: Tensor) -> Tensor:
        return mean_of(raw.clamp(-STEEPEST, STEEPEST))

    def variance(self, raw: Tensor) -> Tensor:
        return variance_of(raw.clamp(-STEEPEST, STEEPEST))

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Sample by the inverse of F(x) = (e^(r x) - 1) / (e^r - 1) for |r|; a negative r mirrors the draw."""
        uniform = torch.empty_like(raw).uniform_(generator=generator)
        a = raw.abs().clamp(1e-3, STEEPEST)  # at 1e-3, x is uniform to 1e-4 of a standard deviation
        x = 1 + torch.log(uniform + (1 - uniform) * torch.exp(-a)) / a
        return torch.where(raw < 0, 1 - x, x).clamp(0, 1)

    def init_without_linear_model(self) -> tuple[Tensor, Tensor]:
        mean = self.column_mean.clamp(1 / STEEPEST, 1 - 1 / STEEPEST)
        low, high = torch.full_like(mean, -STEEPEST), torch.full_like(mean, STEEPEST)
        for _ in range(60):  # bisection, as the mean rises with r and has no inverse in closed form
            middle = (low + high) / 2
            below = mean_of(middle) < mean
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return middle, torch.full_like(middle, 12**0.5)  # 1 / sqrt of the Fisher information where the mean is 1/2
