"""What every posterior q(z | x) provides, built from four primitives of its scale matrix."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
PullbackOfDraw = Callable[[Tensor, Tensor], Tensor]


class Posterior:
    r"""A batch of Gaussian posteriors q(z | x) = N(mean, L L^T), one per row.

    The encoder gives `n_raw(d)` unconstrained numbers per row, and a subclass turns them into a mean
    and a scale matrix L. The subclass need not build L, as it only defines how L acts.

    A subclass sets ``mean`` (..., d) in ``__init__`` and defines

    - ``n_raw(d)``: how many numbers the encoder emits per row. By convention the first d are the mean;
    - ``scale(eps)``: L @ eps, over the last axis;
    - ``whiten(delta)``: L^-1 @ delta, over the last axis;
    - ``log_det()``: log det(L L^T), shape (...);
    - ``variance()``: the diagonal of L L^T, shape (..., d).

    Sampling, density, entropy, Kullback-Leibler divergence (all in nats) and dense covariance follow from these.

    Parameters
    ----------
    raw : Tensor of shape (..., n_raw(n_components))
        The encoder's output.
    n_components : int
        Dimension d of the latent space.

    Attributes
    ----------
    mean : Tensor of shape (..., n_components)
    order_matters : bool, class attribute, default=False
        Whether the order of the components is part of the family, so that the estimator must not sort them.

    Examples
    --------
    >>> import torch
    >>> from skvae.posteriors import Posterior
    >>> class UnitPosterior(Posterior):  # q(z | x) = N(mean, I)
    ...     def __init__(self, raw, n_components):
    ...         self.mean = raw
    ...
    ...     @staticmethod
    ...     def n_raw(n_components):
    ...         return n_components
    ...
    ...     def scale(self, eps):
    ...         return eps
    ...
    ...     def whiten(self, delta):
    ...         return delta
    ...
    ...     def log_det(self):
    ...         return torch.zeros(self.mean.shape[:-1])
    ...
    ...     def variance(self):
    ...         return torch.ones_like(self.mean)
    >>> UnitPosterior(torch.ones(2, 3), 3).kl()  # half the squared length of the mean
    tensor([1.5000, 1.5000])
    """

    mean: Tensor
    order_matters: ClassVar[bool] = False

    def __init__(self, raw: Tensor, n_components: int) -> None:
        raise NotImplementedError

    @staticmethod
    def n_raw(n_components: int) -> int:
        raise NotImplementedError

    def scale(self, eps: Tensor) -> Tensor:
        raise NotImplementedError

    def whiten(self, delta: Tensor) -> Tensor:
        raise NotImplementedError

    def log_det(self) -> Tensor:
        raise NotImplementedError

    def variance(self) -> Tensor:
        raise NotImplementedError

    def rsample(self, eps: Tensor) -> Tensor:
        """z = mean + L eps for standard normal ``eps`` (..., d), differentiable in the raw numbers."""
        return self.mean + self.scale(eps)

    def draw_with_pullback(self, eps: Tensor) -> tuple[Tensor, Tensor, PullbackOfDraw]:
        """`rsample` and `kl` of one draw of each row and, by hand, what takes their gradients back.

        A family need not define it. Where all parts of a model have such a method, training does without autograd.

        Parameters
        ----------
        eps : Tensor of shape (n, d)

        Returns
        -------
        z : Tensor of shape (n, d)
        kl : Tensor of shape (n,)
        pullback : callable
            (gradient of z, gradient of kl) -> gradient (n, n_raw) of the raw numbers.
        """
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x) in nats, shape (...)."""
        return self._log_density(self.whiten(z - self.mean))

    def log_prob_of_noise(self, eps: Tensor) -> Tensor:
        """``log_prob(rsample(eps))`` without undoing the sampling: exact however ill-conditioned L is."""
        return self._log_density(eps)

    def log_prior_ratio(self, z: Tensor, eps: Tensor) -> Tensor:
        """log p(z) / q(z | x) in nats for z = ``rsample(eps)``, p = N(0, I), shape (...)."""
        return 0.5 * ((eps.square() - z.square()).sum(-1) + self.log_det())

    def _log_density(self, eps: Tensor) -> Tensor:
        return -0.5 * (eps.square().sum(-1) + self.log_det() + eps.shape[-1] * LOG_2PI)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (...)."""
        return 0.5 * (self.log_det() + self.mean.shape[-1] * (1 + LOG_2PI))

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) = 1/2 [tr(L L^T) + |mean|^2 - d - log det(L L^T)] in nats, shape (...)."""
        return 0.5 * ((self.variance() + self.mean.square() - 1).sum(-1) - self.log_det())

    def kl_of_components(self) -> Tensor:
        """KL(q_j || N(0, 1)) of each component's marginal in nats, shape (..., d).

        `kl` is their sum plus the components' total correlation, KL(q || prod_j q_j).
        """
        variance = self.variance()
        tiny = torch.finfo(variance.dtype).tiny  # a variance may underflow
        return 0.5 * (variance + self.mean.square() - 1 - variance.clamp(min=tiny).log())

    def matrix(self) -> Tensor:
        """Dense L, shape (..., d, d)."""
        d = self.mean.shape[-1]
        eye = torch.eye(d, dtype=self.mean.dtype, device=self.mean.device)
        eye = eye.reshape(d, *[1] * (self.mean.ndim - 1), d).expand(d, *self.mean.shape)
        return self.scale(eye).movedim(0, -1)

    def covariance(self) -> Tensor:
        """Dense L L^T, shape (..., d, d)."""
        L = self.matrix()
        return L @ L.mT

    @classmethod
    def init_from_precision(cls, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Find where to start when the exact posterior has precision P = diag(precision) in some rotation.

        Returns the rotation V (d, d) of the latent space, the precision p' of the model to start from, and the
        raw numbers after the mean for which KL(q || N(mean, (V diag(p') V^T)^-1)) is least. A family that
        does not contain the exact posterior may gain from a model with other loadings. This default keeps
        V = I and p' = p and searches for the raw numbers, so that a new posterior starts well without code of its
        own; a subclass that knows its optimum returns it.

        Parameters
        ----------
        precision : Tensor of shape (d,), float64
            In descending order, at least 1.

        Returns
        -------
        rotation : Tensor of shape (d, d)
        precision : Tensor of shape (d,), at least 1
        raw : Tensor of shape (n_raw(d) - d,)
        """
        d = len(precision)
        mean = torch.zeros(d, dtype=precision.dtype)
        raw = torch.zeros(cls.n_raw(d) - d, dtype=precision.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe")

        def divergence() -> Tensor:
            optimizer.zero_grad()
            q = cls(torch.cat([mean, raw]), d)
            loss = 0.5 * ((q.variance() * precision).sum() - q.log_det())
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(divergence)
        return torch.eye(d, dtype=precision.dtype), precision, raw.detach()
