"""Values and rows that lie far out: Student's t as the likelihood, its start, training under it, and what it says."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student_t
from sklearn.decomposition import PCA

from skvae import VAETransformer
from skvae._data.rows import Rows
from skvae._data.scaling import column_scaling
from skvae._linear.value_precisions import em_with_tails

from .conftest import curved_spectra, small


def with_spikes(X, share=0.01, seed=0):
    """X with this share of its values far out, and where these are."""
    rng = np.random.RandomState(seed)
    spikes = rng.uniform(size=X.shape) < share
    return np.where(spikes, X + 3 * X.std() * rng.choice([-1, 1], X.shape) * rng.uniform(1, 3, X.shape), X), spikes


def with_odd_rows(X, n_odd=4, seed=0):
    """X with some rows that are noise."""
    rows = X.copy()
    rows[:: -(-len(X) // n_odd)] += 2 * X.std() * np.random.RandomState(seed).standard_normal((n_odd, X.shape[1]))
    return rows


def plane(n=60, p=40, d=2, noise=0.05, seed=0):
    """Rows near a plane."""
    rng = np.random.RandomState(seed)
    loadings = np.random.RandomState(9).standard_normal((d, p)) * np.array([[2.0], [1.0]])
    return 3 + rng.standard_normal((n, d)) @ loadings + noise * rng.standard_normal((n, p))


def degrees(first, second):
    """The greatest angle between two models' loadings."""
    bases = (np.linalg.qr(model.components_.T)[0] for model in (first, second))
    cosines = np.linalg.svd(next(bases).T @ next(bases))[1]
    return np.degrees(np.arccos(np.clip(cosines.min(), -1, 1)))


@pytest.mark.parametrize("max_iter", [0, 30])
@pytest.mark.parametrize("spoilt", [lambda X: with_spikes(X)[0], with_odd_rows], ids=["spikes", "odd rows"])
def test_outliers_move_neither_the_start_nor_the_fit(spoilt, max_iter):
    """The loadings stay within 5 degrees of those of the clean rows, where PCA's move by more than 10."""
    X, settings = plane(), {"likelihood": "student_t", "random_state": 0, "max_iter": max_iter}
    clean, ours = (VAETransformer(2, **settings).fit(rows) for rows in (X, spoilt(X)))
    assert degrees(PCA(2).fit(X), PCA(2).fit(spoilt(X))) > 10
    assert degrees(clean, ours) < 5
    assert degrees(PCA(2).fit(X), ours) < 5


def test_the_start_is_a_maximum_of_the_bound_and_finds_the_tails():
    """Of rows with t noise of 4 degrees of freedom: scale and degrees of freedom are those of the rows."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 20)) + 0.3 * rng.standard_t(4, (2000, 20))
    u = torch.tensor(X - np.median(X, 0))
    start = torch.linalg.qr(torch.tensor(rng.standard_normal((20, 2))))[0], torch.ones(20, dtype=torch.float64)
    loadings, variance, _, _, nu = em_with_tails(u, None, start, torch.ones(20, dtype=torch.float64), 1e-6, tol=1e-8)
    assert 5 <= nu < 7  # less than 5 is not for training, and a product is a little too sure of the precisions
    np.testing.assert_allclose(variance, 0.09 * 4 / 2, rtol=0.15)
    covariance = loadings @ loadings.T
    truth = np.cov((X - 0.3 * 0).T) - variance[0].item() * np.eye(20)
    assert np.abs(covariance.numpy() - truth).max() < 0.3 * np.abs(truth).max()


def test_a_score_is_the_integral_over_the_components():
    """Of one component, by 20,000 points: the importance-weighted bound of 1,000 draws is within 0.2 nats."""
    X, _ = with_spikes(plane(d=2)[:, :6], 0.05)
    settings = {"likelihood": "student_t", "random_state": 0, "n_importance_samples": 1000}
    vae = VAETransformer(1, max_iter=0, **settings).fit(X)
    z = np.linspace(-8, 8, 20_001)[:, None]
    likelihood = vae.net_.module_.likelihood
    nu = likelihood.degrees_of_freedom.item()
    scale = np.sqrt(vae.noise_variance_ * (nu - 2) / nu)
    density = student_t.logpdf(X[:, None], nu, vae.inverse_transform(z), scale).sum(-1) - z[:, 0] ** 2 / 2
    truth = np.logaddexp.reduce(density, axis=1) + np.log((z[1] - z[0])[0] / np.sqrt(2 * np.pi))
    np.testing.assert_allclose(vae.score_samples(X), truth, atol=0.2)


def test_clean_rows_lose_little_and_spoilt_ones_gain():
    """In nats per value beside the gaussian, and in error on clean new rows beside PCA's."""
    X, new = curved_spectra(300, 40), curved_spectra(200, 40, seed=1)
    gaussian, ours = (VAETransformer(4, likelihood=name, random_state=0).fit(X) for name in ("gaussian", "student_t"))
    assert ours.score(new) > gaussian.score(new) - 0.02 * 40
    spoilt, spikes = with_spikes(X)
    gaussian, ours = (
        VAETransformer(4, likelihood=name, random_state=0).fit(spoilt) for name in ("gaussian", "student_t")
    )
    pca = PCA(4).fit(spoilt)
    assert ours.score(new) > max(pca.score(new), gaussian.score(new)) + 40
    error, of_pca = ours.reconstruct(new) - new, pca.inverse_transform(pca.transform(new)) - new
    assert np.square(error).mean() < 0.3 * np.square(of_pca).mean()
    # and where the rows themselves have spikes, over the values that are clean
    error, of_pca = ours.reconstruct(spoilt) - X, pca.inverse_transform(pca.transform(spoilt)) - X
    assert np.square(error[~spikes]).mean() < 0.3 * np.square(of_pca[~spikes]).mean()


def test_gaps_errors_and_passes():
    X, _ = with_spikes(plane(200))
    X[::3, 4] = np.nan
    vae = VAETransformer(2, likelihood="student_t", **small()).fit(X, X_std=np.full(40, 0.02))
    for method in ("transform", "posterior_covariance", "score_samples", "reconstruct", "impute", "q_residuals"):
        assert np.isfinite(getattr(vae, method)(X, X_std=np.full(40, 0.02))).all()
    whole = np.nan_to_num(X, nan=3.0)
    parts = VAETransformer(2, likelihood="student_t", random_state=0)
    for block in np.split(whole, 4):
        parts.partial_fit(block)
    assert np.isfinite(parts.score(whole))


def test_scaling_does_not_follow_what_lies_far_out():
    X = np.random.RandomState(0).standard_normal((500, 3))
    spoilt = X.copy()
    spoilt[::50] *= 1e6
    mean, scale = column_scaling(Rows(X), has_tails=True)
    mean_spoilt, scale_spoilt = column_scaling(Rows(spoilt), has_tails=True)
    np.testing.assert_allclose(mean_spoilt, mean, atol=0.1)
    np.testing.assert_allclose(scale_spoilt, scale, rtol=0.2)
    assert (np.abs(scale - 1) < 0.5).all()
