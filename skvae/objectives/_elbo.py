"""The evidence lower bound."""

import torch
from torch import Tensor

from ._base import ModelOutput, Objective, mean_of_draws


class ELBO(Objective):
    """E_q[log p(x | z)] - beta KL(q(z | x) || p(z)), with the expectation over the draws.

    It is a lower bound on log p(x) for beta >= 1 and without free bits.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, eq. (7).
    Higgins et al., beta-VAE, 2017, eq. (4).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, objective="elbo", beta=4, max_iter=2, random_state=0).fit(X)
    >>> vae.n_components_
    2
    """

    def rows(self, output: ModelOutput, kl_scale: float | Tensor = 1.0) -> Tensor:
        expected, weight = mean_of_draws(output.log_likelihood), self.kl_weight * kl_scale
        if isinstance(weight, Tensor):
            return expected - weight * output.kl
        return torch.sub(expected, output.kl, alpha=weight)  # in one operation

    def pull_back(self, grad: Tensor, kl_scale: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        return grad, grad * (-self.kl_weight * kl_scale)
