"""The posterior of a row with values missing, where nothing is known of what each would have told."""

import torch
from torch import Tensor

from ._base import Posterior


class TemperedPosterior(Posterior):
    r"""N(mean, P^-1), P = I + share (C^-1 - I), for a posterior N(mean, C) of any family and a share a row.

    What a row tells of z beyond the prior is taken to be spread evenly over its values, of which a share is there.

    Parameters
    ----------
    whole : Posterior
    share : Tensor of shape (n,)
    """

    def __init__(self, whole: Posterior, share: Tensor) -> None:
        self.mean = whole.mean
        covariance = whole.covariance().double()
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        precision = eye + share.double()[:, None, None] * (torch.linalg.inv(covariance) - eye)
        self.factor = torch.linalg.cholesky(precision).to(self.mean.dtype)  # P = factor factor^T

    def scale(self, eps: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.factor.mT, eps.unsqueeze(-1), upper=True).squeeze(-1)

    def whiten(self, delta: Tensor) -> Tensor:
        return (self.factor.mT @ delta.unsqueeze(-1)).squeeze(-1)

    def log_det(self) -> Tensor:
        return -2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self) -> Tensor:
        return self.covariance().diagonal(dim1=-2, dim2=-1)
