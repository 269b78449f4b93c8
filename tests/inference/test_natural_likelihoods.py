"""Scores and imputed values of counts, and of values in [0, 1], against quadrature over z."""

import copy

import numpy as np
import pytest
import torch

from skvae import VAETransformer
from skvae._model.laplace import NaturalData
from skvae.likelihoods import LIKELIHOODS

from ..conftest import small

NATURAL = [name for name in LIKELIHOODS if LIKELIHOODS[name].is_natural]


def few_large_rates():
    """Most rates are near 1, a few in the thousands: no smooth decoder is near to all rows."""
    rng = np.random.RandomState(0)
    return rng.poisson(np.exp(rng.standard_normal((150, 8)) ** 2)).astype(float)


def counts_near_seven():
    rng = np.random.RandomState(0)
    return rng.poisson(np.exp(rng.standard_normal((600, 2)) @ rng.standard_normal((2, 10)) / 2 + 2.0)).astype(float)


def grid(middle, half_width, n):
    """Points (n^d, d) of a square grid, and the logarithm of a point's volume."""
    axes = [np.linspace(m - h, m + h, n) for m, h in zip(middle, half_width, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    return points, sum(np.log(axis[1] - axis[0]) for axis in axes)


def quadrature(vae, X):
    """Of each row's measured values: log p(x); E[x] and its standard deviation, noise included; those of z.

    By the sum over a grid that covers 8 standard deviations of z given x, as those of a coarser grid are, thrice.
    """
    module = copy.deepcopy(vae.net_.module_).double().eval()
    d = module.n_components
    coarse, log_volume = grid(np.zeros(d), np.full(d, 30.0), 20_001 if d == 1 else 301)
    step = np.exp(log_volume / d)

    @torch.no_grad()
    def decode(z):
        return module.decoder(torch.from_numpy(z))

    def weights(z, raw, row):
        value = torch.from_numpy(row[~np.isnan(row)])
        seen = module.likelihood.log_prob(raw[:, ~np.isnan(row)], value).numpy()
        log_joint = seen - 0.5 * (z**2).sum(axis=1) - d / 2 * np.log(2 * np.pi)
        weight = np.exp(log_joint - log_joint.max())
        return weight / weight.sum(), np.log(weight.sum()) + log_joint.max()

    results, coarse_raw = [], decode(coarse)
    for row in X:
        z, (weight, _) = coarse, weights(coarse, coarse_raw, row)
        for _ in range(3):
            middle = weight @ z
            half_width = 8 * np.sqrt(weight @ (z - middle) ** 2)
            z, log_volume = grid(middle, np.where(half_width < step, 2 * step, half_width), 401 if d == 1 else 61)
            step = np.exp(log_volume / d)
            raw = decode(z)
            weight, log_total = weights(z, raw, row)
        step = coarse[1, -1] - coarse[0, -1]
        mean, variance = module.likelihood.mean(raw).numpy(), module.likelihood.variance(raw).numpy()
        expected = weight @ mean
        std, middle = np.sqrt(weight @ (variance + (mean - expected) ** 2)), weight @ z
        results.append((log_total + log_volume, expected, std, middle, np.sqrt(weight @ (z - middle) ** 2)))
    return map(np.array, zip(*results, strict=True))


@pytest.mark.parametrize("name", NATURAL)
def test_score_and_information_are_the_derivatives_of_log_p(name):
    """By automatic differentiation; in the natural parameter the second derivative is the expected one."""
    generator = torch.Generator().manual_seed(0)
    raw = 2 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    x = torch.rand(6, 4, generator=generator, dtype=torch.float64).round()
    measured = torch.rand(6, 4, generator=generator) < 0.7
    likelihood = LIKELIHOODS[name](*torch.ones(2, 4, dtype=torch.float64))
    for data in (NaturalData(likelihood, x), NaturalData(likelihood, x, measured)):
        raw.requires_grad_()
        value = data.log_likelihood(raw)
        (slope,) = torch.autograd.grad(value.sum(), raw, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), raw)
        local = data.local(raw.detach())
        torch.testing.assert_close(local.log_likelihood, value.detach())
        torch.testing.assert_close(local.score, slope.detach())
        torch.testing.assert_close(local.fisher, -curvature, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("counts", [few_large_rates, counts_near_seven])
def test_poisson_scores_are_log_p(counts, n_components):
    """Rows that are far from the decoder's surface among them: within half a nat in the mean."""
    X = counts()
    vae = VAETransformer(n_components, likelihood="poisson", hidden_layer_sizes=(32, 32), random_state=0).fit(X)
    rows = X[:: len(X) // 24]
    truth, *_ = quadrature(vae, rows)
    gap = truth - vae.score_samples(rows)
    assert abs(gap.mean()) < 0.5 and np.median(np.abs(gap)) < 0.25


@pytest.mark.parametrize("name", NATURAL)
def test_imputed_values_are_the_posterior_means(name):
    """Within 0.3 standard deviations of the predictive distribution, which has the same one within a tenth."""
    X = few_large_rates() if name == "poisson" else np.minimum(few_large_rates(), 1)
    vae = VAETransformer(1, likelihood=name, **small(max_iter=20)).fit(X)
    gaps = X[:24].copy()
    gaps[np.random.RandomState(1).rand(*gaps.shape) < 0.3] = np.nan
    missing = np.isnan(gaps)
    _, mean, std, _, _ = quadrature(vae, gaps)
    ours, our_std = vae.impute(gaps, return_std=True)
    error = np.abs(ours - mean)[missing] / std[missing]
    assert error.max() < 0.3
    assert np.median(np.abs(our_std[missing] / std[missing] - 1)) < 0.1


@pytest.mark.parametrize("n_components", [1, 2])
def test_transform_is_the_posterior_mean_of_counts(n_components):
    """Within 0.3 standard deviations of the posterior, in the median over rows and components."""
    X = counts_near_seven()
    vae = VAETransformer(n_components, likelihood="poisson", random_state=0).fit(X)
    rows = X[:: len(X) // 24]
    *_, mean, std = quadrature(vae, rows)
    ours = vae.net_.module_.to_model_order(torch.from_numpy(vae.transform(rows))).numpy()
    assert np.median(np.abs(ours - mean) / std) < 0.3
