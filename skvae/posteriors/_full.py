"""Any covariance, as a Cholesky factor from the encoder."""

import torch
from torch import Tensor

from ._base import Posterior, PullbackOfDraw


class FullPosterior(Posterior):
    r"""q(z | x) = N(mean, L L^T), L = diag(s)^(1/2) (I + R), R strictly lower; d + d(d+1)/2 numbers.

    raw = (mean, log s, the d(d-1)/2 entries of R row by row), so L_ii = sqrt(s_i) > 0 with no floor.
    R is in units of the diagonal, so that its entries have the same effect on the shape of the covariance
    however narrow the posterior is. KL to the prior = 1/2 [sum L_ij^2 + |mean|^2 - d - 2 sum log L_ii].

    Examples
    --------
    >>> import torch
    >>> from skvae.posteriors import FullPosterior
    >>> q = FullPosterior(torch.zeros(5, 9), n_components=3)
    >>> q.covariance().shape
    torch.Size([5, 3, 3])
    """

    def __init__(self, raw: Tensor, n_components: int) -> None:
        d = n_components
        self.mean, self.log_s, below = raw.tensor_split([d, 2 * d], dim=-1)
        row, column = torch.tril_indices(d, d, -1, device=raw.device)
        self.places = row * d + column  # of the numbers in R
        shape = raw.new_zeros(*raw.shape[:-1], d * d).index_copy(-1, self.places, below)
        self.shape = shape.unflatten(-1, (d, d))  # (..., d, d), R
        self.std = torch.exp(0.5 * self.log_s)

    @staticmethod
    def n_raw(n_components: int) -> int:
        return n_components + n_components * (n_components + 1) // 2

    def scale(self, eps: Tensor) -> Tensor:
        return self.std * (eps + (self.shape @ eps.unsqueeze(-1)).squeeze(-1))

    def whiten(self, delta: Tensor) -> Tensor:
        delta = (delta / self.std).unsqueeze(-1)
        return torch.linalg.solve_triangular(self.shape, delta, upper=False, unitriangular=True).squeeze(-1)

    def draw_with_pullback(self, eps: Tensor) -> tuple[Tensor, Tensor, PullbackOfDraw]:
        scaled = self.scale(eps)

        def pullback(to_z: Tensor, to_kl: Tensor) -> Tensor:
            to_kl = to_kl.unsqueeze(-1)
            to_log_s = torch.addcmul(to_z * scaled, self.variance() - 1, to_kl).mul_(0.5)
            to_shape = (self.std * to_z).unsqueeze(-1) * eps.unsqueeze(-2)
            to_shape.addcmul_((self.std.square() * to_kl).unsqueeze(-1), self.shape)
            to_below = to_shape.flatten(-2).index_select(-1, self.places)
            return torch.cat([torch.addcmul(to_z, self.mean, to_kl), to_log_s, to_below], dim=-1)

        return self.mean + scaled, self.kl(), pullback

    def log_det(self) -> Tensor:
        return self.log_s.sum(-1)

    def variance(self) -> Tensor:
        return self.log_s.exp() * (1 + self.shape.square().sum(-1))

    @classmethod
    def init_from_precision(cls, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = len(precision)
        raw = torch.cat([-precision.log(), precision.new_zeros(d * (d - 1) // 2)])
        return torch.eye(d, dtype=precision.dtype), precision, raw
