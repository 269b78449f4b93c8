"""Contributions of channels to T2 and Q: sums, PCA's textbook formula, and slopes by differences."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skvae import VAETransformer
from skvae._inference.contributions import ScoreDistance
from skvae.posteriors import POSTERIORS

from ..conftest import curved_spectra, small

X = curved_spectra(200)
GAPS = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)


@pytest.fixture(scope="module", params=["silu", "relu"])
def vae(request):
    return VAETransformer(3, activation=request.param, **small(max_iter=30, hidden_layer_sizes=(32,))).fit(X)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_t2_s_are_the_textbook_s_at_the_linear_start(posterior):
    """sum_a t_a / lambda_a p_aj (x_j - m_j) of PCA; float32 weights allow 1e-3 of a row's greatest."""
    new = curved_spectra(20, seed=1)
    pca = PCA(3).fit(X)
    expected = (pca.transform(new) / pca.explained_variance_) @ pca.components_ * (new - pca.mean_)
    start = VAETransformer(3, likelihood="gaussian_isotropic", posterior=posterior, max_iter=0, random_state=0).fit(X)
    ours = start.t2_contributions(new)
    assert np.all(np.abs(ours - expected) < 1e-3 * np.abs(expected).max(axis=1, keepdims=True))


@pytest.mark.parametrize("rows", [X, GAPS, curved_spectra(20, seed=1) * 4], ids=["rows", "gaps", "far"])
def test_they_sum_to_t2_and_q(vae, rows):
    np.testing.assert_allclose(vae.t2_contributions(rows).sum(axis=1), vae.hotelling_t2(rows), rtol=1e-9)
    np.testing.assert_allclose(np.abs(vae.q_contributions(rows)).sum(axis=1), vae.q_residuals(rows), rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian_heteroscedastic"])
def test_they_sum_to_t2_for_other_likelihoods(likelihood):
    counts = np.round(np.abs(X) / 50)
    vae = VAETransformer(2, likelihood=likelihood, **small()).fit(counts)
    np.testing.assert_allclose(vae.t2_contributions(counts).sum(axis=1), vae.hotelling_t2(counts), rtol=1e-9)


def test_they_keep_the_dtype_s_answers(vae):
    single = X[:10].astype(np.float32)
    ours = vae.t2_contributions(single)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, vae.t2_contributions(X[:10]), atol=1e-4)


def test_q_s_have_the_residual_s_sign():
    vae = VAETransformer(2, **small()).fit(X)
    residual = GAPS - vae.inverse_transform(vae.transform(GAPS))
    share = 60 / np.isfinite(GAPS).sum(axis=1, keepdims=True)
    expected = np.nan_to_num(np.sign(residual) * residual**2) * share
    np.testing.assert_allclose(vae.q_contributions(GAPS), expected, rtol=1e-6)


def test_t2_s_are_integrals_of_slopes(vae):
    """T2's slope by differences, over 400 steps of the line, which begins where T2 is 0."""
    distance = ScoreDistance(vae._predictor(np.dtype(np.float64)).module, vae._score_statistics)
    with torch.no_grad():
        origin = distance.nearest_row_without(torch.from_numpy(vae.mean_)).numpy()
    assert vae.hotelling_t2(origin[None]) < 1e-9
    assert np.abs(origin - X.mean(axis=0)).max() < X.std(axis=0).max()  # near the mean
    row, channels = curved_spectra(1, seed=5)[0], [5, 30, 48]
    steps = (np.arange(400) + 0.5)[:, None] / 400
    line = origin + steps * (row - origin)
    for j in channels:
        change = 1e-3 * np.eye(60)[j]
        slope = (vae.hotelling_t2(line + change) - vae.hotelling_t2(line - change)) / 2e-3
        expected = (row - origin)[j] * slope.mean()
        assert vae.t2_contributions(row[None])[0, j] == pytest.approx(expected, rel=0.01, abs=1e-3)


def test_the_channel_with_the_fault_contributes_most(vae):
    spiked = X[:5].copy()
    spiked[:, 17] += 500
    assert (vae.q_contributions(spiked).argmax(axis=1) == 17).all()


def test_columns_that_the_model_does_not_know_are_nan():
    lacking = X.copy()
    lacking[:, 3] = np.nan
    with pytest.warns(UserWarning, match="X has columns of which no value"):
        vae = VAETransformer(2, **small()).fit(lacking)
    for contributions, value in ((vae.t2_contributions, vae.hotelling_t2), (vae.q_contributions, vae.q_residuals)):
        ours = contributions(lacking)
        assert ours.shape == X.shape and np.isnan(ours[:, 3]).all()
        np.testing.assert_allclose(np.nansum(np.abs(ours) if value == vae.q_residuals else ours, 1), value(lacking))
