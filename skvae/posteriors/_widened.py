"""The posterior of a row with values missing: that of a whole row, widened."""

import torch
from torch import Tensor

from ._base import Posterior


class WidenedPosterior(Posterior):
    r"""N(mean, G L L^T G^T) for a posterior N(mean, L L^T) of any family and a matrix G a row.

    Parameters
    ----------
    whole : Posterior
    widening : Tensor of shape (n, d, d)
        G, upper triangular with a positive diagonal.
    """

    def __init__(self, whole: Posterior, widening: Tensor) -> None:
        self.whole, self.mean, self.widening = whole, whole.mean, widening

    def scale(self, eps: Tensor) -> Tensor:
        return (self.widening @ self.whole.scale(eps).unsqueeze(-1)).squeeze(-1)

    def whiten(self, delta: Tensor) -> Tensor:
        delta = torch.linalg.solve_triangular(self.widening, delta.unsqueeze(-1), upper=True)
        return self.whole.whiten(delta.squeeze(-1))

    def log_det(self) -> Tensor:
        return self.whole.log_det() + 2 * self.widening.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self) -> Tensor:
        return self.covariance().diagonal(dim1=-2, dim2=-1)
