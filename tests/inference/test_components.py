"""What a fitted model says of its components: loadings, order, signs, shares, activity, covariance."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skvae import VAETransformer
from skvae.likelihoods import LIKELIHOODS
from skvae.networks import NETWORKS
from skvae.posteriors import POSTERIORS

from ..conftest import PLAIN_LIKELIHOODS, curved_spectra, in_support, small


@pytest.fixture(scope="module")
def trained():
    X = curved_spectra(200)
    settings = small(max_iter=30)
    return X, {name: VAETransformer(3, posterior=name, **settings).fit(X) for name in POSTERIORS}


def pca_start(X, d, **params):
    return VAETransformer(d, likelihood="gaussian_isotropic", max_iter=0, random_state=0, **params).fit(X)


@pytest.mark.parametrize("likelihood", [name for name in PLAIN_LIKELIHOODS if LIKELIHOODS[name].linear_noise])
def test_components_of_a_linear_model_are_its_loadings(likelihood):
    X = curved_spectra(100)
    settings = small(max_iter=8, hidden_layer_sizes=(), weight_decay=0.0)
    vae = VAETransformer(3, likelihood=likelihood, **settings).fit(X)
    module = copy.deepcopy(vae.net_.module_).double()
    loadings = (module.scale[:, None] * module.decoder.linear_path(torch.float64)[1]).detach().numpy().T[module.order]
    np.testing.assert_allclose(vae.components_, module.sign[:, None] * loadings, rtol=1e-12)
    if likelihood != "gaussian_heteroscedastic":  # whose noise has a matrix of its own
        np.testing.assert_allclose(vae.loadings(X[:4]), np.tile(vae.components_, (4, 1, 1)), rtol=1e-12)


@pytest.mark.parametrize("likelihood", PLAIN_LIKELIHOODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_loadings_are_the_derivatives_and_components_their_mean(likelihood, network):
    """Against central differences of `inverse_transform`, whose error is of the second order in the step."""
    X = in_support(likelihood, curved_spectra(60, n_channels=16))
    shape = small(max_iter=3, encoder=network, decoder=network, input_shape=(1, 4, 4), activation="tanh")
    vae = VAETransformer(2, likelihood=likelihood, **shape).fit(X)
    Z, step = vae.transform(X), 1e-5
    loadings = vae.loadings(X)
    assert loadings.shape == (60, 2, 16)
    for j in range(2):
        side = step * np.eye(2)[j]
        difference = (vae.inverse_transform(Z + side) - vae.inverse_transform(Z - side)) / (2 * step)
        np.testing.assert_allclose(loadings[:, j], difference, rtol=1e-4, atol=1e-5 * np.abs(loadings).max())
    np.testing.assert_allclose(vae.components_, loadings.mean(0), rtol=1e-9, atol=1e-12 * np.abs(loadings).max())


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_components_are_sorted_by_what_they_carry_and_have_pca_s_signs(posterior, trained):
    X, models = trained
    vae = models[posterior]
    largest = np.abs(vae.components_).argmax(axis=1)
    assert (vae.components_[np.arange(3), largest] > 0).all()
    carried = vae.transform(X).var(axis=0) * np.square(vae.loadings(X)).sum(axis=2).mean(axis=0)
    order = vae.net_.module_.order.tolist()
    assert order == [0, 1, 2] if POSTERIORS[posterior].order_matters else (np.diff(carried) <= 0).all()


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_another_order_and_other_signs_are_the_same_model(posterior, trained):
    """Every method sees the same components, and copies keep them."""
    X, models = trained
    vae, other = models[posterior], pickle.loads(pickle.dumps(models[posterior]))
    np.testing.assert_array_equal(other.transform(X), vae.transform(X))
    turn, flip = [2, 0, 1], np.array([1.0, -1.0, -1.0])
    module = other.net_.module_
    module.order.copy_(module.order[turn])
    module.sign.copy_(module.sign[turn] * torch.tensor(flip))
    other = copy.deepcopy(other)
    Z = other.transform(X)
    np.testing.assert_array_equal(Z, vae.transform(X)[:, turn] * flip)
    np.testing.assert_array_equal(other.inverse_transform(Z), vae.inverse_transform(vae.transform(X)))
    covariance = vae.posterior_covariance(X)[:, turn][:, :, turn] * flip * flip[:, None]
    np.testing.assert_allclose(other.posterior_covariance(X), covariance, rtol=1e-12)
    np.testing.assert_allclose(other.loadings(X), vae.loadings(X)[:, turn] * flip[:, None], rtol=1e-9)
    np.testing.assert_array_equal(other.score_samples(X), vae.score_samples(X))


def test_partial_fit_keeps_order_and_signs():
    """A user who transforms between calls sees components in their places: correlated with what they were."""
    X = curved_spectra(200)
    vae = VAETransformer(3, **small()).partial_fit(X)
    first = vae.transform(X)
    for _ in range(5):
        vae.partial_fit(X)
    assert all(np.corrcoef(first[:, j], vae.transform(X)[:, j])[0, 1] > 0.9 for j in range(3))


@pytest.mark.parametrize("load", [lambda: curved_spectra(150), lambda: load_wine().data])
def test_shares_of_variance_are_pca_s_at_the_linear_start(load):
    """Posterior means are shrunk by s = noise / eigenvalue, so that a component gains 1 - s^2 of its share."""
    X = load()
    pca, vae = PCA(3).fit(X), pca_start(X, 3)
    shrunk = 1 - (vae.noise_variance_ / pca.explained_variance_) ** 2
    np.testing.assert_allclose(vae.explained_variance_ratio_, shrunk * pca.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(vae.explained_variance_, shrunk * pca.explained_variance_, rtol=1e-4)


def test_shares_of_variance_of_a_linear_model_are_of_all_its_rows():
    """Of 600 rows some only are averaged over components; in a linear model they are not needed."""
    X = curved_spectra(600)
    vae = pca_start(X, 3)
    Z = vae.transform(X)
    left = [X - X.mean(0)]
    for z, loadings in zip(Z.T, vae.components_, strict=True):
        left.append(left[-1] - np.outer(z, loadings))
    squares = np.array([np.sum(residual**2) for residual in left])
    np.testing.assert_allclose(vae.explained_variance_ratio_, -np.diff(squares) / squares[0], rtol=1e-4)
    np.testing.assert_allclose(vae.explained_variance_, -np.diff(squares) / 599, rtol=1e-4)


def test_interleaved_rows_are_all_seen():
    """Of rows of two kinds in turn, every second would be one kind; T2's limit holds for both, within 2 %."""
    rng = np.random.RandomState(0)
    X = np.outer(np.where(np.arange(16_384) % 2, 3, -3), rng.randn(8)) + rng.randn(16_384, 1) * rng.randn(8)
    vae = VAETransformer(2, max_iter=0, random_state=0).fit(X + 0.1 * rng.randn(*X.shape))
    assert np.mean(vae.hotelling_t2(X) > vae.hotelling_t2_limit()) < 0.07


def test_shares_of_variance_sum_to_r2_and_follow_curved_models():
    X = curved_spectra(200)
    vae = VAETransformer(3, **small(max_iter=60, hidden_layer_sizes=(64,))).fit(X)
    residual = X - vae.inverse_transform(vae.transform(X))
    r2 = 1 - np.sum(residual**2) / np.sum((X - X.mean(0)) ** 2)
    assert vae.explained_variance_ratio_.sum() == pytest.approx(r2, rel=1e-9)
    assert r2 > 0.9 and vae.explained_variance_.sum() == pytest.approx(r2 * X.var(0, ddof=1).sum(), rel=1e-9)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_kl_and_activity(posterior, trained):
    X, models = trained
    vae = models[posterior]
    Z, variance = vae.transform(X), vae.posterior_covariance(X).diagonal(axis1=1, axis2=2)
    kl = 0.5 * (variance + Z**2 - 1 - np.log(variance)).mean(axis=0)
    np.testing.assert_allclose(vae.kl_per_component_, kl, rtol=1e-9)
    assert vae.n_active_components_ == np.sum(Z.var(axis=0) > 0.01) == 3


def test_collapse_is_warned_of_by_name():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((100, 2)) @ rng.standard_normal((2, 10))
    with pytest.warns(ConvergenceWarning, match=r"Posterior collapse in component 2, 3 \(of 0 to 3\)"):
        vae = pca_start(X, 4)
    assert vae.n_active_components_ == 2
    np.testing.assert_allclose(vae.kl_per_component_[2:], 0, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert pca_start(X, 2).n_active_components_ == 2


def test_covariance_is_pca_s_and_factor_analysis_s_at_the_linear_start():
    X = curved_spectra(200)
    for likelihood in ("gaussian_diag", "gaussian_isotropic"):
        vae = VAETransformer(3, likelihood=likelihood, max_iter=0, random_state=0).fit(X)
        closed = vae.components_.T @ vae.components_ + vae.noise_variance_ * np.eye(60)
        np.testing.assert_allclose(vae.get_covariance(), closed, rtol=1e-6, atol=1e-9 * closed.max())
    np.testing.assert_allclose(
        vae.get_covariance(), PCA(3).fit(X).get_covariance(), rtol=1e-3, atol=1e-4 * closed.max()
    )


@pytest.mark.parametrize("likelihood", ["gaussian_diag", "gaussian_heteroscedastic", "poisson", "bernoulli"])
def test_covariance_is_that_of_samples(likelihood):
    """100,000 samples; each entry within 6 standard errors of two Monte Carlos, by fourth moments; fails 1 in 10^6."""
    X = in_support(likelihood, curved_spectra(200, n_channels=8))
    vae = VAETransformer(2, likelihood=likelihood, **small(max_iter=20)).fit(X)
    draws = vae.sample(100_000, random_state=0)
    centred = draws - draws.mean(0)
    error = np.sqrt(np.einsum("ni, nj -> ij", centred**2, centred**2) / 1e5 / 1e5 * (1 + 10))
    assert (np.abs(vae.get_covariance() - np.cov(draws.T)) < 6 * error).all()


def test_attributes_keep_the_dtype_of_x():
    X = curved_spectra(50).astype(np.float32)
    vae = VAETransformer(2, **small(max_iter=1)).fit(X)
    for array in (vae.components_, vae.mean_, vae.loadings(X), vae.get_covariance(), vae.reconstruct(X), vae.impute(X)):
        assert array.dtype == np.float32


def test_components_are_sorted_by_the_variance_that_they_bring_to_first_order():
    """Of shares that are gained one after the other this says nothing: in a nonlinear model they need not descend."""
    X = curved_spectra(300)
    for max_iter in (0, 20):
        vae = VAETransformer(4, **small(max_iter=max_iter)).fit(X)
        slopes = vae.loadings(X)  # (n, d, p)
        brought = vae.transform(X).var(axis=0) * np.square(slopes).sum(axis=2).mean(axis=0)
        assert (np.diff(brought) <= 0.02 * brought[:-1]).all()  # slopes are of 300 rows, all
        if max_iter == 0:
            assert (np.diff(vae.explained_variance_ratio_) <= 1e-6).all()
