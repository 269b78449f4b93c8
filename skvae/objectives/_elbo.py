"""The evidence lower bound."""

import torch

from ._base import Objective


class ELBO(Objective):
    """E_q[log p(x | z)] - beta KL(q(z | x) || p(z)), the expectation over L draws.

    A bound on log p(x) for beta >= 1 and without free bits.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, eq. (7).
    Higgins et al., beta-VAE, 2017, eq. (4).
    """

    def __call__(self, draw, share=1.0):
        expected, kl, weight = self.expected_log_likelihood(draw), self.kl(draw), self.beta * share
        if isinstance(weight, torch.Tensor):
            return expected - weight * kl
        return torch.sub(expected, kl, alpha=weight)  # one operation
