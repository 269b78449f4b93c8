"""AR(1) correlation along the components, which takes one number per row."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ._base import Posterior, PullbackOfDraw


def doubled_powers(rho: Tensor, d: int) -> list[Tensor]:
    """rho, rho^2, rho^4, ..., as many as `ar1` needs along d components."""
    powers = [rho] if d > 1 else []
    while 2 ** len(powers) < d:
        powers.append(powers[-1] * powers[-1])
    return powers


def ar1(noise: Tensor, powers: list[Tensor], from_last: bool = False) -> Tensor:
    """Compute u_j = rho u_{j-1} + noise_j along the last axis, in log2(d) doubling steps, in place.

    The recursion is the operator sum_i (rho S)^i, where S is the shift by one. It factors into
    (1 + rho S)(1 + rho^2 S^2)(1 + rho^4 S^4)..., which takes O(d log d) work and no d x d matrix.
    With `from_last` it is the transpose, u_j = rho u_{j+1} + noise_j.
    """
    d = noise.shape[-1]
    for k, power in enumerate(powers):
        n = d - 2**k
        to, since = (0, d - n) if from_last else (d - n, 0)
        noise.narrow(-1, to, n).add_(power * noise.narrow(-1, since, n))
    return noise


class StationaryAR1(torch.autograd.Function):
    """u_0 = eps_0, u_j = rho u_{j-1} + sqrt(1 - rho^2) eps_j, rho = tanh(t): covariance T(rho) from white eps.

    The transpose of the recursion is the same recursion from the last component to the first, so the
    gradient costs one more recursion. If a is its result, then
    dL/dt = sum_{j > 0} a_j ((1 - rho^2) u_{j-1} - rho sqrt(1 - rho^2) eps_j), dL/d eps_j = sqrt(1 - rho^2) a_j.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(eps: Tensor, t: Tensor) -> Tensor:
        u = eps / torch.cosh(t)  # sqrt(1 - rho^2), also where tanh rounds to 1
        u[..., 0] = eps[..., 0]
        return ar1(u, doubled_powers(torch.tanh(t), u.shape[-1]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        eps, t, u = ctx.saved_tensors
        rho, width = torch.tanh(t), 1 / torch.cosh(t)
        a = ar1(grad.clone(), doubled_powers(rho, grad.shape[-1]), from_last=True)
        to_rho = torch.addcmul(width * u[..., :-1], rho, eps[..., 1:], value=-1)
        to_t = (width * (a[..., 1:] * to_rho).sum(-1, keepdim=True)).sum_to_size(rho.shape)
        if not ctx.needs_input_grad[0]:
            return None, to_t
        return torch.cat([a[..., :1], width * a[..., 1:]], dim=-1), to_t


class RhoDiagPosterior(Posterior):
    r"""q(z | x) = N(mean, S^(1/2) T(rho) S^(1/2)), S = diag(s), T(rho)_ij = rho^|i-j|; 2 d + 1 numbers.

    raw = (mean, log s, t) with rho = tanh(t). The family contains the diagonal posterior (rho = 0) and the
    AR(1) posterior (equal s). The order of the components is part of the model.

    Examples
    --------
    >>> import torch
    >>> from skvae.posteriors import RhoDiagPosterior
    >>> q = RhoDiagPosterior(torch.zeros(5, 7), n_components=3)
    >>> q.variance().shape
    torch.Size([5, 3])
    """

    order_matters = True

    def __init__(self, raw: Tensor, n_components: int) -> None:
        d = n_components
        self.mean, self.log_s, self.t = raw.split([d, raw.shape[-1] - 1 - d, 1], dim=-1)

    @staticmethod
    def n_raw(n_components: int) -> int:
        return 2 * n_components + 1

    def log1m(self) -> Tensor:
        """log(1 - rho^2) = 2 (log 2 - t - softplus(-2 t)), finite where tanh rounds to 1; shape (..., 1)."""
        return 2 * (math.log(2) - self.t - functional.softplus(-2 * self.t))

    def scale(self, eps: Tensor) -> Tensor:
        return torch.exp(0.5 * self.log_s) * StationaryAR1.apply(eps, self.t)

    def whiten(self, delta: Tensor) -> Tensor:
        u = torch.exp(-0.5 * self.log_s) * delta
        later = (u[..., 1:] - torch.tanh(self.t) * u[..., :-1]) * torch.exp(-0.5 * self.log1m())
        return torch.cat([u[..., :1], later], dim=-1)

    def draw_with_pullback(self, eps: Tensor) -> tuple[Tensor, Tensor, PullbackOfDraw]:
        mean, log_s, d = self.mean, self.log_s, self.mean.shape[-1]
        std, rho = torch.exp(0.5 * log_s), torch.tanh(self.t)
        width, powers = 1 / torch.cosh(self.t), doubled_powers(rho, d)
        u = eps.clone()
        u.narrow(-1, 1, d - 1).mul_(width)
        scaled = std * ar1(u, powers)

        def pullback(to_z: Tensor, to_kl: Tensor) -> Tensor:
            to_kl = to_kl.unsqueeze(-1)
            to_log_s = torch.addcmul(to_z * scaled, log_s.exp() - 1, to_kl).mul_(0.5)
            a = ar1(to_z * std, powers, from_last=True)[..., 1:]
            to_rho = torch.addcmul(width * u[..., :-1], rho, eps[..., 1:], value=-1)
            to_t = torch.addcmul(width * (a * to_rho).sum(-1, keepdim=True), rho, to_kl, value=d - 1)
            to_log_s = to_log_s.sum(-1, keepdim=True) if log_s.shape[-1] < d else to_log_s
            return torch.cat([torch.addcmul(to_z, mean, to_kl), to_log_s, to_t], dim=-1)

        return mean + scaled, self.kl(), pullback

    def log_det(self) -> Tensor:
        d = self.mean.shape[-1]
        return self.log_s.expand_as(self.mean).sum(-1) + (d - 1) * self.log1m().squeeze(-1)

    def variance(self) -> Tensor:
        return self.log_s.exp().expand_as(self.mean)

    def kl(self) -> Tensor:
        independent = (self.mean.square() + (self.log_s.exp() - self.log_s - 1)).sum(-1)
        return 0.5 * torch.sub(independent, self.log1m().squeeze(-1), alpha=self.mean.shape[-1] - 1)

    @classmethod
    def init_from_precision(cls, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = torch.cat([-precision.log(), precision.new_zeros(1)])
        return torch.eye(len(precision), dtype=precision.dtype), precision, raw


class RhoPosterior(RhoDiagPosterior):
    r"""q(z | x) = N(mean, s T(rho)), T(rho)_ij = rho^|i-j|: the rho-VAE's posterior; d + 2 numbers.

    raw = (mean, log s, t). KL to the prior = 1/2 [|mean|^2 + d (s - 1 - log s) - (d-1) log(1 - rho^2)].

    References
    ----------
    Ferdowsi et al., rho-VAE: Autoregressive parametrization of the VAE encoder, arXiv:1909.06236.
    Errata: eq. (7) prints 1/sqrt(s) for sqrt(s) and starts its last row at rho^d for rho^(d-1); the
    recursion in the text lacks sqrt(1 - rho^2) and lets rho mean_{j-1} enter z_j. Equations (4) to (6)
    are right and are what this class computes. At d = 2 the family is the diagonal one turned by 45
    degrees, so both reach the same optimum.

    Examples
    --------
    >>> import torch
    >>> from skvae.posteriors import RhoPosterior
    >>> q = RhoPosterior(torch.zeros(5, 5), n_components=3)
    >>> q.variance().shape
    torch.Size([5, 3])
    """

    @staticmethod
    def n_raw(n_components: int) -> int:
        return n_components + 2

    @classmethod
    def init_from_precision(cls, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the joint optimum of the model's precision p', of the rotation and of s and rho.

        P^-1 takes the eigenvectors of T(rho), and p's largest value is paired with T's smallest eigenvalue. If e are
        the eigenvalues of T(rho), the bound is, up to a constant, -1/2 sum_j [p_j / p'_j + s e_j p'_j - log(s e_j)]
        (the first term is the likelihood of the loadings that make p'). It is greatest for p'_j = sqrt(p_j / (s e_j))
        and sqrt(s) = d / sum_j sqrt(p_j e_j), as long as all p' are at least 1. It is concave in log p' and log s, so
        where some p' are held at 1 (as those with p_j = 1 are), alternating between the two finds its maximum. rho is
        found by a search on a grid of t.
        """
        d = len(precision)
        least, most = torch.ones_like(precision), torch.where(precision > 1, torch.inf, 1.0)

        lags = (torch.arange(d)[:, None] - torch.arange(d)).abs().to(precision)

        def correlation(t: Tensor) -> Tensor:
            return torch.tanh(t)[..., None, None] ** lags

        def optimum(e: Tensor) -> tuple[Tensor, Tensor]:
            """p' and s for ascending eigenvalues e (..., d), which are paired with the descending precision."""
            s = (d / (precision * e).sqrt().sum(-1, keepdim=True)).square()
            for _ in range(50):
                best = torch.clamp((precision / (s * e)).sqrt(), least, most)
                s = d / (best * e).sum(-1, keepdim=True)
            return best, s

        def divergence(t: Tensor) -> Tensor:
            e = torch.linalg.eigvalsh(correlation(t)).clamp(min=1e-300)  # ascending
            best, s = optimum(e)
            return (precision / best + s * e * best - (s * e).log()).sum(-1)

        low, high = 0.0, 12.0 if d > 1 else 0.0
        for _ in range(8):  # each pass narrows the bracket around the best of 33 points
            t = torch.linspace(low, high, 33, dtype=precision.dtype)
            best = t[divergence(t).argmin()]
            width = (high - low) / 32
            low, high = max(best.item() - width, 0.0), best.item() + width
        e, rotation = torch.linalg.eigh(correlation(best))
        precision, s = optimum(e)
        return rotation, precision, torch.stack([s.log().squeeze(), best])
