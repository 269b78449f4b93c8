"""The contract that every likelihood meets, over the whole table."""

import math

import numpy as np
import pytest
import torch
from torch import distributions

from skvae.likelihoods import LIKELIHOODS, HeteroscedasticGaussianLikelihood, Likelihood
from skvae.likelihoods._base import NOISE_FLOOR

P = 5
SCALE = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.1], dtype=torch.float64)
every_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)


def made(name, seed=0):
    """A likelihood with noise that differs between features, raw decoder outputs and rows in its support."""
    likelihood = LIKELIHOODS[name](SCALE).double()
    generator = torch.Generator().manual_seed(seed)
    likelihood.start(torch.linspace(0.1, 0.5, P, dtype=torch.float64))
    raw = torch.randn(4, 3, likelihood.n_raw(P), generator=generator, dtype=torch.float64)
    u = torch.rand(3, P, generator=generator, dtype=torch.float64)
    return likelihood, raw, u.round() if name == "bernoulli" else u


def torch_distribution(likelihood, name, raw):
    """The same density from torch.distributions."""
    if name == "bernoulli":
        return distributions.Bernoulli(logits=raw)
    mean = raw[..., :P]
    if name == "gaussian_heteroscedastic":
        return distributions.Normal(mean, likelihood.variance(raw).sqrt())
    return distributions.Normal(mean, likelihood.constant_variance().sqrt().expand_as(mean))


@every_likelihood
def test_log_prob_and_mean_agree_with_torch(name):
    likelihood, raw, u = made(name)
    truth = torch_distribution(likelihood, name, raw)
    torch.testing.assert_close(likelihood.log_prob(raw, u), truth.log_prob(u.expand(4, 3, P)).sum(-1))
    torch.testing.assert_close(likelihood.mean(raw), truth.mean)


@every_likelihood
def test_samples_have_the_moments(name):
    """20,000 draws, mean and variance of each feature within 5 standard errors; fails 1 seed in 50,000."""
    n = 20_000
    likelihood, raw, _ = made(name)
    raw = raw[0, :1].expand(n, -1)
    truth = torch_distribution(likelihood, name, raw[:1])
    draws = likelihood.sample(raw, torch.Generator().manual_seed(1))
    error = truth.variance[0].sqrt() / n**0.5
    assert ((draws.mean(0) - truth.mean[0]).abs() < 5 * error).all()
    assert ((draws.var(0) / truth.variance[0] - 1).abs() < 5 * (2 / n) ** 0.5).all()


@every_likelihood
def test_every_parameter_gets_a_gradient(name):
    likelihood, raw, u = made(name)
    raw.requires_grad_()
    likelihood.log_prob(raw, u).sum().backward()
    assert (raw.grad != 0).all()
    assert all((parameter.grad != 0).all() for parameter in likelihood.parameters())


@every_likelihood
def test_declares_a_known_start(name):
    likelihood = LIKELIHOODS[name]
    assert likelihood.linear_noise in {"feature", "isotropic", "unit", None}
    assert likelihood.standardises == (likelihood.linear_noise is not None)


def test_isotropic_noise_is_one_number_in_units_of_x():
    likelihood = LIKELIHOODS["gaussian_isotropic"](SCALE).double()
    likelihood.start(0.7 / SCALE**2)
    in_x = likelihood.constant_variance() * SCALE**2
    torch.testing.assert_close(in_x, torch.full_like(in_x, 0.7))


def test_unit_noise_is_one_in_units_of_x():
    in_x = LIKELIHOODS["gaussian_unit"](SCALE).double().constant_variance() * SCALE**2
    torch.testing.assert_close(in_x, torch.ones_like(in_x))


@pytest.mark.parametrize("name", ["gaussian", "gaussian_isotropic"])
def test_noise_has_a_floor(name):
    likelihood = LIKELIHOODS[name](torch.ones(P, dtype=torch.float64)).double()
    likelihood.log_v.data.fill_(-100.0)
    torch.testing.assert_close(likelihood.constant_variance(), torch.full((P,), NOISE_FLOOR, dtype=torch.float64))


def test_heteroscedastic_bound_is_unbounded_without_its_floor_and_bounded_with_it():
    """A decoder that meets a row exactly: log p grows without end as its log variance falls, unless floored."""
    u = torch.zeros(1, P, dtype=torch.float64)
    noise = torch.full((P,), 0.5, dtype=torch.float64)

    def log_p(floor, log_variance):
        likelihood = HeteroscedasticGaussianLikelihood(torch.ones(P, dtype=torch.float64), floor=floor).double()
        likelihood.start(noise)
        raw = torch.cat([u, torch.full((1, P), float(log_variance), dtype=torch.float64)], dim=-1)
        return likelihood.log_prob(raw, u).item()

    free = [log_p(0.0, v) for v in (-10, -100, -600)]
    assert free[1] - free[0] == pytest.approx(0.5 * P * 90) and free[2] - free[1] == pytest.approx(0.5 * P * 500)
    greatest = -0.5 * P * (math.log(0.01 * 0.5) + math.log(2 * math.pi))
    assert log_p(0.01, -600) == pytest.approx(greatest)
    assert all(log_p(0.01, v) <= greatest + 1e-9 for v in np.linspace(-50, 5, 30))


def test_heteroscedastic_start_is_the_given_noise():
    likelihood = HeteroscedasticGaussianLikelihood(SCALE)
    noise = torch.linspace(0.1, 0.9, P, dtype=torch.float64)
    raw = torch.cat([torch.zeros(P, dtype=torch.float64), likelihood.start(noise)])
    torch.testing.assert_close(likelihood.variance(raw), noise)


def test_table_is_complete():
    import skvae.likelihoods as package

    exported = {value for value in vars(package).values() if isinstance(value, type) and issubclass(value, Likelihood)}
    assert exported - {Likelihood} == set(LIKELIHOODS.values())
