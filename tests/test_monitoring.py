"""Hotelling's T2, Q residuals and the posterior predictive: identities with PCA, and how often limits hold."""

import numpy as np
import pytest
from scipy.stats import f, norm
from sklearn.decomposition import PCA

from skvae import VAETransformer
from skvae._monitoring import Monitor
from skvae.posteriors import POSTERIORS

from .conftest import curved_spectra, small


def linear_rows(n, p=40, d=3, noise=0.5, seed=0, latents=None):
    """Rows of a linear-Gaussian model, whose parameters depend on the shape alone."""
    loadings, rng = np.random.RandomState(99).standard_normal((d, p)), np.random.RandomState(seed)
    latents = rng.standard_normal((n, d)) if latents is None else latents
    return latents @ loadings + noise * rng.standard_normal((n, p)), latents


def start(X, d=3, **params):
    return VAETransformer(d, likelihood="gaussian_isotropic", max_iter=0, random_state=0, **params).fit(X)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_t2_is_pca_s_at_the_linear_start(posterior):
    """It does not depend on how latents are scaled and turned; float32 weights allow 1e-4."""
    X, _ = linear_rows(200)
    new, _ = linear_rows(50, seed=1)
    pca = PCA(3).fit(X)
    expected = np.sum(pca.transform(new) ** 2 / pca.explained_variance_, axis=1)
    np.testing.assert_allclose(start(X, posterior=posterior).hotelling_t2(new), expected, rtol=1e-3)


def test_t2_of_training_rows_has_mean_d():
    X = curved_spectra(200)
    vae = VAETransformer(3, **small(max_iter=20)).fit(X)
    assert vae.hotelling_t2(X).mean() == pytest.approx(3 * 199 / 200, rel=1e-9)


def test_q_is_the_squared_residual_over_the_measured_values():
    X = curved_spectra(100)
    vae = VAETransformer(2, **small()).fit(X)
    gaps = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
    for rows in (X, gaps):
        residual = rows - vae.inverse_transform(vae.transform(rows))
        np.testing.assert_allclose(vae.q_residuals(rows), np.nansum(residual**2, axis=1))
        assert np.isfinite(vae.hotelling_t2(rows)).all()


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_limits_hold_as_often_as_they_say(level):
    """20,000 new rows of the same linear model, 2,000 to fit: T2 within 5 standard errors of the share plus what the
    estimate of the covariance costs, Q within a tenth of the rate (chi2 is an approximation)."""
    vae = start(linear_rows(2000)[0])
    new, _ = linear_rows(20_000, seed=1)
    alarms = [np.mean(vae.hotelling_t2(new) > vae.hotelling_t2_limit(level))]
    alarms.append(np.mean(vae.q_residuals(new) > vae.q_residuals_limit(level)))
    error = 5 * np.sqrt((1 - level) * level / 20_000)
    assert alarms[0] == pytest.approx(1 - level, abs=error + 0.05 * (1 - level))
    assert alarms[1] == pytest.approx(1 - level, abs=error + 0.15 * (1 - level))


def test_t2_limit_is_the_f_quantile_and_collapsed_components_do_not_count():
    Z = np.random.RandomState(0).standard_normal((30, 2))
    share = np.full(30, 1 / 30)
    monitor = Monitor(Z, np.ones(30), share, 30)
    assert monitor.t2_limit(0.95) == pytest.approx(2 * 899 / (30 * 28) * f(2, 28).ppf(0.95))
    spare = Monitor(np.column_stack([Z, np.zeros(30)]), np.ones(30), share, 30)
    assert spare.t2_limit(0.95) == pytest.approx(monitor.t2_limit(0.95))
    np.testing.assert_allclose(spare.t2(np.column_stack([Z, np.zeros(30)])), monitor.t2(Z))
    assert monitor.q_limit(0.95) == 1 and Monitor(Z, np.ones(30), share, 2).t2_limit(0.95) == np.inf


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1])
def test_levels_are_checked(level, spectra):
    vae = VAETransformer(2, **small(max_iter=0)).fit(spectra)
    for limit in (vae.hotelling_t2_limit, vae.q_residuals_limit):
        with pytest.raises(ValueError, match="level"):
            limit(level)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_predictive_covers_a_second_measurement(posterior, share):
    """Of 2,000 samples measured twice, 40 channels each: within 5 standard errors, rows taken for independent, and the
    error of the fitted noise. Of the first measurement itself it covers a little more."""
    vae = start(linear_rows(4000)[0], posterior=posterior)
    first, latents = linear_rows(2000, seed=1)
    second, _ = linear_rows(2000, seed=2, latents=latents)
    mean, std = vae.reconstruct(first, return_std=True)
    covered, covered_first = (np.abs(X - mean) < norm.ppf(0.5 + share / 2) * std for X in (second, first))
    error = 5 * covered.mean(axis=1).std() / 2000**0.5 + 0.003
    assert covered.mean() == pytest.approx(share, abs=error)
    assert covered.mean() < covered_first.mean() < covered.mean() + 0.05


def test_the_predictive_is_the_closed_form_where_the_model_is_linear():
    """Mean W E[z | x] + m and covariance W P^-1 W^T + Psi, with no Monte Carlo error, as draws are matched."""
    X = curved_spectra(100)
    vae = VAETransformer(3, max_iter=0, random_state=0).fit(X)
    mean, std = vae.reconstruct(X, return_std=True)
    np.testing.assert_allclose(mean, vae.inverse_transform(vae.transform(X)), rtol=1e-9)
    variance = np.einsum("dp, nde, ep -> np", vae.components_, vae.posterior_covariance(X), vae.components_)
    np.testing.assert_allclose(std**2, variance + vae.noise_variance_, rtol=1e-6)
    np.testing.assert_array_equal(vae.reconstruct(X), mean)
