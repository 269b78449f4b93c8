"""The evidence lower bound."""

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
        return self.expected_log_likelihood(draw) - self.beta * share * self.kl(draw)
