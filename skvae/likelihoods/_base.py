"""What every likelihood p(x | z) provides."""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# Least noise variance of a Gaussian, as a share of the feature's variance. log p grows without bound as a
# variance goes to 0, which happens with constant or duplicated columns and in Heywood cases of factor analysis.
NOISE_FLOOR = 1e-6
Add = Callable[[Tensor, Tensor], None]  # of a parameter and its gradient


class Likelihood(nn.Module):
    """Density of a row given the decoder's output, in the units of the network's data u.

    Parameters
    ----------
    mean, scale : Tensor of shape (n_features,), float64
        Means and `units` of X's columns.

    Attributes
    ----------
    standardises : bool, class attribute
        Whether u = (x - mean) / scale. Otherwise u is x.
    linear_noise : {"feature", "isotropic", "unit", "known"} or None, class attribute
        The linear-Gaussian model whose optimum training starts from: factor analysis, probabilistic PCA,
        PCA with noise variance one in X's units, or without noise beside the values' known errors. With None there is
        no such optimum, and the decoder starts at `init_without_linear_model`, or, if the likelihood `is_natural`, near
        the optimum of the linear model that has this likelihood.
    has_noise : bool, class attribute
        Whether x | z has noise of its own beside the values' known errors.
    takes_errors : bool, class attribute
        Whether `log_density` takes the variances of the values' known errors.
    has_channel_noise : bool, class attribute
        Whether a noise variance per feature is fitted when training is over, by `set_channel_variance`, under which
        rows are then scored.
    has_tails : bool, class attribute
        Whether the noise is a t distribution, of `degrees_of_freedom`.
    is_natural : bool, class attribute
        Whether log p(x | z) = x r - A(r) + h(x) for each feature, with r the decoder's output: an exponential family in
        its natural parameter. Its score in r is then x - E[x | z], its Fisher information Var[x | z], and rows are
        scored by Laplace's method.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> import math
    >>> from skvae.likelihoods import Likelihood
    >>> class LaplaceLikelihood(Likelihood):  # in which rows far away cost little
    ...     standardises = True
    ...
    ...     def log_density(self, raw, u):
    ...         return -(u - raw).abs() / 0.3 - math.log(0.6)
    ...
    ...     def mean(self, raw):
    ...         return raw
    >>> vae = VAETransformer(2, likelihood=LaplaceLikelihood, max_iter=2, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (150, 2)
    """

    standardises: ClassVar[bool] = False
    linear_noise: ClassVar[Literal["feature", "isotropic", "unit", "known"] | None] = None
    has_noise: ClassVar[bool] = True
    takes_errors: ClassVar[bool] = False
    has_channel_noise: ClassVar[bool] = False
    has_tails: ClassVar[bool] = False
    is_natural: ClassVar[bool] = False

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.column_mean, self.column_scale = mean, scale

    @classmethod
    def has_linear_model(cls) -> bool:
        """Whether training starts at a linear model: in closed form, or by EM for an exponential family."""
        return cls.linear_noise is not None or cls.is_natural

    @staticmethod
    def n_raw(n_features: int) -> int:
        """How many numbers the decoder emits per row. By convention the first n_features give the mean."""
        return n_features

    @staticmethod
    def check(X: NDArray[np.floating]) -> None:
        """Raise ValueError unless the measured values of the array X lie in the support."""

    @staticmethod
    def units(scale: Tensor) -> Tensor:
        """X's units per unit of u (n_features,), where X's columns have standard deviations `scale` (n_features,).

        Raises
        ------
        ValueError
            If the likelihood cannot be computed for such columns.
        """
        return scale

    def inputs(self, u: Tensor) -> Tensor:
        """What the encoder sees of the rows u."""
        return u

    def log_density(self, raw: Tensor, u: Tensor) -> Tensor:
        """log p(u_k | z) of each feature in nats, for raw (..., n_raw) and u broadcasting to (..., n_features).

        Where the likelihood `takes_errors`, a third argument has the variances of the errors of u, in its shape.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks log_density, which training and missing values need.")

    def log_prob(self, raw: Tensor, u: Tensor) -> Tensor:
        """log p(u | z) in nats, shape (...): the sum of `log_density`. A subclass may compute it faster."""
        return self.log_density(raw, u).sum(-1)

    def pull_back(self, grad: Tensor, raw: Tensor, u: Tensor, add: Add) -> Tensor:
        """The gradient (n, n_raw) of raw for that of `log_prob` (n,), by hand.

        A subclass need not define it. Where all parts of a model have such a method, training does without autograd.

        Parameters
        ----------
        grad : Tensor of shape (n,)
        raw : Tensor of shape (n, n_raw)
        u : Tensor of shape (n, n_features)
        add : callable
            Called with each parameter of the likelihood and its gradient.
        """
        raise NotImplementedError

    def mean(self, raw: Tensor) -> Tensor:
        """E[u | z], shape (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks mean, which inverse_transform needs.")

    def variance(self, raw: Tensor) -> Tensor:
        """Var[u | z], shape (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks variance, which standard deviations of x need.")

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of u | z from each row of raw, shape (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks sample.")

    def init_noise(self, variance: Tensor) -> Tensor:
        """Start at the noise ``variance`` (n_features,) of the linear optimum, in units of u.

        Returns the constant terms of the decoder's outputs after those of the mean, shape (n_raw - n_features,).
        """
        return variance.new_empty(0)

    def init_without_linear_model(self) -> tuple[Tensor, Tensor]:
        """Find where the decoder starts if there is no linear optimum.

        Returns the outputs at which E[x | z] is X's column mean for every z, and the size of a change in them that
        matters, both of shape (n_raw,). By default they are 0 and 1.
        """
        n_raw = self.n_raw(len(self.column_mean))
        return torch.zeros(n_raw), torch.ones(n_raw)

    def constant_variance(self) -> Tensor | None:
        """Noise variance (n_features,) or (), in units of u, or None where it is not one number per feature."""
        return None


def check_range(X: NDArray[np.floating], likelihood: str, low: float, high: float) -> None:
    """Raise ValueError unless the measured values of the array X lie in [low, high]."""
    least, most = np.fmin.reduce(X, axis=None), np.fmax.reduce(X, axis=None)
    if least < low or most > high:
        raise ValueError(
            f"likelihood={likelihood!r} takes X in [{low:g}, {high:g}], but X ranges from {least:g} to {most:g}."
        )


def standard_normal_like(mean: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(mean).normal_(generator=generator)
