"""What training maximises, and the bound that `score` reports: lower bounds on log p(x) in nats."""

import math

import torch


class ELBO:
    """E_q[log p(x | z)] - beta KL(q(z | x) || p(z)), the expectation over L draws.

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the KL term. A bound on log p(x) for beta >= 1.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, eq. (7).
    Higgins et al., beta-VAE, 2017, eq. (4).
    """

    def __init__(self, beta=1.0):
        self.beta = beta

    def __call__(self, log_likelihood, kl):
        """Return the objective of each row.

        Parameters
        ----------
        log_likelihood : Tensor of shape (L, n), or (n,) for one draw
            log p(x | z_l), z_l drawn from q(z | x).
        kl : Tensor of shape (n,)

        Returns
        -------
        Tensor of shape (n,)
        """
        expected = log_likelihood.mean(0) if log_likelihood.ndim > 1 else log_likelihood
        return torch.add(expected, kl, alpha=-self.beta)


def importance_bound(log_likelihood, log_ratio):
    """log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x), shape (n,), from terms of shape (K, n).

    A lower bound on log p(x) in expectation, which more draws never lower and which is exact for one
    draw where q is the exact posterior.

    References
    ----------
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, eq. (8) and theorem 1.
    """
    return (log_likelihood + log_ratio).logsumexp(0) - math.log(len(log_likelihood))
