"""Before any training the model is PCA or factor analysis: scikit-learn's scores are the oracle."""

from functools import lru_cache
from unittest.mock import patch

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA, FactorAnalysis

from skvae import VAETransformer
from skvae._linear.eigenvectors import largest_eigenvectors, rayleigh_ritz
from skvae._linear.start import linear_start
from skvae.posteriors import POSTERIORS

from ..conftest import curved_spectra
from ..posteriors.test_posteriors import rho_gap


def digits():
    X = load_digits().data
    return X[:, X.var(axis=0) > 0.5]  # PCA has no answer to constant columns


REAL = {
    "breast_cancer": lambda: load_breast_cancer().data,
    "diabetes": lambda: load_diabetes().data,
    "digits": digits,
    "wine": lambda: load_wine().data,
    "spectra": lambda: curved_spectra(300),
}
DATA = {name: make() for name, make in REAL.items()}
every_set = pytest.mark.parametrize("name", DATA)
exact_posterior = pytest.mark.parametrize("posterior", ["diag", "rho_diag", "full"])


@lru_cache
def factor_analysis_score(name, d):
    return FactorAnalysis(d, random_state=0).fit(DATA[name]).score(DATA[name])


def start(X, d, **params):
    return VAETransformer(d, max_iter=0, random_state=0, **params).fit(X)


@every_set
@exact_posterior
@pytest.mark.parametrize("d", [1, 2, 4])
def test_isotropic_start_is_pca(name, posterior, d):
    X = DATA[name]
    pca = PCA(d).fit(X)
    vae = start(X, d, posterior=posterior, likelihood="gaussian_isotropic")
    assert vae.score(X) == pytest.approx(pca.score(X), rel=1e-3)
    np.testing.assert_allclose(vae.score_samples(X), pca.score_samples(X), rtol=1e-2, atol=0.1)
    assert vae.noise_variance_ == pytest.approx(pca.noise_variance_, rel=1e-3)
    np.testing.assert_allclose(vae.mean_, pca.mean_, rtol=1e-6)


@every_set
@exact_posterior
@pytest.mark.parametrize("d", [1, 2, 4])
def test_gaussian_start_is_factor_analysis(name, posterior, d):
    """To 0.1 %, or better: the likelihood has several maxima."""
    theirs = factor_analysis_score(name, d)
    ours = start(DATA[name], d, posterior=posterior, likelihood="gaussian_diag").score(DATA[name])
    assert ours == pytest.approx(theirs, rel=1e-3) or ours > theirs


def test_heteroscedastic_start_is_factor_analysis_too():
    X = DATA["spectra"]
    ours, theirs = (start(X, 3, likelihood=f"gaussian_{kind}").score(X) for kind in ("heteroscedastic", "diag"))
    assert ours == pytest.approx(theirs, rel=1e-4)


@every_set
@pytest.mark.parametrize("d", [1, 2, 4])
def test_rho_start_is_pca_less_the_closed_form_gap(name, d):
    """PCA's score less what the family's joint optimum leaves, by a search of its own, to 0.3 nats."""
    X = DATA[name]
    pca = PCA(d).fit(X)
    gap = rho_gap(pca.explained_variance_ / pca.noise_variance_)
    vae = start(X, d, posterior="rho", likelihood="gaussian_isotropic", n_importance_samples=1)
    # One draw is the ELBO, whose mean over 400 noises has a standard error under 0.1 nats.
    scores = []
    for seed in range(400):
        vae._seed = seed
        scores.append(vae.score(X[:: max(1, len(X) // 100)]))
    subset = X[:: max(1, len(X) // 100)]
    assert np.mean(scores) == pytest.approx(pca.score(subset) - gap, abs=0.3)


def test_unit_noise_start_is_its_optimum():
    """Closed form with sigma^2 = 1: log|C| + tr(S C^-1) for C with eigenvalues max(lambda, 1), 1."""
    X = DATA["wine"]
    d = 2
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    model = np.ones(len(eigenvalues))
    model[:d] = np.maximum(eigenvalues[:d], 1)
    biased = eigenvalues * (len(X) - 1) / len(X)
    expected = -0.5 * (len(model) * np.log(2 * np.pi) + np.log(model).sum() + (biased / model).sum())
    assert start(X, d, likelihood="gaussian_unit").score(X) == pytest.approx(expected, rel=1e-4)


def test_loadings_are_the_principal_axes():
    X = DATA["spectra"]
    pca = PCA(3).fit(X)
    components = start(X, 3, likelihood="gaussian_isotropic").components_
    cosines = np.sum(components * pca.components_, axis=1) / np.linalg.norm(components, axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-4)
    assert (components[np.arange(3), np.abs(components).argmax(axis=1)] > 0).all()


def test_reconstruction_is_pcas_up_to_shrinkage():
    X = DATA["spectra"]
    pca, vae = PCA(3).fit(X), start(X, 3, likelihood="gaussian_isotropic")
    theirs = pca.inverse_transform(pca.transform(X))
    ours = vae.inverse_transform(vae.transform(X))
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(X - pca.mean_).max()


@pytest.mark.parametrize("noise", ["feature", "isotropic", "unit"])
@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_posterior_is_the_models_own(noise, shape):
    """encoder_weight = P^-1 W^T Psi^-1 and P = diag(1/s), against dense algebra."""
    u = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.linspace(0.5, 3, shape[1]))
    scale = torch.linspace(0.5, 2, shape[1], dtype=torch.float64)
    linear = linear_start(u, 3, POSTERIORS["diag"], noise, scale, 1e-6)
    weighted = linear.loadings / linear.noise_variance[:, None]
    precision = torch.eye(3, dtype=torch.float64) + linear.loadings.T @ weighted
    torch.testing.assert_close(precision, torch.diag(1 / linear.posterior_raw.exp()), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(linear.encoder_weight, torch.linalg.solve(precision, weighted.T), rtol=1e-7, atol=1e-9)
    assert (precision.diagonal().diff() <= 1e-9).all()


@pytest.mark.parametrize("shape", [(5, 12), (12, 5)])
def test_components_beyond_the_rank_start_at_zero_loading_and_unit_posterior(shape):
    X = np.random.RandomState(0).randn(*shape)
    vae = start(X, 9)
    assert np.isfinite(vae.score(X))
    spare = np.linalg.norm(vae.components_, axis=1) < 1e-9
    assert spare.sum() >= 9 - min(shape)
    covariance = vae.posterior_covariance(X)[:, spare][:, :, spare]
    np.testing.assert_allclose(covariance, np.broadcast_to(np.eye(spare.sum()), covariance.shape), atol=1e-6)


@exact_posterior
def test_a_linear_model_stays_at_the_optimum(posterior):
    X = DATA["spectra"]
    for likelihood in ("gaussian_diag", "gaussian_isotropic"):
        settings = dict(posterior=posterior, likelihood=likelihood, random_state=0)
        trained = VAETransformer(3, hidden_layer_sizes=(), max_iter=30, validation_fraction=None, **settings).fit(X)
        optimum = VAETransformer(3, max_iter=0, **settings).fit(X)
        assert trained.score(X) == pytest.approx(optimum.score(X), rel=1e-3)


def test_score_follows_the_units_of_x():
    X = DATA["spectra"]
    for factor in (1e-5, 1e4):
        for likelihood in ("gaussian_diag", "gaussian_isotropic", "gaussian_heteroscedastic"):
            model = VAETransformer(2, likelihood=likelihood, hidden_layer_sizes=(16,), max_iter=3, random_state=0)
            score = model.fit(X).score(X)
            scaled = model.fit(factor * X).score(factor * X)
            assert scaled == pytest.approx(score - X.shape[1] * np.log(factor), abs=0.05)


SPECTRA_OF_VALUES = {  # eigenvalues of 1,200, and whether 8 of them are found without all
    "decay": (0.8 ** np.arange(1200), True),
    "signal and noise": (np.r_[np.geomspace(1e4, 10, 12), np.linspace(1.2, 0.8, 1188)], True),
    "equal ones": (np.r_[[5.0] * 3, 3, 3, np.ones(1195)], True),
    "rank 3": (np.r_[3, 2, 1, np.zeros(1197)], True),
    "zero": (np.zeros(1200), True),
    "close ones": (np.linspace(1.1, 1.0, 1200), False),
    "range of 1e14": (np.geomspace(1, 1e-14, 1200), True),
}


@pytest.mark.parametrize("name", SPECTRA_OF_VALUES)
@pytest.mark.parametrize("k", [1, 8, 200])
def test_the_largest_eigenvalues_are_those_of_the_whole_decomposition(name, k):
    """To 1e-13 of the largest, with orthonormal vectors whose residuals are rounding; few of many without all."""
    values, few = SPECTRA_OF_VALUES[name]
    turn = torch.linalg.qr(torch.from_numpy(np.random.RandomState(0).standard_normal((1200, 1200)))).Q
    matrix = (turn * torch.from_numpy(values)) @ turn.T
    matrix = (matrix + matrix.T) / 2
    with (
        patch("skvae._linear.eigenvectors.rayleigh_ritz", wraps=rayleigh_ritz) as ritz_,
        patch("torch.linalg.eigh", wraps=torch.linalg.eigh) as eigh,
    ):
        found, vectors = largest_eigenvectors(matrix, k)
        calls = [len(call.args[0]) for call in eigh.call_args_list]
    if k == 8:
        assert (1200 not in calls) == few
    if k == 200:
        assert not ritz_.called
    scale = max(values[0], 1e-300)
    np.testing.assert_allclose(found, values[:k], rtol=0, atol=1e-13 * scale)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (matrix @ vectors - vectors * found).abs().max() <= 1e-13 * scale
