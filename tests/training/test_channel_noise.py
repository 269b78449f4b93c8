"""likelihood="gaussian": means under isotropic noise, then a noise per channel."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis

from skvae import VAETransformer
from skvae._data.rows import Rows, values_and_errors
from skvae._training.channel_noise import (
    calibration,
    is_constant,
    sample_variance,
    shrunk_to_isotropic,
    training_noise,
)
from skvae._training.fit import to_device
from skvae._training.parts import Part

from ..conftest import curved_spectra, small


def r2(model, rows, mean):
    back = model.inverse_transform(model.transform(rows))
    return 1 - np.square(rows - back).sum() / np.square(rows - mean).sum()


def uneven(n, seed=0, p=40):
    """Rows of a plane with a noise per channel that varies by a factor of 30."""
    rng = np.random.RandomState(seed)
    loadings, std = np.random.RandomState(9).standard_normal((2, p)), np.geomspace(0.03, 1, p)
    return rng.standard_normal((n, 2)) @ loadings + std * rng.standard_normal((n, p))


def test_the_means_are_those_of_isotropic_noise():
    """The same weights bit for bit, so the same reconstruction; the density gains what the channels differ by."""
    X, new = curved_spectra(200), curved_spectra(200, seed=1)
    ours, theirs = (
        VAETransformer(2, likelihood=name, **small(max_iter=30)).fit(X) for name in ("gaussian", "gaussian_isotropic")
    )
    np.testing.assert_array_equal(ours.transform(new), theirs.transform(new))
    np.testing.assert_array_equal(
        ours.inverse_transform(ours.transform(new)), theirs.inverse_transform(theirs.transform(new))
    )
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    np.testing.assert_array_equal(ours.posterior_covariance(new), theirs.posterior_covariance(new))
    assert np.shape(ours.noise_variance_) == (60,) and np.shape(theirs.noise_variance_) == ()
    assert ours.score(new) > theirs.score(new) + 5


def test_pca_s_reconstruction_and_factor_analysis_s_density_at_once():
    X, new = uneven(300), uneven(500, seed=1)
    pca, factor_analysis = PCA(2).fit(X), FactorAnalysis(2).fit(X)
    for settings in ({"max_iter": 0}, {"random_state": 0}):
        vae = VAETransformer(2, **settings).fit(X)
        assert r2(vae, new, X.mean(0)) > r2(pca, new, X.mean(0)) - 1e-3
        assert vae.score(new) > max(pca.score(new), factor_analysis.score(new)) - 1


@pytest.mark.parametrize("n", [30, 60, 200])
def test_the_noise_is_that_of_new_rows(n):
    """The mean over values of the squared residual over v, on 2,000 new rows, at the true surface's dimension."""
    vae = VAETransformer(2, max_iter=0, random_state=0).fit(uneven(n))
    new = uneven(2000, seed=1)
    mean, std = vae.reconstruct(new, return_std=True)
    assert 0.8 < np.mean(np.square(new - mean) / np.square(std)) < 1.2


@pytest.mark.parametrize("errors", ["none", "infinite", "known"])
def test_em_is_stationary_for_the_exact_likelihood_of_a_linear_model(errors):
    """Its gradient in log v, in units of the information n / 2, is small where no floor holds."""
    X, std, rng = uneven(256, p=12), np.zeros((256, 12)), np.random.RandomState(0)
    if errors != "none":
        std[rng.uniform(size=X.shape) < 0.2] = np.inf
    if errors == "known":
        std += X.std() * 10 ** rng.uniform(-4, 0, X.shape)
        X = X + np.where(np.isinf(std), 0, std) * rng.standard_normal(X.shape)
    vae = VAETransformer(2, max_iter=0, likelihood="gaussian_isotropic").fit(X)
    module = vae.net_.module_
    u = to_device(vae.net_, Rows(X, errors=Rows(std)), is_uneven=errors != "none").double()
    variance = training_noise(module, Part(u))[0]
    W = module.decoder.start_weight.double()
    b = module.decoder.start_bias.double()
    log_v = variance.log().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    values, s = values_and_errors(u)
    for row, error in zip(values, torch.zeros_like(values) if s is None else s, strict=True):
        m = ~error.isinf()
        covariance = W[m] @ W[m].T + torch.diag(log_v[m].exp() + error[m])
        total = total + torch.distributions.MultivariateNormal(b[m], covariance).log_prob(row[m])
    (gradient,) = torch.autograd.grad(total, log_v)
    assert gradient.abs().max() < 0.1 * len(X) / 2


def test_a_channel_that_is_constant_in_training_costs_no_fortune():
    """A dead pixel that lives in new rows is noise like the others', as PCA has it."""
    X, new = curved_spectra(120), curved_spectra(120, seed=1)
    X[:, 7] = X[0, 7]
    vae, pca = VAETransformer(2, **small(max_iter=20)).fit(X), PCA(2).fit(X)
    assert vae.score(new) > pca.score(new) - 1
    u = to_device(vae.net_, Rows(X)).double()
    assert np.flatnonzero(is_constant(vae.net_.module_, sample_variance(u)).numpy()).tolist() == [7]


def test_noise_is_shrunk_towards_isotropic_noise_where_rows_that_are_left_out_ask_for_it():
    """Not where rows are many and channels differ; mostly where they are few and channels do not; never for one."""
    generator, one = torch.Generator().manual_seed(0), torch.ones(50, dtype=torch.float64)

    def shrunk(n, true, groups=None):
        squares = true * torch.randn(n, len(true), generator=generator, dtype=torch.float64).square()
        squares = squares if groups is None else squares[groups]
        variance = squares.mean(0)
        result = shrunk_to_isotropic(variance, squares, Part(squares, groups=groups), one[: len(true)])
        assert (variance / result).mean().item() == pytest.approx(1)  # the mean of squares over variances
        return variance, result

    variance, result = shrunk(400, torch.logspace(-2, 0, 50, dtype=torch.float64))
    torch.testing.assert_close(result, variance)
    variance, result = shrunk(12, one)
    assert result.log().std() < 0.3 * variance.log().std()
    copies = torch.arange(12).repeat_interleave(30)[torch.randperm(360, generator=generator)]
    variance, result = shrunk(12, one, copies)
    assert result.log().std() < 0.3 * variance.log().std()
    variance, result = shrunk(12, one[:1])
    torch.testing.assert_close(result, variance)


def test_channels_with_rare_episodes_cost_little_beside_isotropic_noise():
    """One value of twenty is 30 times as far out, so that a channel may be quiet in the 40 rows that the model sees.

    At most 0.2 nats per channel; variances by EM alone cost 3 to 5.
    """
    for seed in range(3):
        rng = np.random.RandomState(seed)
        X = rng.standard_normal((900, 2)) @ rng.standard_normal((2, 40))
        X += rng.standard_normal(X.shape) * np.where(rng.uniform(size=X.shape) < 0.05, 3, 0.1)
        vae = VAETransformer(2, max_iter=0, random_state=0).fit(X[:40])
        isotropic = VAETransformer(2, max_iter=0, random_state=0, likelihood="gaussian_isotropic").fit(X[:40])
        assert vae.score(X[40:]) > isotropic.score(X[40:]) - 0.2 * 40


def test_calibration_finds_how_much_farther_new_rows_are():
    vae = VAETransformer(2, max_iter=0, likelihood="gaussian_isotropic").fit(uneven(200))
    module = vae.net_.module_
    u = to_device(vae.net_, Rows(uneven(1500, seed=3))).double()
    shape = training_noise(module, Part(u))[0]
    constant = torch.zeros(40, dtype=torch.bool)
    ratio = calibration(module, shape / 4, Part(u), constant)
    assert (ratio / 4).log().abs().max() < 0.3
    never_nearer = calibration(module, 4 * shape, Part(u), constant)
    assert never_nearer.mean().item() == pytest.approx(1, abs=0.02)
    constant[3] = True
    assert calibration(module, shape / 4, Part(u), constant)[3] == 1


def test_scaling_columns_shifts_the_score_exactly():
    X, scale = uneven(100), np.geomspace(1, 1000, 40)
    settings = small(max_iter=3)
    plain = VAETransformer(2, **settings).fit(X).score(X)
    assert VAETransformer(2, **settings).fit(1000 * X).score(1000 * X) == pytest.approx(
        plain - 40 * np.log(1000), abs=1e-2
    )
    assert np.isfinite(VAETransformer(2, **settings).fit(X * scale).score(X * scale))


def test_partial_fit_merges_the_squares_of_all_calls():
    X = uneven(600)
    vae = VAETransformer(2, random_state=0, learning_rate_init=1e-5)
    for part in np.array_split(X, 6):
        vae.partial_fit(part)
    assert vae.net_.module_.likelihood.n_channel_rows == 600
    np.testing.assert_allclose(vae.noise_variance_, np.square(np.geomspace(0.03, 1, 40)), rtol=0.4, atol=2e-3)
    single = VAETransformer(2, random_state=0).partial_fit(X[:100]).partial_fit(X[100:101])
    assert np.isfinite(single.score(X))


def test_rows_that_are_very_far_leave_a_finite_noise():
    """Their squares exceed what float32 has room for."""
    X = uneven(60)
    vae = VAETransformer(2, max_iter=0, random_state=0).partial_fit(X)
    vae.net_.module_.likelihood.set_channel_variance(torch.full((40,), 1e60, dtype=torch.float64), 60)
    assert np.isfinite(vae.sample(20, random_state=0)).all() and np.isfinite(vae.score(X))
    assert np.isfinite(vae.sample(20, random_state=0).astype(np.float32)).all()


def test_a_pass_that_is_refused_leaves_the_noise_as_it_was():
    X = uneven(60)
    vae = VAETransformer(2, max_iter=0, random_state=0).partial_fit(X)
    before = vae.score(X)
    with pytest.raises(ValueError, match="not finite"):
        vae.partial_fit(1e30 * X)
    assert vae.score(X) == before
