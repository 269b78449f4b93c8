"""Likelihoods. To add one: a class in a file of its own and a line in ``LIKELIHOODS``."""

from ._base import NOISE_FLOOR, Likelihood
from ._bernoulli import BernoulliLikelihood
from ._gaussian import (
    GaussianLikelihood,
    HeteroscedasticGaussianLikelihood,
    IsotropicGaussianLikelihood,
    UnitGaussianLikelihood,
)

LIKELIHOODS = {
    "gaussian": GaussianLikelihood,
    "gaussian_isotropic": IsotropicGaussianLikelihood,
    "gaussian_unit": UnitGaussianLikelihood,
    "gaussian_heteroscedastic": HeteroscedasticGaussianLikelihood,
    "bernoulli": BernoulliLikelihood,
}

__all__ = [
    "LIKELIHOODS",
    "NOISE_FLOOR",
    "BernoulliLikelihood",
    "GaussianLikelihood",
    "HeteroscedasticGaussianLikelihood",
    "IsotropicGaussianLikelihood",
    "Likelihood",
    "UnitGaussianLikelihood",
]
