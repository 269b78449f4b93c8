"""What every objective provides: a number per row, in nats, that training maximises."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class ModelOutput(NamedTuple):
    """What the model gives for n rows, with draws of z along any leading axes (..., n)."""

    log_likelihood: Tensor  # (..., n), log p(x | z)
    q: Any  # Posterior, q(z | x)
    kl: Tensor  # (n,), KL(q(z | x) || p(z))
    z: Tensor  # (..., n, d)
    eps: Tensor  # (..., n, d), the standard normal noise that z was made from


def mean_of_draws(values: Tensor) -> Tensor:
    """The mean over all axes of values (..., n) but the rows', shape (n,)."""
    return values.flatten(0, -2).mean(0) if values.ndim > 1 else values


class Objective:
    """A lower bound on log p(x), or another number to maximise, for each row.

    A subclass defines ``rows``, and ``penalty`` if a term depends on several rows together.

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the term that draws q(z | x) to the prior.
    free_bits : float, default=0.0
        Nats of KL that each component may have at no cost in training. KL(q || p) is the sum of the components'
        own divergences and of their total correlation (0 for a diagonal q). Where the batch's mean of a component's
        divergence is below `free_bits`, `free_bits` takes its place and has no gradient.

    References
    ----------
    Kingma et al., Improved variational inference with inverse autoregressive flow, 2016, appendix C.8, eq. (15).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> from skvae.objectives import Objective
    >>> class SquaredKL(Objective):
    ...     def rows(self, output, kl_scale=1.0):
    ...         expected = output.log_likelihood.reshape(-1, len(output.kl)).mean(0)  # over the draws
    ...         return expected - self.beta * kl_scale * output.kl**2
    >>> VAETransformer(2, objective=SquaredKL, max_iter=2, random_state=0).fit(X).n_components_
    2
    """

    def __init__(self, beta: float = 1.0, free_bits: float = 0.0) -> None:
        self.beta = beta
        self.free_bits = free_bits
        self.kl_weight = beta

    def rows(self, output: ModelOutput, kl_scale: float | Tensor = 1.0) -> Tensor:
        """The objective of each row by itself, in nats, shape (n,).

        Parameters
        ----------
        output : ModelOutput
        kl_scale : float or Tensor of shape ()
            Factor of beta, which is below 1 in the warm-up's steps.
        """
        raise NotImplementedError

    def pull_back(self, grad: Tensor, kl_scale: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        """Gradients (n,) of one draw's log-likelihood and of the KL for that (n,) of the objective, by hand.

        A subclass without free bits may define it. Where all parts of a model have such a method, training does without
        autograd.
        """
        raise NotImplementedError

    def penalty(self, z: Tensor) -> float | Tensor:
        """The joint cost of the draws z (..., n, d) of n rows, in nats per row; 0 by default."""
        return 0.0

    def __call__(self, output: ModelOutput, kl_scale: float | Tensor = 1.0) -> Tensor:
        """Return what a training step maximises, shape (n,): `rows`, with free bits, minus the batch's `penalty`."""
        rows = self.rows(output, kl_scale)
        if self.free_bits:
            own = output.q.kl_of_components()
            paid = torch.where(own.mean(0) > self.free_bits, 0.0, self.free_bits - own)
            rows = rows - self.kl_weight * kl_scale * paid.sum(-1)
        return rows - self.penalty(output.z)
