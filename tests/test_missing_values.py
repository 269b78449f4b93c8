"""Values that were not measured: the density of the others, the start, training, imputation."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skvae._linear.value_precisions
import skvae._model.module
from skvae import VAETransformer
from skvae._data.rows import Rows, UnevenRows, values_and_errors
from skvae._linear.value_precisions import em_with_precisions
from skvae._model.value_precisions import LinearConditional, TemperedPosterior, WidenedPosterior
from skvae.likelihoods import LIKELIHOODS
from skvae.posteriors import POSTERIORS

from .conftest import PLAIN_LIKELIHOODS, curved_spectra, in_support, small

EXACT = [name for name in POSTERIORS if name != "rho"]  # those that can have the linear model's posterior


def with_gaps(X, share=0.3, seed=0):
    """X with this share of values missing at random, no row and no column of them all."""
    missing = np.random.RandomState(seed).uniform(size=X.shape) < share
    missing[np.arange(len(X)), np.arange(len(X)) % X.shape[1]] = False
    return np.where(missing, np.nan, X)


def as_uneven(u):
    """Rows u (n, p) with NaN as a tensor (n, 2, p)."""
    return UnevenRows(Rows(u.numpy()))[:]


def linear_rows(n=400, p=8, d=2, seed=0):
    """Rows of a linear-Gaussian model."""
    rng = np.random.RandomState(seed)
    loadings, noise = rng.standard_normal((d, p)), rng.uniform(0.2, 0.6, p)
    return 5 + rng.standard_normal((n, d)) @ loadings + noise * rng.standard_normal((n, p))


def exact_conditionals(vae, X):
    """log p(measured), mean and standard deviation of the missing given the measured, from the dense Gaussian."""
    covariance, centre = vae.get_covariance(), vae.inverse_transform(np.zeros((1, vae.n_components_)))[0]
    densities, filled, spread = np.empty(len(X)), X.copy(), np.zeros_like(X)
    for i, x in enumerate(X):
        m, o = np.isnan(x), ~np.isnan(x)
        densities[i] = multivariate_normal(centre[o], covariance[np.ix_(o, o)]).logpdf(x[o])
        gain = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
        filled[i, m] = centre[m] + gain @ (x[o] - centre[o])
        spread[i, m] = np.sqrt((covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]).diagonal())
    return densities, filled, spread


@pytest.mark.parametrize("posterior", EXACT)
@pytest.mark.parametrize(
    "likelihood", ["gaussian_diag", "gaussian_isotropic", "gaussian_unit", "gaussian_heteroscedastic"]
)
def test_the_start_has_the_exact_density_and_the_exact_conditional_mean(posterior, likelihood):
    """Of the linear-Gaussian model fitted to rows with gaps; no Monte Carlo error, as every draw weighs the same."""
    X = with_gaps(linear_rows())
    vae = VAETransformer(2, posterior=posterior, likelihood=likelihood, max_iter=0, random_state=0).fit(X)
    densities, filled, spread = exact_conditionals(vae, X)
    np.testing.assert_allclose(vae.score_samples(X), densities, rtol=1e-4, atol=1e-4)
    ours, std = vae.impute(X, return_std=True)
    measured = ~np.isnan(X)
    np.testing.assert_array_equal(ours[measured], X[measured])
    assert (std[measured] == 0).all()
    np.testing.assert_allclose(ours, filled, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(std[~measured], spread[~measured], rtol=1e-4)


def test_rho_s_start_is_a_bound_on_the_exact_density():
    """Its posterior is another, so draws weigh unequally: within 3 standard errors of their mean over the rows."""
    X = with_gaps(linear_rows())
    vae = VAETransformer(2, posterior="rho", max_iter=0, random_state=0, n_importance_samples=500).fit(X)
    densities, filled, _ = exact_conditionals(vae, X)
    assert vae.score(X) == pytest.approx(densities.mean(), abs=0.02)
    missing = np.isnan(X)
    assert np.abs(vae.impute(X, n_draws=500) - filled)[missing].mean() < 0.05 * np.abs(filled - 5)[missing].mean()


def measured_log_likelihood(u, loadings, mean, noise):
    """Of rows u with NaN, differentiable, from dense covariances."""
    covariance, total = loadings @ loadings.T + torch.diag(noise), 0.0
    for x in u:
        o = ~x.isnan()
        normal = torch.distributions.MultivariateNormal(mean[o], covariance[o][:, o])
        total = total + normal.log_prob(x[o])
    return total / len(u)


@pytest.mark.parametrize("noise_kind", ["feature", "isotropic"])
def test_em_ends_where_the_gradient_vanishes(noise_kind):
    X = with_gaps(linear_rows(n=150, p=6))
    u = torch.tensor((X - np.nanmean(X, 0)) / np.nanstd(X, 0))
    rows = as_uneven(u)
    shape = None if noise_kind == "feature" else torch.linspace(0.5, 1.5, 6, dtype=torch.float64)
    start = 0.1 * torch.ones(6, 2, dtype=torch.float64).tril(), torch.ones(6, dtype=torch.float64)
    loadings, noise, mean, _ = em_with_precisions(rows, None, start, shape, False, 1e-6, tol=1e-10, max_iter=5000)
    factor = noise / (1.0 if shape is None else shape)
    parameters = [tensor.clone().requires_grad_() for tensor in (loadings, mean, factor.log())]
    if noise_kind == "isotropic":
        assert factor.std() < 1e-12
        parameters[2] = factor[0].log().clone().requires_grad_()
    W, m, log_factor = parameters
    value = measured_log_likelihood(u, W, m, log_factor.exp() * (torch.ones(6) if shape is None else shape))
    value.backward()
    assert max(parameter.grad.abs().max().item() for parameter in parameters) < 1e-4
    assert value > measured_log_likelihood(u, start[0], torch.zeros(6), start[1]) + 0.5


def test_em_without_gaps_is_the_closed_form():
    X = linear_rows(n=300)
    u = torch.tensor(X - X.mean(0))
    values, vectors = torch.linalg.eigh(u.T @ u / 300)
    noise = values[:6].mean()
    closed = vectors[:, 6:] * (values[6:] - noise).sqrt()
    start = 0.1 * torch.ones(8, 2, dtype=torch.float64).tril(), torch.ones(8, dtype=torch.float64)
    options = {"tol": 1e-12, "max_iter": 5000}
    rows, shape = as_uneven(u), torch.ones(8).double()
    loadings, variance, mean, _ = em_with_precisions(rows, None, start, shape, False, 1e-6, **options)
    torch.testing.assert_close(variance, noise.expand(8), rtol=1e-5, atol=0)
    torch.testing.assert_close(loadings @ loadings.T, closed @ closed.T, rtol=1e-4, atol=1e-4)
    assert mean.abs().max() < 1e-6


@pytest.mark.parametrize("kind_of_widening", [WidenedPosterior, TemperedPosterior])
@pytest.mark.parametrize("family", POSTERIORS)
def test_widened_posteriors_against_dense_algebra(family, kind_of_widening):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    kind = POSTERIORS[family]
    whole = kind(draw(5, kind.n_raw(3)), 3)
    eye, mean = torch.eye(3, dtype=torch.float64), whole.mean
    if kind_of_widening is WidenedPosterior:
        by = torch.linalg.qr(draw(5, 3, 3))[1].abs().triu()
        covariance = by @ whole.covariance() @ by.mT
    else:
        by = torch.linspace(0, 1, 5, dtype=torch.float64)
        covariance = torch.linalg.inv(eye + by[:, None, None] * (torch.linalg.inv(whole.covariance()) - eye))
    q = kind_of_widening(whole, by)
    truth = torch.distributions.MultivariateNormal(mean, covariance)
    torch.testing.assert_close(q.covariance(), covariance)
    torch.testing.assert_close(q.variance(), truth.variance)
    torch.testing.assert_close(q.log_det(), torch.logdet(covariance))
    eps = draw(7, 5, 3)
    z = q.rsample(eps)
    torch.testing.assert_close(q.whiten(z - mean), eps)
    torch.testing.assert_close(q.log_prob(z), truth.log_prob(z))
    prior = torch.distributions.MultivariateNormal(torch.zeros(3).double(), eye)
    torch.testing.assert_close(q.kl(), torch.distributions.kl_divergence(truth, prior))


def test_conditional_against_dense_algebra():
    """Of a row without gaps the widening is the identity; of an empty one the prior comes back."""
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    noise, mean = torch.linspace(0.1, 0.6, 6).double(), torch.linspace(-1, 1, 6).double()
    u = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    u[1, 2:5], u[2] = torch.nan, torch.nan
    given = LinearConditional(*values_and_errors(as_uneven(u)), W, mean, noise)
    eye = torch.eye(2, dtype=torch.float64)
    whole = eye + W.T @ (W / noise[:, None])
    torch.testing.assert_close(given.widening()[0], eye)
    for i in range(3):
        o = ~u[i].isnan()
        precision = eye + W[o].T @ (W[o] / noise[o, None])
        expected = torch.linalg.solve(precision, W[o].T @ ((u[i, o] - mean[o]) / noise[o]))
        torch.testing.assert_close(given.mean[i], expected)
        G = given.widening()[i]
        torch.testing.assert_close(G @ torch.linalg.inv(whole) @ G.T, torch.linalg.inv(precision))
        change = torch.ones(3, 2, dtype=torch.float64)
        torch.testing.assert_close(given.newton_step(change)[i], torch.linalg.solve(precision, whole @ change[i]))
    torch.testing.assert_close(given.mean[2], torch.zeros(2).double())


def test_rows_without_gaps_do_not_feel_the_gaps_of_others(spectra, monkeypatch):
    vae = VAETransformer(2, posterior="full", **small(max_iter=20)).fit(spectra)
    mixed = spectra.copy()
    mixed[::2, 5:9] = np.nan
    whole = slice(1, None, 2)
    for method in (vae.transform, vae.posterior_covariance, vae.score_samples, vae.reconstruct, vae.q_residuals):
        np.testing.assert_allclose(method(mixed)[whole], method(spectra)[whole], rtol=1e-7, atol=1e-10)  # of modes

    def never(*args):
        raise AssertionError("a matrix without gaps pays for them")

    monkeypatch.setattr(skvae._model.module, "LinearConditional", never)
    again = VAETransformer(2, posterior="full", **small(max_iter=20)).fit(spectra)
    np.testing.assert_array_equal(again.transform(spectra), vae.transform(spectra))
    np.testing.assert_array_equal(again.impute(spectra), spectra)


@pytest.mark.parametrize("likelihood", PLAIN_LIKELIHOODS)
@pytest.mark.parametrize("posterior", ["rho", "full"])
def test_every_model_fits_rows_with_gaps(likelihood, posterior):
    """Imputed values have half the squared error of the column means, or 0.95 of it where training starts plainly."""
    X = in_support(likelihood, curved_spectra(300, n_channels=12))
    X = X if likelihood != "bernoulli" else X.round()
    gaps, settings = with_gaps(X), small(max_iter=60, hidden_layer_sizes=(32,), refit=False)
    vae = VAETransformer(2, posterior=posterior, likelihood=likelihood, **settings).fit(gaps)
    assert vae.history_[-1]["valid_score"] >= vae.history_[0]["valid_score"]
    filled, std = vae.impute(gaps, return_std=True)
    arrays = vae.transform(gaps), vae.posterior_covariance(gaps), vae.loadings(gaps), vae.score_samples(gaps), filled
    assert all(np.isfinite(array).all() for array in (*arrays, *vae.reconstruct(gaps, return_std=True)))
    missing = np.isnan(gaps)
    error, of_means = ((guess - X)[missing] for guess in (filled, np.nanmean(gaps, axis=0) + np.zeros_like(X)))
    share = 0.5 if LIKELIHOODS[likelihood].linear_noise else 0.95
    assert np.mean(error**2) < share * np.mean(of_means**2) and (std[missing] > 0).all()


def test_training_with_gaps_beats_the_linear_start_on_curved_rows():
    """Held out, in nats of the measured values, and in error on the missing ones."""
    train, test = curved_spectra(300), curved_spectra(200, seed=1)
    settings = {"random_state": 0, "likelihood": "gaussian_isotropic"}
    start, vae = (VAETransformer(3, max_iter=n, **settings).fit(with_gaps(train)) for n in (0, 80))
    gaps = with_gaps(test, seed=1)
    assert vae.score(gaps) > start.score(gaps) + 10
    missing = np.isnan(gaps)
    errors = [np.sqrt(np.mean((model.impute(gaps) - test)[missing] ** 2)) for model in (start, vae)]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("n_refills", [0, 8])
def test_models_of_whole_rows_take_gaps_later(n_refills, monkeypatch):
    """Refilling brings the imputed values nearer than the linear model's filling alone, to the noise of 20."""
    monkeypatch.setattr("skvae._inference.predictor.N_REFINING_STEPS", n_refills)
    vae = VAETransformer(3, likelihood="gaussian_isotropic", random_state=0).fit(curved_spectra(300))
    test = curved_spectra(200, seed=1)
    gaps = with_gaps(test, seed=1)
    error = (vae.impute(gaps) - test)[np.isnan(gaps)]
    assert np.sqrt(np.mean(error**2)) < (25 if n_refills else 35)


def test_nothing_measured_is_the_prior():
    vae = VAETransformer(2, max_iter=0, random_state=0).fit(linear_rows())
    empty = np.full((1, 8), np.nan)
    np.testing.assert_allclose(vae.transform(empty), 0, atol=1e-5)
    np.testing.assert_allclose(vae.posterior_covariance(empty)[0], np.eye(2), atol=1e-4)
    np.testing.assert_allclose(vae.score_samples(empty), 0, atol=1e-4)
    np.testing.assert_allclose(vae.impute(empty)[0], vae.mean_, atol=1e-4)
    _, std = vae.reconstruct(empty, return_std=True)
    np.testing.assert_allclose(std[0] ** 2, vae.get_covariance().diagonal(), rtol=1e-3)


def test_rows_without_a_value_are_said_to_have_none(spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    rows = with_gaps(spectra[:9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.transform(rows)
    rows[[4, 7]] = np.nan
    for method in (vae.transform, vae.score_samples, vae.impute, vae.reconstruct, vae.loadings, vae.q_residuals):
        with pytest.warns(UserWarning, match="2 of .* rows of X no value was measured, such as row"):
            method(rows)


@pytest.mark.parametrize(
    "likelihood, init", [("poisson", "linear"), ("bernoulli", "linear"), ("gaussian_diag", "random")]
)
def test_without_a_linear_start_the_posterior_tends_to_the_prior(likelihood, init):
    """With fewer values measured it widens, up to the prior; densities are those of 20,000 draws from the prior, of
    which 1 % stands for a nat at most: within 0.1 for the empty row, 0.5 for rows of two values."""
    X = in_support(likelihood, curved_spectra(300, n_channels=16))
    settings = small(max_iter=40, n_importance_samples=256, init=init, likelihood=likelihood)
    vae = VAETransformer(2, **settings).fit(with_gaps(X, 0.2))
    rows = np.tile(X[:20], (3, 1, 1))
    rows[0, :, 2:], rows[1] = np.nan, np.nan
    few, empty, whole = (vae.posterior_covariance(part).diagonal(axis1=1, axis2=2) for part in rows)
    np.testing.assert_allclose(empty, 1, rtol=1e-4)
    assert whole.mean() < few.mean() < 1
    module = vae.net_.module_
    z = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = module.decoder(z)
        for part, error in ((rows[0], 0.5), (rows[1], 0.1)):
            u = module.standardise(torch.from_numpy(part)).float()
            density = torch.stack([module.likelihood.log_density(raw, torch.where(one.isnan(), 1.0, one)) for one in u])
            density = torch.where(u.isnan()[:, None], 0.0, density - module.scale.log().float()).sum(-1)
            truth = (density.logsumexp(1) - np.log(len(z))).numpy()
            assert np.abs(vae.score_samples(part) - truth).mean() < error


def test_a_row_without_values_is_no_row():
    X = with_gaps(curved_spectra(120))
    empty = np.insert(X, [0, 7, 7, 100], np.nan, axis=0)
    ours, theirs = (VAETransformer(2, **small()).fit(rows) for rows in (X, empty))
    np.testing.assert_array_equal(ours.transform(X), theirs.transform(X))
    for name in ("explained_variance_", "kl_per_component_", "components_"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.hotelling_t2_limit() == theirs.hotelling_t2_limit()
    weighted = VAETransformer(2, **small()).fit(empty, sample_weight=np.full(len(empty), 2.0))
    assert np.isfinite(weighted.score(X))
    with pytest.raises(ValueError, match="X has 0 rows with a value"):
        ours.partial_fit(np.full((3, X.shape[1]), np.nan))
    np.testing.assert_array_equal(ours.transform(X), theirs.transform(X))


@pytest.mark.parametrize("likelihood", ["gaussian_diag", "gaussian_isotropic", "gaussian_unit"])
def test_a_column_may_be_measured_in_held_out_rows_alone(likelihood):
    X = linear_rows(200)
    X[:, 4] = np.where(np.arange(200) // 3 == 5, X[:, 4], np.nan)
    held_out = 0
    for seed in range(12):
        vae = VAETransformer(2, likelihood=likelihood, **small(max_iter=2, random_state=seed, refit=False)).fit(X)
        held_out += vae.net_.module_.fill_loadings[4].abs().max().item() == 0
        assert np.isfinite(vae.impute(X)).all() and np.isfinite(vae.score(X))
    assert 0 < held_out < 12


def test_the_start_of_many_features_finds_a_missing_block(monkeypatch):
    """The pairwise start sees every third of these features; the others follow. A block lacks in half of the rows."""
    X = linear_rows(200, p=60, d=3)
    X[::2, 40:] = np.nan
    settings = {"max_iter": 0, "random_state": 0}
    whole = VAETransformer(3, **settings).fit(X).score(X)
    monkeypatch.setattr(skvae._linear.value_precisions, "MOST_FEATURES", 20)
    assert VAETransformer(3, **settings).fit(X).score(X) == pytest.approx(whole, abs=0.05)


def test_imputation_far_from_the_data_is_finite():
    X = linear_rows().astype(np.float32)
    vae = VAETransformer(2, **small()).fit(X)
    far = X[:3].copy()
    far[0, 0], far[:, 1] = 1e20, np.nan
    assert np.isfinite(vae.impute(far)).all()


@pytest.mark.parametrize("n_draws", [0, -1, 1.5, None])
def test_numbers_of_draws_are_checked(n_draws, spectra):
    vae = VAETransformer(2, **small(max_iter=0)).fit(spectra)
    for call in (vae.impute, vae.reconstruct):
        with pytest.raises((ValueError, TypeError), match="n_draws"):
            call(spectra, n_draws=n_draws)
    with pytest.raises((ValueError, TypeError), match="n_draws"):
        vae.get_covariance(n_draws=n_draws)
    with pytest.raises((ValueError, TypeError), match="n_samples"):
        vae.sample(n_draws)


def test_a_fitted_model_can_do_without_a_column():
    X = linear_rows(50)
    vae = VAETransformer(2, **small()).fit(X)
    X[:, 3] = np.nan
    assert np.isfinite(vae.transform(X)).all() and np.isfinite(vae.impute(X)).all()


def test_columns_may_be_empty_in_the_first_block_of_rows(monkeypatch):
    X = with_gaps(linear_rows(60))
    X[:20, 2] = np.nan
    whole = VAETransformer(2, max_iter=0, random_state=0).fit(X).mean_
    monkeypatch.setattr("skvae._data.rows.rows_per_block", lambda *_: 10)
    np.testing.assert_allclose(VAETransformer(2, max_iter=0, random_state=0).fit(X).mean_, whole, rtol=1e-12)
    np.testing.assert_allclose(whole, np.nanmean(X, axis=0), rtol=1e-12)


def test_gaps_in_pipelines_frames_searches_float32_and_partial_fit(tmp_path):
    X = with_gaps(curved_spectra(120, n_channels=10)).astype(np.float32)
    frame = pd.DataFrame(X, columns=[f"{i} nm" for i in range(10)])
    y = np.nanmax(X, axis=1)
    search = GridSearchCV(VAETransformer(**small()), {"n_components": [1, 2], "posterior": ["diag", "full"]}, cv=2)
    assert np.isfinite(search.fit(frame).cv_results_["mean_test_score"]).all()
    pipeline = make_pipeline(VAETransformer(3, **small(max_iter=30)), LinearRegression()).fit(frame, y)
    assert pipeline.score(frame, y) > 0.5
    vae = VAETransformer(2, **small()).partial_fit(curved_spectra(120, n_channels=10).astype(np.float32))
    for _ in range(3):
        vae.partial_fit(X)
    assert vae.transform(X).dtype == np.float32 and np.isfinite(vae.score(X))


def test_streamed_gaps_start_as_resident_ones_do(tmp_path):
    import sklearn

    X = with_gaps(curved_spectra(300)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    file = np.load(tmp_path / "X.npy", mmap_mode="r")
    resident = VAETransformer(2, max_iter=0, random_state=0).fit(X)
    with sklearn.config_context(working_memory=0):
        streamed = VAETransformer(2, max_iter=0, random_state=0).fit(file)
        trained = VAETransformer(2, **small()).fit(file)
    assert streamed.score(X) == pytest.approx(resident.score(X), abs=1e-2)
    assert trained.score(X) > -1000 and np.isfinite(trained.impute(X)).all()


def test_one_row_with_nearly_all_the_weight_leaves_a_covariance():
    X = np.random.RandomState(0).standard_normal((6, 5))
    X[5, 1] = np.nan
    weight = 10.0 ** np.random.RandomState(0).uniform(-100, 100, 6)
    vae = VAETransformer(1, likelihood="gaussian_isotropic", **small(max_iter=1)).fit(X, sample_weight=weight)
    assert np.isfinite(vae.score_samples(X)).all()
