"""The importance-weighted bound, in training and in `score`."""

import math

from torch import Tensor

from ._base import ModelOutput, Objective, mean_of_draws


def importance_bound(log_likelihood: Tensor, log_ratio: Tensor) -> Tensor:
    """log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x), shape (..., n), from terms of shape (..., K, n).

    It is a lower bound on log p(x) in expectation, which more draws never lower. If q is the exact posterior, it
    is exact with one draw.

    References
    ----------
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, eq. (8) and theorem 1.
    """
    return (log_likelihood + log_ratio).logsumexp(-2) - math.log(log_likelihood.shape[-2])


class IWAE(Objective):
    """`importance_bound` of the draws (`n_draws` in training), with the ratio p(z) / q(z | x) to the power beta.

    With one draw it is the ELBO, with the KL estimated from that draw. It is a lower bound on log p(x) for beta = 1.
    It has no KL term of its own, and so no free bits.

    References
    ----------
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, eq. (8).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, objective="iwae", n_draws=5, max_iter=2, random_state=0).fit(X)
    >>> vae.n_components_
    2
    """

    def __init__(self, beta: float = 1.0, free_bits: float = 0.0) -> None:
        if free_bits:
            raise ValueError(f"free_bits={free_bits} needs an objective with a KL term, and 'iwae' has none.")
        super().__init__(beta)

    def rows(self, output: ModelOutput, kl_scale: float | Tensor = 1.0) -> Tensor:
        log_likelihood, log_ratio = output.log_likelihood, output.q.log_prior_ratio(output.z, output.eps)
        if log_likelihood.ndim == 1:
            return log_likelihood + self.beta * kl_scale * log_ratio
        return mean_of_draws(importance_bound(log_likelihood, self.beta * kl_scale * log_ratio))
