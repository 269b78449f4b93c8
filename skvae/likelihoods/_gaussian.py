"""Gaussian likelihoods with noise per feature, isotropic noise, unit noise, or noise from the decoder."""

import math

import torch
from torch import Tensor, nn

from ._base import NOISE_FLOOR, Add, Likelihood, standard_normal_like

LOG_2PI = math.log(2 * math.pi)


class _ConstantNoise(Likelihood):
    """x | z ~ N(decoder(z), diag(v)); a subclass defines log v, in units of u."""

    standardises = True
    takes_errors = True

    def log_variance(self) -> Tensor:
        """log v, shape (n_features,), in units of u."""
        raise NotImplementedError

    def log_density(self, raw: Tensor, u: Tensor, errors: Tensor | None = None) -> Tensor:
        log_v = self.log_variance()
        if errors is not None:
            return normal_log_density(raw, u, log_v.exp() + errors)
        return -0.5 * ((u - raw).square() * torch.exp(-log_v) + log_v + LOG_2PI)

    def log_prob(self, raw: Tensor, u: Tensor) -> Tensor:
        log_v = self.log_variance()
        # One product with 1/v takes the place of a division and a sum over (..., n_features).
        return -0.5 * ((u - raw).square() @ torch.exp(-log_v) + log_v.sum() + log_v.shape[-1] * LOG_2PI)

    def pull_back(self, grad: Tensor, raw: Tensor, u: Tensor, add: Add) -> Tensor:
        delta, precision, half = u - raw, torch.exp(-self.log_variance()), 0.5 * grad
        self.pull_back_noise((half @ delta.square()).mul_(precision).sub_(half.sum()), add)
        return delta.mul_(precision).mul_(grad.unsqueeze(-1))

    def pull_back_noise(self, grad: Tensor, add: Add) -> None:
        """Add the gradient of the noise's parameter, for that (n_features,) of `log_variance`."""
        raise NotImplementedError

    def mean(self, raw: Tensor) -> Tensor:
        return raw

    def variance(self, raw: Tensor) -> Tensor:
        return self.log_variance().exp().expand_as(raw)

    def constant_variance(self) -> Tensor:
        return self.log_variance().exp()

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        return raw + torch.exp(0.5 * self.log_variance()) * standard_normal_like(raw, generator)


class DiagonalGaussianLikelihood(_ConstantNoise):
    """One learned noise variance per feature, as in factor analysis.

    The noise variance is at least 1e-6 of the feature's variance.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, likelihood="gaussian_diag", max_iter=2, random_state=0).fit(X)
    >>> vae.noise_variance_.shape
    (4,)
    """

    linear_noise = "feature"

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        self.log_v = nn.Parameter(torch.zeros(len(scale)))

    def log_variance(self) -> Tensor:
        return self.log_v.clamp(min=math.log(NOISE_FLOOR))

    def pull_back_noise(self, grad: Tensor, add: Add) -> None:
        add(self.log_v, grad * (self.log_v >= math.log(NOISE_FLOOR)))

    def init_noise(self, variance: Tensor) -> Tensor:
        self.log_v.data.copy_(variance.clamp(min=NOISE_FLOOR).log())
        return super().init_noise(variance)


class IsotropicGaussianLikelihood(_ConstantNoise):
    """Isotropic noise: one learned variance for all features, in X's units, as in probabilistic PCA.

    The noise variance is at least 1e-6 of the features' mean variance.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> from sklearn.decomposition import PCA
    >>> vae = VAETransformer(2, likelihood="gaussian_isotropic", max_iter=0, random_state=0).fit(X)  # the start
    >>> abs(vae.score(X) - PCA(2).fit(X).score(X)) < 1e-4
    True
    """

    linear_noise = "isotropic"
    log_share: Tensor

    @staticmethod
    def units(scale: Tensor) -> Tensor:
        """Standard deviations, but at least 1e-6 of their root mean square: this noise hides smaller ones."""
        return scale.clamp(min=1e-6 * scale.square().mean().sqrt())

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        self.log_v = nn.Parameter(torch.zeros(()))  # as a share of the scales' mean square
        self.register_buffer("log_share", (scale.square().mean().log() - 2 * scale.log()).float())

    def log_variance(self) -> Tensor:
        return self.log_v.clamp(min=math.log(NOISE_FLOOR)) + self.log_share

    def pull_back_noise(self, grad: Tensor, add: Add) -> None:
        add(self.log_v, grad.sum() * (self.log_v >= math.log(NOISE_FLOOR)))

    def init_noise(self, variance: Tensor) -> Tensor:
        share = (variance.log() - self.log_share).mean().clamp(min=math.log(NOISE_FLOOR))
        self.log_v.data.copy_(share)
        return super().init_noise(variance)


class GaussianLikelihood(IsotropicGaussianLikelihood):
    """Means that are trained under isotropic noise, then a noise variance per feature for these means.

    Isotropic noise keeps the means, and so reconstructions and components, PCA's or better. Densities, imputed values
    and samples have the noise variance per feature, which is fitted when the means are done (`skvae._training`), and
    the posterior under it.

    Attributes
    ----------
    channel_variance : Tensor of shape (n_features,)
        The noise variance per feature, in units of u.
    channel_rows : Tensor of shape ()
        How many rows it rests on; 0 before it is fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, likelihood="gaussian", max_iter=2, random_state=0).fit(X)
    >>> vae.noise_variance_.shape
    (4,)
    """

    has_channel_noise = True
    channel_variance: Tensor
    channel_rows: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        self.register_buffer("channel_variance", torch.ones(len(scale)))
        self.register_buffer("channel_rows", torch.zeros(()))

    @property
    def n_channel_rows(self) -> float:
        return self.channel_rows.item()

    @torch.no_grad()
    def set_channel_variance(self, variance: Tensor, n_rows: float) -> None:
        """Take the noise variance per feature, and the number of rows that it rests on."""
        tiny = torch.finfo(self.channel_variance.dtype).tiny
        self.channel_variance.copy_(variance.clamp(min=tiny, max=1e36))  # rows may be as far away as float64 allows
        self.channel_rows.fill_(n_rows)

    def constant_variance(self) -> Tensor:
        return torch.where(self.channel_rows > 0, self.channel_variance, super().constant_variance())

    def variance(self, raw: Tensor) -> Tensor:
        return self.constant_variance().expand_as(raw)

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        return raw + self.constant_variance().sqrt() * standard_normal_like(raw, generator)


class UnitGaussianLikelihood(_ConstantNoise):
    """Noise variance one, in X's units: the identity covariance of many VAE tutorials.

    Its optimum depends on the units of X, so it suits data whose noise is known to have variance one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, likelihood="gaussian_unit", max_iter=2, random_state=0).fit(X)
    >>> round(vae.noise_variance_, 6)
    1.0
    """

    linear_noise = "unit"
    log_v: Tensor

    @staticmethod
    def units(scale: Tensor) -> Tensor:
        """Standard deviations, but at least 1e-6: this noise hides smaller ones."""
        if scale.max() > 1e5:
            raise ValueError(
                f"likelihood='gaussian_unit' has noise of variance 1 in the units of X, but a column of X has standard "
                f"deviation {scale.max():g}, beside which float32 cannot resolve it. Divide X by the standard "
                "deviation of its noise."
            )
        return scale.clamp(min=1e-6)

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        self.register_buffer("log_v", -2 * scale.log().float())

    def log_variance(self) -> Tensor:
        return self.log_v

    def pull_back_noise(self, grad: Tensor, add: Add) -> None:
        pass


class KnownGaussianLikelihood(_ConstantNoise):
    """No noise beside the known errors of the values, which every method is told as `X_std`.

    What the rows differ by beyond these errors is then the components'. `sample` draws without errors.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, likelihood="gaussian_known", max_iter=2, random_state=0).fit(X, X_std=[0.1] * 4)
    >>> vae.transform(X, X_std=[0.1] * 4).shape
    (150, 2)
    """

    linear_noise = "known"
    has_noise = False
    log_v: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale)
        self.register_buffer("log_v", torch.full((len(scale),), -torch.inf), persistent=False)

    def log_variance(self) -> Tensor:
        return self.log_v


class HeteroscedasticGaussianLikelihood(Likelihood):
    """x | z ~ N(mean(z), diag(v(z))), with a noise variance per row and feature from the decoder.

    Without a floor the bound has no maximum: a decoder that fits one value exactly may let its
    variance go to 0. The floor is `floor` times the linear start's noise variance of the feature.

    Parameters
    ----------
    mean, scale : Tensor of shape (n_features,)
    floor : float, default=0.01
        Least v(z), as a share of the linear start's noise variance.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, likelihood="gaussian_heteroscedastic", max_iter=2, random_state=0).fit(X)
    >>> vae.reconstruct(X, return_std=True)[1].shape
    (150, 4)
    """

    standardises = True
    takes_errors = True
    linear_noise = "feature"
    least: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, floor: float = 0.01) -> None:
        super().__init__(mean, scale)
        self.floor = floor
        self.register_buffer("least", torch.full((len(scale),), NOISE_FLOOR))

    @staticmethod
    def n_raw(n_features: int) -> int:
        return 2 * n_features

    def variance(self, raw: Tensor) -> Tensor:
        return self.least + raw.tensor_split(2, dim=-1)[1].exp()

    def log_density(self, raw: Tensor, u: Tensor, errors: Tensor | None = None) -> Tensor:
        mean, log_v = raw.tensor_split(2, dim=-1)
        v = self.least + log_v.exp()
        return normal_log_density(mean, u, v if errors is None else v + errors)

    def mean(self, raw: Tensor) -> Tensor:
        return raw.tensor_split(2, dim=-1)[0]

    def sample(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.mean(raw)
        return mean + self.variance(raw).sqrt() * standard_normal_like(mean, generator)

    def init_noise(self, variance: Tensor) -> Tensor:
        variance = variance.clamp(min=NOISE_FLOOR)
        self.least.copy_(self.floor * variance)
        return torch.log((1 - self.floor) * variance)


def normal_log_density(mean: Tensor, u: Tensor, variance: Tensor) -> Tensor:
    """log N(u; mean, variance) of each value in nats."""
    return -0.5 * ((u - mean).square() / variance + variance.log() + LOG_2PI)
