"""Samples with noise and without, and given a few channels: closed forms of linear models, `impute` of others."""

import numpy as np
import pandas as pd
import pytest
import torch

from skvae import VAETransformer
from skvae._inference.predictor import resampled
from skvae.posteriors import POSTERIORS

from ..conftest import curved_spectra, small

N = 4000
X = curved_spectra(300, 12)


@pytest.fixture(scope="module")
def row():
    """The first row without its channels 3 to 7."""
    row = X[:1].copy()
    row[0, 3:8] = np.nan
    return row


def start(likelihood="gaussian_isotropic", **params):
    return VAETransformer(2, likelihood=likelihood, max_iter=0, random_state=0, **params).fit(X)


def assert_moments(rows, mean, covariance, n_errors=5):
    """Mean and covariance of N independent rows, within so many standard errors; of the covariance, of normal rows."""
    std = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(rows.mean(axis=0) - mean) < n_errors * std / len(rows) ** 0.5)
    error = np.sqrt((covariance**2 + np.outer(std, std) ** 2) / len(rows))
    assert np.all(np.abs(np.cov(rows.T) - covariance) < n_errors * error)


def test_without_noise_they_are_means():
    vae = start()
    smooth = vae.sample(N, random_state=0, noise=False)
    assert_moments(smooth, vae.mean_, vae.components_.T @ vae.components_)
    assert np.linalg.matrix_rank(smooth - vae.mean_, tol=1e-3 * np.abs(smooth).max()) == 2
    assert_moments(vae.sample(N, random_state=0), vae.mean_, vae.get_covariance())


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic", "gaussian_diag", "gaussian_heteroscedastic"])
@pytest.mark.parametrize("noise", [True, False])
def test_given_channels_the_others_are_the_conditional_normal_distribution(likelihood, noise, row):
    """Resampling from 16 proposals for each row adds a sixteenth to the variance of a mean at most."""
    vae, is_missing = start(likelihood), np.isnan(row[0])
    full = vae.get_covariance(100_000)
    a, b, c = full[np.ix_(is_missing, is_missing)], full[np.ix_(is_missing, ~is_missing)], full[~is_missing]
    gain = b @ np.linalg.inv(c[:, ~is_missing])
    mean, covariance = vae.mean_[is_missing] + gain @ (row[0] - vae.mean_)[~is_missing], a - gain @ b.T
    signal = vae.components_.T @ vae.components_
    covariance = covariance if noise else covariance - np.diag(np.diag(full - signal))[np.ix_(is_missing, is_missing)]
    rows = vae.sample(N, random_state=0, noise=noise, given=row)
    np.testing.assert_array_equal(rows[:, ~is_missing], np.repeat(row[:, ~is_missing], N, axis=0))
    assert_moments(rows[:, is_missing], mean, covariance)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic", "poisson"])
def test_given_channels_the_others_have_impute_s_moments(likelihood, posterior):
    """Of a trained model: within 5 standard errors, and the 2 % (of a variance 4 %) of `impute`'s own draws."""
    counts = np.round(np.abs(X) / 50)
    vae = VAETransformer(2, likelihood=likelihood, posterior=posterior, **small(max_iter=10)).fit(counts)
    row = counts[:1].copy()
    row[0, 3:8] = np.nan
    is_missing, rows = np.isnan(row[0]), vae.sample(N, random_state=0, given=row)[:, 3:8]
    mean, std = (values[0, is_missing] for values in vae.impute(row, return_std=True, n_draws=4096))
    assert np.all(np.abs(rows.mean(axis=0) - mean) < (5 / N**0.5 + 0.02) * std)
    variance = rows.var(axis=0)
    error = np.sqrt((np.mean((rows - rows.mean(axis=0)) ** 4, axis=0) - variance**2) / N)
    assert np.all(np.abs(variance - std**2) < 5 * error + 0.04 * std**2)


def test_given_nothing_they_are_samples_of_the_model():
    vae = start()
    rows = vae.sample(N, random_state=0, given=np.full((1, 12), np.nan))
    assert_moments(rows, vae.mean_, vae.get_covariance())


def test_resampling_takes_each_draw_as_often_as_its_weight_says():
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(50, generator=generator, dtype=torch.float64)
    weight[:10] = 0
    weight /= weight.sum()
    counts = torch.bincount(resampled(weight, 333, generator), minlength=50)
    assert counts.sum() == 333 and ((counts - 333 * weight).abs() < 1).all()
    assert (resampled(torch.ones(1), 3, generator) == 0).all()


def test_frames_dtypes_and_errors(row):
    labels = [f"{i} nm" for i in range(12)]
    vae = start().set_output(transform="pandas")
    vae.fit(pd.DataFrame(X, columns=labels))
    given = pd.DataFrame(row, columns=labels)
    rows = vae.sample(3, random_state=0, given=given)
    assert list(rows.columns) == labels and list(rows.index) == [0, 1, 2]
    pd.testing.assert_frame_equal(rows, vae.sample(3, random_state=0, given=given))
    assert start().sample(2, given=row.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match=r"given must be one row, of shape \(1, 12\), but has 2 rows"):
        vae.sample(3, given=pd.concat([given, given]))
    with pytest.raises(ValueError, match="feature names"):
        vae.sample(3, given=given.rename(columns={"0 nm": "other"}))
