"""Independent components: the posterior of Kingma and Welling's Auto-Encoding Variational Bayes."""

import torch
from torch import Tensor

from ._base import Posterior, PullbackOfDraw


class DiagPosterior(Posterior):
    r"""q(z | x) = N(mean, diag(s)); raw = (mean, log s), 2 d numbers.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendices B and C.2.

    Examples
    --------
    >>> import torch
    >>> from skvae.posteriors import DiagPosterior
    >>> q = DiagPosterior(torch.zeros(5, 6), n_components=3)
    >>> q.kl()  # it is the prior
    tensor([0., 0., 0., 0., 0.])
    """

    def __init__(self, raw: Tensor, n_components: int) -> None:
        self.mean, self.log_s = raw.chunk(2, dim=-1)

    @staticmethod
    def n_raw(n_components: int) -> int:
        return 2 * n_components

    def scale(self, eps: Tensor) -> Tensor:
        return torch.exp(0.5 * self.log_s) * eps

    def whiten(self, delta: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.log_s) * delta

    def kl(self) -> Tensor:
        return 0.5 * (self.log_s.exp() + self.mean.square() - self.log_s - 1).sum(-1)

    def log_det(self) -> Tensor:
        return self.log_s.sum(-1)

    def variance(self) -> Tensor:
        return self.log_s.exp()

    def draw_with_pullback(self, eps: Tensor) -> tuple[Tensor, Tensor, PullbackOfDraw]:
        noise = self.scale(eps)

        def pullback(to_z: Tensor, to_kl: Tensor) -> Tensor:
            to_kl = to_kl.unsqueeze(-1)
            to_log_s = torch.addcmul(to_z * noise, self.variance() - 1, to_kl).mul_(0.5)
            return torch.cat([torch.addcmul(to_z, self.mean, to_kl), to_log_s], dim=-1)

        return self.mean + noise, self.kl(), pullback

    @classmethod
    def init_from_precision(cls, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.eye(len(precision), dtype=precision.dtype), precision, -precision.log()
