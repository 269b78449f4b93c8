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
        self.whole, self.mean = whole, whole.mean
        self.told = (share > 0).unsqueeze(-1)  # a row without values has P = I
        L, share = whole.matrix().double(), share.double()[:, None, None]
        eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
        # P = L^-T [(1 - share) L^T L + share I] L^-1: however narrow the posterior, nothing is inverted
        inner = torch.where(share > 0, (1 - share) * (L.mT @ L) + share * eye, eye)
        factor, failed = torch.linalg.cholesky_ex(inner)  # which does not raise: a training that diverges meets NaN
        self.factor = factor.masked_fill(failed.bool()[:, None, None], torch.nan).to(self.mean.dtype)

    def scale(self, eps: Tensor) -> Tensor:
        eps = torch.linalg.solve_triangular(self.factor.mT, eps.unsqueeze(-1), upper=True).squeeze(-1)
        return torch.where(self.told, self.whole.scale(eps), eps)

    def whiten(self, delta: Tensor) -> Tensor:
        delta = torch.where(self.told, self.whole.whiten(delta), delta)
        return (self.factor.mT @ delta.unsqueeze(-1)).squeeze(-1)

    def log_det(self) -> Tensor:
        whole = torch.where(self.told.squeeze(-1), self.whole.log_det(), 0.0)
        return whole - 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self) -> Tensor:
        return self.covariance().diagonal(dim1=-2, dim2=-1)
