"""What every objective provides: a number a row, in nats, that training maximises."""

from typing import NamedTuple

import torch


class Draw(NamedTuple):
    """What the model says of a batch of n rows, with L draws of z a row, or one."""

    log_likelihood: torch.Tensor  # (L, n) or (n,), log p(x | z)
    q: object  # Posterior, q(z | x)
    kl: torch.Tensor  # (n,), KL(q(z | x) || p(z))
    z: torch.Tensor  # (L, n, d) or (n, d)
    eps: torch.Tensor  # as z, the standard normal noise that z was made of


class Objective:
    """A lower bound on log p(x), or another number, of each row.

    Parameters
    ----------
    beta : float, default=1.0
        Weight of what draws q(z | x) to the prior.
    free_bits : float, default=0.0
        Nats of KL that each component may have at no cost. KL(q || p) is the sum of the components' own
        divergences and of their total correlation (0 for a diagonal q); where the batch's mean of a component's
        divergence is under `free_bits`, `free_bits` stands in its place and it has no gradient.

    References
    ----------
    Kingma et al., Improved variational inference with inverse autoregressive flow, 2016, appendix C.8, eq. (15).
    """

    def __init__(self, beta=1.0, free_bits=0.0):
        self.beta = beta
        self.free_bits = free_bits

    def __call__(self, draw, share=1.0):
        """Return the objective of each row, shape (n,).

        Parameters
        ----------
        draw : Draw
        share : float or Tensor of shape ()
            Of beta: under 1 in the warm-up's steps.
        """
        raise NotImplementedError

    def expected_log_likelihood(self, draw):
        """E_q[log p(x | z)] over the draws, shape (n,)."""
        return draw.log_likelihood.mean(0) if draw.log_likelihood.ndim > 1 else draw.log_likelihood

    def kl(self, draw):
        """KL(q || p) of each row with its free bits, shape (n,)."""
        if not self.free_bits:
            return draw.kl
        own = draw.q.kl_of_components()
        paid = torch.where(own.mean(0) > self.free_bits, own, self.free_bits)
        return draw.kl + (paid - own).sum(-1)
