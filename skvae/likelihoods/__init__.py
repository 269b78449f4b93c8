"""Likelihoods. To add one, write a class in a file of its own and add a line to ``LIKELIHOODS``."""

from ._base import NOISE_FLOOR, Likelihood
from ._bernoulli import BernoulliLikelihood
from ._continuous_bernoulli import ContinuousBernoulliLikelihood
from ._gaussian import (
    DiagonalGaussianLikelihood,
    GaussianLikelihood,
    HeteroscedasticGaussianLikelihood,
    IsotropicGaussianLikelihood,
    KnownGaussianLikelihood,
    UnitGaussianLikelihood,
)
from ._poisson import PoissonLikelihood
from ._student_t import StudentTLikelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "gaussian_diag": DiagonalGaussianLikelihood,
    "gaussian_isotropic": IsotropicGaussianLikelihood,
    "gaussian_unit": UnitGaussianLikelihood,
    "gaussian_known": KnownGaussianLikelihood,
    "gaussian_heteroscedastic": HeteroscedasticGaussianLikelihood,
    "student_t": StudentTLikelihood,
    "bernoulli": BernoulliLikelihood,
    "continuous_bernoulli": ContinuousBernoulliLikelihood,
    "poisson": PoissonLikelihood,
}

__all__ = [
    "LIKELIHOODS",
    "NOISE_FLOOR",
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiagonalGaussianLikelihood",
    "GaussianLikelihood",
    "HeteroscedasticGaussianLikelihood",
    "IsotropicGaussianLikelihood",
    "KnownGaussianLikelihood",
    "Likelihood",
    "PoissonLikelihood",
    "StudentTLikelihood",
    "UnitGaussianLikelihood",
]
