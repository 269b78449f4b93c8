"""Poisson likelihood for counts."""

import numpy as np
import torch

from ._base import Likelihood, check_range

LEAST = 1e-3  # mean count that a column starts from at least
GREATEST = 25.0  # log rate, so that no step overflows float32


class PoissonLikelihood(Likelihood):
    r"""x | z ~ Poisson(exp(decoder(z))), features independent: counts of mass or X-ray spectra, zeros allowed.

    log p = x r - exp(r) - log x! is a log-probability in nats for whole numbers x. Nonnegative values that are
    not whole are accepted, but then it is no normalised probability. The encoder sees the standardised root
    2 sqrt(x + 3/8), in which every count has the same noise. There is no linear optimum to start from: for counts
    of 10^5, whose noise is nearly Gaussian and small, the default training ends behind a Gaussian likelihood's.

    References
    ----------
    Anscombe, The transformation of Poisson, binomial and negative-binomial data, 1948.
    """

    def __init__(self, mean, scale):
        super().__init__(mean, scale)
        mean = mean.clamp(min=LEAST)
        self.register_buffer("root_mean", self.root(mean).float())
        self.register_buffer("root_scale", (scale / mean.sqrt()).clamp(min=1.0).float())  # by the delta method

    @staticmethod
    def root(x):
        return 2 * torch.sqrt(x + 0.375)

    @staticmethod
    def check(X):
        check_range(X, "poisson", 0, np.inf)

    def inputs(self, u):
        return (self.root(u) - self.root_mean) / self.root_scale

    def log_prob(self, raw, u):
        log_rate = raw.clamp(max=GREATEST)
        return (u * log_rate - log_rate.exp() - torch.lgamma(u + 1)).sum(-1)

    def mean(self, raw):
        return raw.clamp(max=GREATEST).exp()

    def sample(self, raw, generator):
        return torch.poisson(self.mean(raw), generator=generator)

    def plain_start(self):
        mean = self.column_mean.clamp(min=LEAST)
        return mean.log(), (self.column_scale / mean).clamp(1e-3, 1.0)  # sd(log rate) by the delta method
