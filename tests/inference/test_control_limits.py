"""Hotelling's T2, Q residuals and the posterior predictive: identities with PCA, and how often limits hold."""

import numpy as np
import pytest
from scipy.stats import f, norm
from sklearn.decomposition import PCA

from skvae import VAETransformer
from skvae._inference.control_limits import ScoreStatistics
from skvae.posteriors import POSTERIORS

from ..conftest import curved_spectra, small


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
        np.testing.assert_allclose(vae.q_residuals(rows), 60 * np.nanmean(residual**2, axis=1))
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


def test_t2_limit_is_the_f_quantile_of_active_components():
    Z, share = np.random.RandomState(0).standard_normal((30, 2)), np.full(30, 1 / 30)
    monitor = ScoreStatistics(Z, np.ones(30), share, 30)
    assert monitor.t2_limit(0.95) == pytest.approx(2 * 899 / (30 * 28) * f(2, 28).ppf(0.95))
    for scale, dead in ((0.01, True), (1, False)):
        wide = np.column_stack([Z, scale * Z[::-1, 0]])
        wider = ScoreStatistics(wide, np.ones(30), share, 30)
        assert wider.active.tolist() == [True, True, not dead]
        assert (wider.t2_limit(0.95) == pytest.approx(monitor.t2_limit(0.95))) == dead
        assert np.allclose(wider.t2(wide), monitor.t2(Z)) == dead
    assert monitor.q_limit(0.95) == pytest.approx(1)
    assert ScoreStatistics(Z, np.ones(30), share, 2).t2_limit(0.95) == np.inf


def test_limits_add_up_over_partial_fits():
    """The moments of rows in parts are those of all; a pass over one row does not take the limits away."""
    rng = np.random.RandomState(0)
    Z, q = rng.standard_normal((30, 2)), rng.uniform(size=30)
    whole = ScoreStatistics(Z, q, np.full(30, 1 / 30), 30)
    parts = ScoreStatistics(Z[:10], q[:10], np.full(10, 0.1), 10) + ScoreStatistics(
        Z[10:], q[10:], np.full(20, 0.05), 20
    )
    np.testing.assert_allclose(parts.t2(Z), whole.t2(Z))
    assert parts.q_limit(0.9) == pytest.approx(whole.q_limit(0.9))
    X = curved_spectra(200)
    vae = VAETransformer(3, **small()).fit(X)
    limits = vae.hotelling_t2_limit(), vae.q_residuals_limit()
    vae.partial_fit(X[:1])
    assert vae.hotelling_t2_limit() == pytest.approx(limits[0], rel=0.01)
    assert vae.q_residuals_limit() == pytest.approx(limits[1], rel=0.1)
    assert vae.n_active_components_ == 3


def test_q_limit_of_rows_with_gaps():
    """Gaps change a row's Q little in the mean, so that limits hold: false alarms of 5 % within 2.5 %."""
    vae = start(linear_rows(2000)[0])
    new, _ = linear_rows(4000, seed=1)
    gaps = np.where(np.random.RandomState(0).uniform(size=new.shape) < 0.3, np.nan, new)
    for rows in (new, gaps):
        assert np.mean(vae.q_residuals(rows) > vae.q_residuals_limit()) == pytest.approx(0.05, abs=0.025)


def test_q_limit_of_few_rows_that_were_fitted_closely():
    """8 components on 120 rows of 3: 30 validation rows tell how much greater the Q of new rows is, held-out rows tell
    it to within 3 %; without either, leaving rows out of a linear model tells a part of it."""
    train, new = linear_rows(120)[0], linear_rows(4000, seed=1)[0]
    limits = []
    for fraction in (None, 0.25):
        vae = VAETransformer(8, **small(max_iter=60, hidden_layer_sizes=(64,), validation_fraction=fraction))
        q = vae.fit(train).q_residuals(new)
        limits.append(np.mean(q > vae.q_residuals_limit()))
        held_out = np.mean(q[200:] > vae.q_residuals_limit(X=new[:200]))
        assert held_out == pytest.approx(0.05, abs=0.03)
    assert limits[1] < 0.1 < limits[0] < 0.25


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1, None, "0.9"])
def test_levels_are_checked(level, spectra):
    vae = VAETransformer(2, **small(max_iter=0)).fit(spectra)
    for limit in (vae.hotelling_t2_limit, vae.q_residuals_limit):
        with pytest.raises((ValueError, TypeError), match="level"):
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
    vae = VAETransformer(3, likelihood="gaussian_diag", max_iter=0, random_state=0).fit(X)
    mean, std = vae.reconstruct(X, return_std=True)
    np.testing.assert_allclose(mean, vae.inverse_transform(vae.transform(X)), rtol=1e-9)
    variance = np.einsum("dp, nde, ep -> np", vae.components_, vae.posterior_covariance(X), vae.components_)
    np.testing.assert_allclose(std**2, variance + vae.noise_variance_, rtol=1e-6)
    np.testing.assert_array_equal(vae.reconstruct(X), mean)


def test_q_s_limit_of_numbers_whose_squares_are_nearly_nothing():
    X = 1e-88 * np.random.RandomState(0).standard_normal((30, 1))
    weight = np.random.RandomState(0).randint(0, 3, 30).astype(float)
    tiny = VAETransformer(1, likelihood="gaussian_unit", **small(max_iter=0)).fit(X, sample_weight=weight)
    q = tiny.q_residuals(X)
    assert q.mean() < tiny.q_residuals_limit(0.95) < 2 * q.max()
