"""Student's t likelihood: noise with heavy tails, in which single values may lie far out."""

import math

import torch
from torch import Tensor, nn

from ._gaussian import GaussianLikelihood

LEAST_NU, GREATEST_NU = 2.5, 200.0  # degrees of freedom: variances are finite; nearly the normal distribution


class StudentTLikelihood(GaussianLikelihood):
    """Means that are trained under a t distribution of one scale, then a noise variance per feature for these means.

    x | z ~ t(f(z), c, nu) in each feature, with nu degrees of freedom and the squared scale c = v (nu - 2) / nu, so
    that v is the variance. A known error of variance s^2 makes it c + s^2. nu is one number for all features. It starts
    where the linear model's likelihood is greatest, is trained with the means, and is fitted again with the noise per
    feature. Values that lie far out pull little: a residual r counts as (nu + 1) / (nu + r^2 / c) of itself. Rows that
    are odd as a whole have such residuals in most of their values.

    References
    ----------
    Lange, Little and Taylor, Robust statistical modeling using the t distribution, 1989. Liu and Rubin, ML estimation
    of the t distribution using EM and its extensions, ECM and ECME, 1995.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, likelihood="student_t", max_iter=2, random_state=0).fit(X)
    >>> vae.noise_variance_.shape
    (4,)
    """

    has_tails = True

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        self.log_excess = nn.Parameter(torch.tensor(math.log(5.0)))  # of nu over its least

    @property
    def degrees_of_freedom(self) -> Tensor:
        """nu, shape ()."""
        return LEAST_NU + self.log_excess.clamp(max=math.log(GREATEST_NU - LEAST_NU)).exp()

    @torch.no_grad()
    def set_degrees_of_freedom(self, nu: float) -> None:
        """Set nu, clipped to the range that it may have."""
        self.log_excess.fill_(math.log(min(max(nu, LEAST_NU + 1e-3), GREATEST_NU) - LEAST_NU))

    def squared_scale(self, variance: Tensor) -> Tensor:
        """The squared scale c of a t distribution with this variance."""
        nu = self.degrees_of_freedom.to(variance.dtype)
        return variance * (nu - 2) / nu

    def without_tails(self, squares: Tensor, variance: Tensor, errors: Tensor | None) -> Tensor:
        """Squared residuals (n, p) under this variance and errors, as those of a normal distribution in a step of EM.

        A square q becomes (nu + 1) / (nu + q / c) q in units of c, whose mean is the scale's.
        """
        nu, c = self.degrees_of_freedom.detach().to(squares.dtype), self.squared_scale(variance).detach()
        whole = variance
        if errors is not None:
            c, whole = c + errors, variance + errors
        return (nu + 1) / (nu + squares / c) * squares * (whole / c).nan_to_num(1.0)

    @torch.no_grad()
    def fit_degrees_of_freedom(
        self, squares: Tensor, variance: Tensor, errors: Tensor | None, weight: Tensor | None
    ) -> None:
        """Take the nu that makes squared residuals (n, p) of this variance most likely: ECME's step.

        `weight` (n,) has the rows' weights; None: they weigh alike.
        """
        candidates = LEAST_NU + torch.logspace(
            -1, math.log10(GREATEST_NU - LEAST_NU), 30, dtype=squares.dtype, device=squares.device
        )
        likely = []
        for nu in candidates:
            c = variance * (nu - 2) / nu
            of_values = t_log_density(squares, c if errors is None else c + errors, nu)
            likely.append((of_values if weight is None else weight.unsqueeze(1) * of_values).nansum())
        self.set_degrees_of_freedom(candidates[torch.stack(likely).argmax()].item())

    def log_density(self, raw: Tensor, u: Tensor, errors: Tensor | None = None) -> Tensor:
        c = self.squared_scale(self.log_variance().exp())
        return t_log_density((u - raw).square(), c if errors is None else c + errors, self.degrees_of_freedom)

    def log_prob(self, raw: Tensor, u: Tensor) -> Tensor:
        return self.log_density(raw, u).sum(-1)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """By the polar method (Bailey, Polar generation of random variates with the t distribution, 1994)."""
        first, second = torch.empty(2, *raw.shape, dtype=raw.dtype, device=raw.device).uniform_(generator=generator)
        nu = self.degrees_of_freedom.to(raw.dtype)
        radius = (nu * torch.expm1(-2 / nu * first.clamp(min=torch.finfo(raw.dtype).tiny).log())).sqrt()
        t = radius * torch.cos(2 * math.pi * second)
        return raw + self.squared_scale(self.constant_variance()).sqrt() * t


def t_log_density(square: Tensor, c: Tensor, nu: Tensor) -> Tensor:
    """log t of each value, in nats, for the squared residual, the squared scale c and nu degrees of freedom."""
    constant = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * (nu * math.pi).log()
    return constant - 0.5 * c.log() - 0.5 * (nu + 1) * torch.log1p(square / (nu * c))
