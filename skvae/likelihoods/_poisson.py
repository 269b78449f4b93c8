"""Poisson likelihood for counts."""

import numpy as np
import torch

from ._base import Likelihood

LEAST = 1e-3  # mean count that a column starts from at least
GREATEST = 25.0  # log rate, so that no step overflows float32


class PoissonLikelihood(Likelihood):
    r"""x | z ~ Poisson(exp(decoder(z))), features independent: counts of mass or X-ray spectra, zeros allowed.

    log p = x r - exp(r) - log x! is a log-probability in nats for whole numbers x. Nonnegative values that are
    not whole are accepted, but then it is no normalised probability. The encoder sees the standardised root
    2 sqrt(x + 3/8), in which every count has the same noise.

    References
    ----------
    Anscombe, The transformation of Poisson, binomial and negative-binomial data, 1948.
    """

    def __init__(self, mean, scale):
        super().__init__(mean, scale)
        mean = mean.clamp(min=LEAST)
        # By the delta method: sd(2 sqrt(x)) = sd(x) / sqrt(mean), sd(log rate) = sd(x) / mean.
        self.register_buffer("root_mean", self.root(mean).float())
        self.register_buffer("root_scale", (scale / mean.sqrt()).clamp(min=1.0).float())
        self.start_at = mean.log(), (scale / mean).clamp(1e-3, 1.0)

    @staticmethod
    def root(x):
        return 2 * torch.sqrt(x + 0.375)

    @staticmethod
    def check(X):
        if np.min(X) < 0:
            raise ValueError(f"likelihood='poisson' takes counts, but X has negative values, down to {np.min(X):g}.")

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
        return self.start_at
