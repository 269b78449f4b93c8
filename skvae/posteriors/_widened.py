"""The posterior of a row with values missing: that of a whole row, widened."""

import torch

from ._base import Posterior


class WidenedPosterior(Posterior):
    r"""N(mean, G L L^T G^T) for a posterior N(mean, L L^T) of any family and a matrix G a row.

    Parameters
    ----------
    whole : Posterior
    widening : Tensor of shape (n, d, d)
        G, upper triangular with a positive diagonal.
    """

    def __init__(self, whole, widening):
        self.whole, self.mean, self.widening = whole, whole.mean, widening

    def scale(self, eps):
        return (self.widening @ self.whole.scale(eps).unsqueeze(-1)).squeeze(-1)

    def whiten(self, delta):
        delta = torch.linalg.solve_triangular(self.widening, delta.unsqueeze(-1), upper=True)
        return self.whole.whiten(delta.squeeze(-1))

    def log_det(self):
        return self.whole.log_det() + 2 * self.widening.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self):
        return self.covariance().diagonal(dim1=-2, dim2=-1)
