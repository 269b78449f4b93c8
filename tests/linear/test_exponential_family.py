"""The linear model of counts, binary and grey values, against what the rows were made by and against closed forms."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from skvae import VAETransformer
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._linear.exponential_family import LinearModel, most_rows, natural_parameters
from skvae._linear.moments import Moments
from skvae._model.laplace import NaturalData
from skvae.likelihoods import LIKELIHOODS, Likelihood

from ..conftest import small
from ..inference.test_natural_likelihoods import counts_near_seven, few_large_rates

NATURAL = [name for name in LIKELIHOODS if LIKELIHOODS[name].is_natural]
every_natural = pytest.mark.parametrize("name", NATURAL)
UNIT = {"poisson": 0.4, "bernoulli": 1.0, "continuous_bernoulli": 3.0}  # size of the loadings


class UnitNormal(Likelihood):
    """N(r, 1), which is an exponential family, too, and whose linear model is probabilistic PCA with noise one."""

    is_natural = True

    def log_density(self, raw, u):
        return -0.5 * (u - raw).square()

    def mean(self, raw):
        return raw

    def variance(self, raw):
        return torch.ones_like(raw)


def made(name, n, p=20, d=2, seed=0):
    """Rows of a linear model, its loadings and its offset."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    W, m = UNIT[name] * normal(p, d), 0.5 * UNIT[name] * normal(p) + (1.5 if name == "poisson" else 0)
    likelihood = LIKELIHOODS[name](torch.zeros(p).double(), torch.ones(p).double())
    return likelihood.sample(normal(n, d) @ W.T + m, generator).numpy(), W, m


def model_of(likelihood, X, d, measured=None, weight=1.0):
    x = torch.from_numpy(X)
    return LinearModel.of(likelihood, x, torch.ones(len(x)).double() * torch.as_tensor(weight), measured, d)


def likelihood_of(name, X):
    X = torch.from_numpy(X)
    return LIKELIHOODS[name](X.mean(0), X.std(0))


def test_unit_normal_noise_gives_probabilistic_pca():
    """Its loadings in closed form (Tipping and Bishop, 1999, eq. 7), to the error of 4,000 draws of z and the prior."""
    X, rng = np.random.RandomState(0).standard_normal((2000, 12)), np.random.RandomState(1)
    X += rng.standard_normal((2000, 2)) @ (2 * rng.standard_normal((2, 12)))
    model = model_of(UnitNormal(*torch.ones(2, 12, dtype=torch.float64)), X, 2)
    values, vectors = np.linalg.eigh(np.cov(X.T, ddof=0))
    expected = (vectors[:, -2:] * (values[-2:] - 1)) @ vectors[:, -2:].T
    ours = (model.loadings @ model.loadings.T).numpy()
    assert np.linalg.norm(ours - expected) < 0.05 * np.linalg.norm(expected)
    np.testing.assert_allclose(model.offset, X.mean(0), atol=0.1)


@every_natural
def test_weights_are_repeats(name):
    """To the error of the draws of z; of 60 rows alone, the prior counts for 20 times as much."""
    X, _, _ = made(name, 60, seed=1)
    repeats = np.full(60, 20)
    single, weighted, repeated = (
        model.loadings @ model.loadings.T
        for model in (
            model_of(likelihood_of(name, X), X, 2),
            model_of(likelihood_of(name, X), X, 2, weight=repeats),
            model_of(likelihood_of(name, X), np.repeat(X, repeats, 0), 2),
        )
    )
    apart = torch.linalg.norm(weighted - repeated) / torch.linalg.norm(repeated)
    assert apart < 0.2
    assert apart < 0.5 * torch.linalg.norm(single - repeated) / torch.linalg.norm(repeated)


@every_natural
def test_the_model_that_made_the_rows_is_found(name):
    X, W, m = made(name, 2000)
    model = model_of(likelihood_of(name, X), X, 2)
    assert np.degrees(subspace_angles(model.loadings.numpy(), W.numpy()))[0] < 5
    relative = torch.linalg.norm(model.loadings @ model.loadings.T - W @ W.T) / torch.linalg.norm(W @ W.T)
    assert relative < 0.2
    assert (model.offset - m).abs().max() < 0.3 * UNIT[name]


@every_natural
def test_values_that_are_missing_say_nothing(name):
    """Whatever stands in their place, the model is the same, and that of the other two thirds of the values."""
    X, W, _ = made(name, 2000)
    likelihood = likelihood_of(name, X)
    measured = torch.rand(X.shape, generator=torch.Generator().manual_seed(3)) > 1 / 3
    models = [model_of(likelihood, np.where(measured, X, value), 2, measured) for value in (0.0, 1.0)]
    torch.testing.assert_close(models[0].loadings, models[1].loadings)
    assert np.degrees(subspace_angles(models[0].loadings.numpy(), W.numpy()))[0] < 10


@every_natural
def test_single_values_have_their_natural_parameters(name):
    """Where the slope of log p(x | r) - (r - centre)^2 / (2 std^2) is 0."""
    X, _, _ = made(name, 50)
    likelihood = likelihood_of(name, X)
    centre, std = (part.double() for part in likelihood.init_without_linear_model())
    r = natural_parameters(NaturalData(likelihood, torch.from_numpy(X)), centre, std)
    slope = torch.from_numpy(X) - likelihood.mean(r) - (r - centre) / std.square()
    assert (slope / likelihood.variance(r).add(1 / std.square())).abs().max() < 1e-6


@every_natural
@pytest.mark.parametrize("posterior", ["diag", "rho", "full"])
def test_training_starts_at_the_model(name, posterior):
    """The score of the start is no less than that of the model that made the rows; its encoder is near."""
    X, W, m = made(name, 600)
    start = VAETransformer(2, likelihood=name, posterior=posterior, **small(max_iter=0)).fit(X)
    truth = VAETransformer(2, likelihood=name, posterior=posterior, **small(max_iter=0)).fit(X)
    with torch.no_grad():
        truth.net_.module_.decoder.start_weight.copy_(W)
        truth.net_.module_.decoder.start_bias.copy_(m)
    assert start.score(X) > truth.score(X) - 0.1
    z, expected = start.transform(X), VAETransformer(2, likelihood=name, **small(max_iter=0)).fit(X).transform(X)
    np.testing.assert_allclose(np.linalg.norm(z), np.linalg.norm(expected), rtol=0.2)


@pytest.mark.parametrize("d", [1, 2])
def test_counts_of_a_wide_range_are_scored_far_better_than_by_their_means(d):
    X = few_large_rates()
    vae = VAETransformer(d, likelihood="poisson", **small(max_iter=20)).fit(X)
    plain = VAETransformer(d, likelihood="poisson", init="random", **small(max_iter=20)).fit(X)
    assert vae.score(X) > plain.score(X) + 50


@every_natural
@pytest.mark.parametrize("case", ["two rows", "a column of zeros", "more components than features"])
def test_rows_that_say_little(name, case):
    X, _, _ = made(name, 40, p=3)
    if case == "a column of zeros":
        X[:, 1] = 0
    rows = X[: 2 if case == "two rows" else 40]
    n_components = 5 if case.startswith("more") else 2
    vae = VAETransformer(n_components, likelihood=name, **small(max_iter=1)).fit(rows)
    assert np.isfinite(vae.score(X)) and np.isfinite(vae.transform(X)).all()


def test_a_stream_is_sampled_evenly():
    """A start that is taken anew comes from some of the rows of all calls, each call's share of them."""
    module = VAETransformer(2, likelihood="poisson", **small(max_iter=0)).fit(counts_near_seven()).net_.module_

    def part(n):
        return Moments.of(FitData(Rows(np.full((n, 10), float(n))), None, False), module, False, True)

    sample = (part(3000) + part(1000)).sample
    assert len(sample) == most_rows(10)
    assert (sample[:, 0] == 1000).sum() == len(sample) // 4
    assert len((part(1000) + part(7)).sample) == 1007


def test_a_stream_leaves_a_poor_first_part():
    X = counts_near_seven()
    streams = [[X[:300], X[300:]], [X[:5], *np.array_split(X[5:], 4)]]
    scores = []
    for parts in streams:
        vae = VAETransformer(2, likelihood="poisson", **small())
        for part in parts:
            vae.partial_fit(part)
        scores.append(vae.score(X))
    assert scores[1] > scores[0] - 0.05 * 10
