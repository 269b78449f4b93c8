"""Bernoulli likelihood for binary features."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ._base import Likelihood, check_range

RAREST = 1e-3  # least mean that a column starts from, as a column of zeros has no finite logit


class BernoulliLikelihood(Likelihood):
    """x | z ~ Bernoulli(sigmoid(decoder(z))), with independent features and X in [0, 1].

    log p = x log p + (1 - x) log(1 - p) is a log-probability in nats for binary x. Values between 0
    and 1 are accepted, as is common for grey images, but then it is not a normalised density (its
    integral over x is not 1), and its nats cannot be compared with those of other likelihoods: see
    `ContinuousBernoulliLikelihood`.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix C.1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> X = X > X.mean(axis=0)
    >>> vae = VAETransformer(2, likelihood="bernoulli", max_iter=2, random_state=0).fit(X)
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    """

    is_natural = True

    @staticmethod
    def check(X: NDArray[np.floating]) -> None:
        check_range(X, "bernoulli", 0, 1)

    def log_density(self, raw: Tensor, u: Tensor) -> Tensor:
        # x log sigmoid(r) + (1-x) log sigmoid(-r) = x r - softplus(r)
        return u * raw - functional.softplus(raw)

    def mean(self, raw: Tensor) -> Tensor:
        return torch.sigmoid(raw)

    def variance(self, raw: Tensor) -> Tensor:
        return torch.sigmoid(raw) * torch.sigmoid(-raw)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean(raw), generator=generator)

    def init_without_linear_model(self) -> tuple[Tensor, Tensor]:
        mean = self.column_mean.clamp(RAREST, 1 - RAREST)
        return torch.logit(mean), torch.full_like(mean, 2.0)  # 1 / sqrt of the Fisher information where the mean is 1/2
