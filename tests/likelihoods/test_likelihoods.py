"""The contract that every likelihood meets, over the whole table."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import poisson
from torch import distributions

from skvae import VAETransformer
from skvae.likelihoods import LIKELIHOODS, HeteroscedasticGaussianLikelihood, Likelihood
from skvae.likelihoods._base import NOISE_FLOOR

from ..conftest import PLAIN_LIKELIHOODS, small

P = 5
MEAN = torch.tensor([0.4, 0.5, 2.0, 5.0, 0.01], dtype=torch.float64)
SCALE = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.1], dtype=torch.float64)
every_likelihood = pytest.mark.parametrize("name", PLAIN_LIKELIHOODS)


def made(name, seed=0):
    """A likelihood with noise that differs between features, raw decoder outputs and rows in its support."""
    likelihood = LIKELIHOODS[name](MEAN, SCALE).double()
    generator = torch.Generator().manual_seed(seed)
    likelihood.init_noise(torch.linspace(0.1, 0.5, P, dtype=torch.float64))
    raw = torch.randn(4, 3, likelihood.n_raw(P), generator=generator, dtype=torch.float64)
    u = torch.rand(3, P, generator=generator, dtype=torch.float64)
    return likelihood, raw, u.round() if name in {"bernoulli", "poisson"} else u


def torch_distribution(likelihood, name, raw):
    """The same density from torch.distributions."""
    if name == "bernoulli":
        return distributions.Bernoulli(logits=raw)
    if name == "continuous_bernoulli":
        return distributions.ContinuousBernoulli(logits=raw)
    if name == "poisson":
        return distributions.Poisson(raw.exp())
    mean = raw[..., :P]
    if name == "gaussian_heteroscedastic":
        return distributions.Normal(mean, likelihood.variance(raw).sqrt())
    if name == "student_t":
        scale = likelihood.squared_scale(likelihood.constant_variance()).sqrt()
        return distributions.StudentT(likelihood.degrees_of_freedom, mean, scale)
    return distributions.Normal(mean, likelihood.constant_variance().sqrt().expand_as(mean))


@every_likelihood
def test_log_prob_and_mean_agree_with_torch(name):
    likelihood, raw, u = made(name)
    truth = torch_distribution(likelihood, name, raw)
    torch.testing.assert_close(likelihood.log_density(raw, u), truth.log_prob(u.expand(4, 3, P)))
    torch.testing.assert_close(likelihood.log_prob(raw, u), truth.log_prob(u.expand(4, 3, P)).sum(-1))
    torch.testing.assert_close(likelihood.mean(raw), truth.mean)
    if name != "gaussian_heteroscedastic":  # whose truth is made of it
        torch.testing.assert_close(likelihood.variance(raw), truth.variance, rtol=1e-4, atol=1e-6)


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
    square = (draws - truth.mean[0]).square()
    assert ((square.mean(0) - truth.variance[0]).abs() < 5 * square.std(0) / n**0.5).all()


@every_likelihood
def test_every_parameter_gets_a_gradient(name):
    likelihood, raw, u = made(name)
    raw.requires_grad_()
    likelihood.log_prob(raw, u).sum().backward()
    assert (raw.grad != 0).all()
    assert all((parameter.grad != 0).all() for parameter in likelihood.parameters())


@pytest.mark.parametrize("name", [name for name, kind in LIKELIHOODS.items() if kind.takes_errors])
def test_errors_widen_the_density(name):
    likelihood, raw, u = made(name)
    errors = torch.linspace(0.2, 2, 3 * P, dtype=torch.float64).reshape(3, P)
    truth = distributions.Normal(likelihood.mean(raw), (likelihood.variance(raw) + errors).sqrt())
    if name == "student_t":
        scale = (likelihood.squared_scale(likelihood.constant_variance()) + errors).sqrt()
        truth = distributions.StudentT(likelihood.degrees_of_freedom, likelihood.mean(raw), scale)
    torch.testing.assert_close(likelihood.log_density(raw, u, errors), truth.log_prob(u.expand(4, 3, P)))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_declares_a_known_start(name):
    likelihood = LIKELIHOODS[name]
    assert likelihood.linear_noise in {"feature", "isotropic", "unit", "known", None}
    assert likelihood.standardises == (likelihood.linear_noise is not None)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_plain_start_has_the_column_means(name):
    """E[x] at the start, for means within the support; the size of a change is positive and finite."""
    likelihood = LIKELIHOODS[name](MEAN.clamp(max=0.9), SCALE)
    raw, unit = likelihood.init_without_linear_model()
    expected = torch.zeros(P, dtype=torch.float64) if likelihood.standardises else MEAN.clamp(max=0.9)
    torch.testing.assert_close(likelihood.mean(raw).double()[:P], expected, rtol=1e-4, atol=1e-6)
    assert len(raw) == len(unit) == likelihood.n_raw(P) and (unit > 0).all() and torch.isfinite(unit).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_is_a_density_with_its_moments_for_any_logit(dtype):
    """Integral and mean by 100-point Gauss-Legendre on 20 pieces; log_prob's gradient is x less the mean."""
    likelihood = LIKELIHOODS["continuous_bernoulli"](MEAN, SCALE)
    node, weight = np.polynomial.legendre.leggauss(100)
    left = np.linspace(0, 1, 21)[:-1, None]
    x = torch.tensor((left + (node + 1) / 40).ravel(), dtype=dtype)
    weight = torch.tensor(np.tile(weight / 40, 20), dtype=dtype)
    for r in (-80.0, -5.0, -0.51, -0.49, -1e-3, 0.0, 1e-5, 0.3, 0.5, 1.0, 30.0):
        raw = torch.full((1,), r, dtype=dtype, requires_grad=True)
        density = torch.stack([likelihood.log_prob(raw, value) for value in x[:, None]]).exp()
        assert (weight @ density).item() == pytest.approx(1, abs=2e-5)
        mean = (weight @ (x * density)).item()
        assert likelihood.mean(raw).item() == pytest.approx(mean, abs=2e-5)
        assert likelihood.variance(raw).item() == pytest.approx((weight @ ((x - mean) ** 2 * density)).item(), rel=2e-3)
        (gradient,) = torch.autograd.grad(likelihood.log_prob(raw, torch.full((1,), 0.25, dtype=dtype)), raw)
        assert gradient.item() == pytest.approx(0.25 - likelihood.mean(raw).item(), abs=1e-5)


def test_bernoulli_on_grey_values_is_no_density_and_continuous_bernoulli_is():
    x = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:, None]
    raw = torch.tensor([0.7], dtype=torch.float64)
    one = torch.tensor([0.5], dtype=torch.float64)
    areas = [
        torch.trapezoid(LIKELIHOODS[name](one, one).log_prob(raw, x).exp(), x[:, 0]).item()
        for name in ("bernoulli", "continuous_bernoulli")
    ]
    assert areas[0] < 0.6 and areas[1] == pytest.approx(1, abs=1e-6)


def test_poisson_inputs_have_the_same_noise_at_every_count():
    """Counts of one rate: the encoder sees a standard deviation of 1 (Anscombe: within 1 %) and, as the root of
    a mean is not the mean of roots, a mean of -1 / (4 sqrt(rate)); each within 5 standard errors of 20,000 rows."""
    rate = torch.tensor([5.0, 50.0, 5000.0], dtype=torch.float64)
    counts = torch.poisson(rate.expand(20_000, -1), generator=torch.Generator().manual_seed(0))
    likelihood = LIKELIHOODS["poisson"](rate, rate.sqrt())
    seen = likelihood.inputs(counts) * likelihood.root_scale
    assert ((seen.mean(0) + 1 / (4 * rate.sqrt())).abs() < 5 / 20_000**0.5 + 0.01).all()
    assert ((seen.std(0) - 1).abs() < 5 / 40_000**0.5 + 0.01).all()
    assert ((likelihood.root_scale - 1).abs() < 0.05).all()


def test_poisson_is_exact_in_float32_for_large_counts():
    """Against scipy in float64, a standard deviation from the rate: each within 1e-3 nats of 20 or less."""
    x = np.array([0.0, 1.0, 49.0, 51.0, 1e3, 1e5, 1e7, 1e9])
    rate = np.maximum(x + np.sqrt(x), 0.5)
    likelihood = LIKELIHOODS["poisson"](torch.tensor(rate), torch.tensor(rate))
    raw = torch.tensor(np.log(rate), dtype=torch.float32)
    ours = likelihood.log_prob(raw[:, None], torch.tensor(x, dtype=torch.float32)[:, None]).numpy()
    theirs = poisson.logpmf(x, np.exp(raw.double().numpy()))  # of the rate that float32 can tell
    np.testing.assert_allclose(ours[:-2], theirs[:-2], atol=1e-3)
    np.testing.assert_allclose(ours[-2:], theirs[-2:], atol=0.5)  # where log x itself is a float32


def test_continuous_bernoulli_of_a_constant_column_is_bounded():
    likelihood = LIKELIHOODS["continuous_bernoulli"](MEAN, SCALE)
    zero = torch.zeros(1)
    values = [likelihood.log_prob(torch.tensor([-r]), zero).item() for r in (200.0, 1e3, 1e6)]
    assert values == pytest.approx([math.log(200)] * 3, abs=1e-4)


def test_poisson_says_that_what_is_no_count_is_none():
    counts = np.random.RandomState(0).poisson(4.0, (60, 5)).astype(float)
    gaps = np.where(np.random.RandomState(1).rand(60, 5) < 0.1, np.nan, counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae = VAETransformer(2, likelihood="poisson", **small(max_iter=1)).fit(counts)
        VAETransformer(2, likelihood="poisson", **small(max_iter=1)).fit(gaps).score(gaps)
    counts[31, 2] += 0.5
    for call in (vae.fit, vae.score, vae.partial_fit):
        with pytest.warns(UserWarning, match="values that are not whole numbers"):
            call(counts)


def test_poisson_learns_the_rates_of_spectra_of_counts():
    """Held out, at most 15 nats behind the rates that the counts were drawn from; column means are over 100 behind."""
    rng = np.random.RandomState(0)
    height, centre = rng.uniform(0.5, 1.5, (2, 600, 1)) * np.array([1.0, 0.5])[:, None, None]
    rate = 20 * (height * np.exp(-((np.linspace(0, 1, 60) - centre) ** 2) / 0.02) + 0.05)
    counts = rng.poisson(rate).astype(float)
    vae = VAETransformer(
        3, likelihood="poisson", **small(hidden_layer_sizes=(64, 64), max_iter=60, learning_rate_init=5e-3)
    )
    score = vae.fit(counts[:400]).score(counts[400:])
    truth, means = (
        poisson.logpmf(counts[400:], mean).sum(axis=1).mean() for mean in (rate[400:], counts[:400].mean(axis=0))
    )
    assert truth - 15 < score < truth and means < truth - 100


def test_isotropic_noise_is_one_number_in_units_of_x():
    likelihood = LIKELIHOODS["gaussian_isotropic"](MEAN, SCALE).double()
    likelihood.init_noise(0.7 / SCALE**2)
    in_x = likelihood.constant_variance() * SCALE**2
    torch.testing.assert_close(in_x, torch.full_like(in_x, 0.7))


def test_unit_noise_is_one_in_units_of_x():
    in_x = LIKELIHOODS["gaussian_unit"](MEAN, SCALE).double().constant_variance() * SCALE**2
    torch.testing.assert_close(in_x, torch.ones_like(in_x))


@pytest.mark.parametrize("name", ["gaussian", "gaussian_isotropic"])
def test_noise_has_a_floor(name):
    likelihood = LIKELIHOODS[name](MEAN, torch.ones(P, dtype=torch.float64)).double()
    likelihood.log_v.data.fill_(-100.0)
    torch.testing.assert_close(likelihood.constant_variance(), torch.full((P,), NOISE_FLOOR, dtype=torch.float64))


def test_heteroscedastic_bound_is_unbounded_without_its_floor_and_bounded_with_it():
    """A decoder that meets a row exactly: log p grows without end as its log variance falls, unless floored."""
    u = torch.zeros(1, P, dtype=torch.float64)
    noise = torch.full((P,), 0.5, dtype=torch.float64)

    def log_p(floor, log_variance):
        likelihood = HeteroscedasticGaussianLikelihood(MEAN, torch.ones(P, dtype=torch.float64), floor=floor).double()
        likelihood.init_noise(noise)
        raw = torch.cat([u, torch.full((1, P), float(log_variance), dtype=torch.float64)], dim=-1)
        return likelihood.log_prob(raw, u).item()

    free = [log_p(0.0, v) for v in (-10, -100, -600)]
    assert free[1] - free[0] == pytest.approx(0.5 * P * 90) and free[2] - free[1] == pytest.approx(0.5 * P * 500)
    greatest = -0.5 * P * (math.log(0.01 * 0.5) + math.log(2 * math.pi))
    assert log_p(0.01, -600) == pytest.approx(greatest)
    assert all(log_p(0.01, v) <= greatest + 1e-9 for v in np.linspace(-50, 5, 30))


def test_heteroscedastic_start_is_the_given_noise():
    likelihood = HeteroscedasticGaussianLikelihood(MEAN, SCALE)
    noise = torch.linspace(0.1, 0.9, P, dtype=torch.float64)
    raw = torch.cat([torch.zeros(P, dtype=torch.float64), likelihood.init_noise(noise)])
    torch.testing.assert_close(likelihood.variance(raw), noise)


def test_table_is_complete():
    import skvae.likelihoods as package

    exported = {value for value in vars(package).values() if isinstance(value, type) and issubclass(value, Likelihood)}
    assert exported - {Likelihood} == set(LIKELIHOODS.values())
