"""Errors per value: their likelihood, the start, training, and what every method makes of them."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.sparse import csr_array
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer
from skvae._data.rows import Rows, UnevenRows
from skvae._linear.value_precisions import em_with_precisions
from skvae.likelihoods import LIKELIHOODS

from .conftest import curved_spectra, in_support, small

TAKERS = [name for name, kind in LIKELIHOODS.items() if kind.takes_errors]
LINEAR = [name for name in TAKERS if name not in ("gaussian_heteroscedastic", "student_t")]  # with a normal marginal
METHODS = (
    "transform",
    "posterior_covariance",
    "score_samples",
    "reconstruct",
    "impute",
    "loadings",
    "hotelling_t2",
    "q_residuals",
)


def linear_rows(n=300, p=8, d=2, seed=0, noise=0.3):
    """Rows of a linear-Gaussian model with errors that vary by a factor of 30, the errors, and the rows without."""
    rng = np.random.RandomState(seed)
    truth = 5 + rng.standard_normal((n, d)) @ np.random.RandomState(1).standard_normal((d, p))
    truth = truth + noise * rng.standard_normal((n, p))
    std = 10 ** rng.uniform(-1.2, 0.3, (n, p))
    return truth + std * rng.standard_normal((n, p)), std, truth


def dense(vae, X, X_std, noise=None):
    """log p(x), E[z | x] and Cov[z | x] of a linear model by dense algebra, row by row."""
    W, centre = vae.components_, vae.inverse_transform(np.zeros((1, vae.n_components_)))[0]
    noise = vae.noise_variance_ * np.ones(len(centre)) if noise is None else noise
    densities, means, covariances = [], [], []
    for x, s in zip(X, np.broadcast_to(X_std, X.shape), strict=True):
        o = ~np.isnan(x) & np.isfinite(s)
        covariance = W[:, o].T @ W[:, o] + np.diag(noise[o] + s[o] ** 2)
        gain = np.linalg.solve(covariance, W[:, o].T).T
        densities.append(multivariate_normal(centre[o], covariance).logpdf(x[o]))
        means.append(gain @ (x[o] - centre[o]))
        covariances.append(np.eye(len(W)) - gain @ W[:, o].T)
    return np.array(densities), np.array(means), np.array(covariances)


@pytest.mark.parametrize("likelihood", LINEAR)
def test_the_linear_model_has_its_closed_forms(likelihood):
    """Density, posterior mean and posterior covariance of each row, with gaps among the errors."""
    X, std, _ = linear_rows()
    std[::3, 2], X[1::3, 5] = np.inf, np.nan
    vae = VAETransformer(2, likelihood=likelihood, max_iter=0, random_state=0).fit(X, X_std=std)
    new, new_std, _ = linear_rows(40, seed=3)
    new_std[::2, 4] = np.inf
    densities, means, covariances = dense(vae, new, new_std)
    # the default's draws come from a mode that is exact to 0.01 nats, which is 0.14 standard deviations of z
    atol, of_std = (5e-3, 0.15) if likelihood == "gaussian" else (1e-6, 1e-5)
    np.testing.assert_allclose(vae.score_samples(new, new_std), densities, rtol=1e-6, atol=atol)
    if likelihood != "gaussian":  # whose features have the isotropic noise
        np.testing.assert_allclose(vae.transform(new, new_std), means, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(vae.posterior_covariance(new, new_std), covariances, rtol=1e-5, atol=1e-6)
    mean, std = vae.reconstruct(new, return_std=True, with_noise=False, X_std=new_std)
    assert (np.abs(mean - vae.inverse_transform(means)) < of_std * std + 1e-6).all()
    variance = np.einsum("dp, nde, ep -> np", vae.components_, covariances, vae.components_)
    np.testing.assert_allclose(std**2, variance, rtol=1e-4)
    _, with_noise = vae.reconstruct(new, return_std=True, X_std=new_std)
    np.testing.assert_allclose(with_noise**2, variance + vae.noise_variance_, rtol=1e-4)


def test_the_features_of_the_default_are_those_of_isotropic_noise():
    X, std, _ = linear_rows()
    settings = {"max_iter": 0, "random_state": 0}
    ours, theirs = (VAETransformer(2, likelihood=name, **settings).fit(X, X_std=std) for name in TAKERS[:3:2])
    np.testing.assert_allclose(ours.transform(X, std), theirs.transform(X, std), rtol=1e-9)


@pytest.mark.parametrize("kind", ["feature", "isotropic", "known"])
def test_em_ends_where_the_gradient_vanishes(kind):
    X, std, _ = linear_rows(150, p=6)
    u, errors = torch.tensor(X - X.mean(0)), torch.tensor(std**2)
    ones = torch.ones(6, dtype=torch.float64)
    start = 0.1 * torch.ones(6, 2, dtype=torch.float64).tril(), ones
    shape = {"feature": None, "isotropic": ones, "known": 0 * ones}[kind]
    loadings, noise, mean, _ = em_with_precisions(
        torch.stack([u, errors], 1), None, start, shape, kind == "known", 1e-9, tol=1e-12, max_iter=5000
    )
    factor = noise if kind == "feature" else noise[:1]
    W, m, log_factor = (t.clone().requires_grad_() for t in (loadings, mean, factor.clamp(min=1e-300).log()))
    v = log_factor.exp() * ones
    covariance = W @ W.T + torch.diag_embed(v + errors)
    value = torch.distributions.MultivariateNormal(m, covariance).log_prob(u).mean()
    value.backward()
    # a noise at its floor of 0 has no gradient in its logarithm
    assert max(t.grad.abs().max().item() for t in (W, m, log_factor)) < 1e-4
    assert value > torch.distributions.MultivariateNormal(0 * m, torch.diag_embed(1 + errors)).log_prob(u).mean()


def extreme_deconvolution(X, std, n_iter=3000):
    """One Gaussian N(m, V) of rows with errors: EM of Bovy, Hogg and Roweis (2011, eq. 16), K = 1; nats per row."""
    m, V = X.mean(0), np.cov(X.T)
    for _ in range(n_iter):
        T = V + np.stack([np.diag(s**2) for s in std])
        gain = np.linalg.solve(T, np.broadcast_to(V, T.shape)).transpose(0, 2, 1)
        b = m + np.einsum("nij, nj -> ni", gain, X - m)
        B = V - gain @ V
        m = b.mean(0)
        V = np.einsum("ni, nj -> ij", b - m, b - m) / len(X) + B.mean(0)
    return np.mean([multivariate_normal(m, V + np.diag(s**2)).logpdf(x) for x, s in zip(X, std, strict=True)])


def test_the_start_without_noise_is_extreme_deconvolution():
    """With as many components as features the model is one Gaussian, whose likelihood an independent EM finds."""
    X, std, _ = linear_rows(120, p=4, noise=0.5)
    vae = VAETransformer(4, likelihood="gaussian_known", max_iter=0, random_state=0, refit=False).fit(X, X_std=std)
    assert vae.score(X, X_std=std) == pytest.approx(extreme_deconvolution(X, std), abs=5e-3)


def test_the_start_with_equal_errors_is_factor_analysis():
    """Whose noise is then what is left of the sum."""
    X = linear_rows(500, noise=0.6)[2]
    errors = np.full(8, 0.2)
    theirs = FactorAnalysis(2, tol=1e-8, max_iter=10_000).fit(X)
    ours = VAETransformer(2, likelihood="gaussian_diag", max_iter=0, random_state=0).fit(X, X_std=errors)
    assert ours.score(X, X_std=errors) == pytest.approx(theirs.score(X), abs=1e-2)
    np.testing.assert_allclose(ours.noise_variance_ + errors**2, theirs.noise_variance_, rtol=0.05)
    np.testing.assert_allclose(ours.get_covariance() + np.diag(errors**2), theirs.get_covariance(), atol=0.03)


def test_infinite_errors_are_missing_values():
    X = curved_spectra(120, n_channels=12)
    missing = np.random.RandomState(0).uniform(size=X.shape) < 0.2
    gaps, errors = np.where(missing, np.nan, X), np.where(missing, np.inf, 0.0)
    ours, theirs = VAETransformer(2, **small()).fit(X, X_std=errors), VAETransformer(2, **small()).fit(gaps)
    for method in METHODS:
        expected = getattr(theirs, method)(gaps)
        np.testing.assert_allclose(getattr(ours, method)(X, X_std=errors), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("likelihood", [name for name in TAKERS if LIKELIHOODS[name].has_noise])
def test_no_error_and_a_tiny_one_change_nothing(likelihood):
    X = curved_spectra(150, n_channels=20)
    plain, zero, tiny = (
        VAETransformer(2, likelihood=likelihood, **small()).fit(X, X_std=std)
        for std in (None, 0 * X, np.full(20, 1e-7))
    )
    for method in METHODS:
        expected = getattr(plain, method)(X)
        np.testing.assert_array_equal(getattr(zero, method)(X, X_std=np.zeros(20)), expected)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(plain, method)(X, X_std=np.full(20, 1e-7)), expected, atol=1e-6 * scale)
        uneven = np.zeros_like(X)
        uneven[::2] = 0.1
        ours = getattr(plain, method)(X, X_std=uneven)[1::2]
        np.testing.assert_allclose(ours, expected[1::2], rtol=1e-6, atol=1e-6 * scale)
    # the start by EM ends elsewhere than in the closed form, within its tolerance
    assert tiny.score(X, X_std=np.full(20, 1e-7)) == pytest.approx(plain.score(X), rel=0.01)


@pytest.mark.parametrize("likelihood", TAKERS)
@pytest.mark.parametrize("posterior", ["diag", "rho", "full"])
def test_every_gaussian_trains_with_errors(likelihood, posterior):
    """In units of the rows' own noise. The underlying rows are found with 0.55 of the error, squared, that X has."""
    truth, rng = curved_spectra(300, n_channels=16) / 20, np.random.RandomState(0)
    std = 10 ** rng.uniform(-0.5, 1.2, truth.shape)
    X = truth + std * rng.standard_normal(truth.shape)
    if likelihood == "gaussian_known":
        std = np.hypot(std, 1)
    vae = VAETransformer(3, likelihood=likelihood, posterior=posterior, **small(max_iter=40, refit=False))
    vae.fit(X, X_std=std)
    assert vae.history_[-1]["valid_score"] >= vae.history_[0]["valid_score"]
    for method in METHODS:
        assert np.isfinite(getattr(vae, method)(X, X_std=std)).all()
    assert np.square(vae.reconstruct(X, X_std=std) - truth).mean() < 0.55 * np.square(X - truth).mean()


@pytest.mark.parametrize("likelihood", [name for name in LIKELIHOODS if name not in TAKERS])
def test_other_likelihoods_refuse_errors_by_name(likelihood):
    X = in_support(likelihood, curved_spectra(60, n_channels=8))
    X = X if likelihood != "bernoulli" else X.round()
    vae = VAETransformer(2, likelihood=likelihood, **small(max_iter=1))
    with pytest.raises(ValueError, match=f"likelihood='{likelihood}' takes no X_std"):
        vae.fit(X, X_std=np.ones(8))
    vae.fit(X)
    with pytest.raises(ValueError, match=f"likelihood='{likelihood}' takes no X_std"):
        vae.transform(X, X_std=np.ones(8))


def test_known_noise_needs_errors(spectra):
    vae = VAETransformer(2, likelihood="gaussian_known", **small())
    for std in (None, np.zeros(60), np.eye(60)[0]):
        with pytest.raises(ValueError, match=r"likelihood='gaussian_known' .* needs X_std"):
            vae.fit(spectra, X_std=std)
    vae.fit(spectra, X_std=np.full(60, 20.0))
    with pytest.raises(ValueError, match="needs X_std"):
        vae.transform(spectra)
    with pytest.raises(ValueError, match="needs X_val_std"):
        vae.fit(spectra, X_std=np.full(60, 20.0), X_val=spectra)
    assert vae.noise_variance_ == 0


@pytest.mark.parametrize("posterior", ["diag", "full"])
def test_known_noise_without_a_linear_start(posterior):
    """The encoder then sees a value with an error as where all of a column is noise: 1 / (1 + s^2) of it."""
    X, std, _ = linear_rows()
    vae = VAETransformer(2, likelihood="gaussian_known", init="random", posterior=posterior, **small(max_iter=0))
    module = vae.fit(X, X_std=std).net_.module_
    u = module.standardise(UnevenRows(Rows(X, errors=Rows(std)))[:])
    np.testing.assert_allclose(module.linear_values(u), u[:, 0] / (1 + u[:, 1]), rtol=1e-6)
    trained = vae.set_params(max_iter=30).fit(X, X_std=std)
    assert trained.score(X, X_std=std) > norm(X.mean(0), std).logpdf(X).sum(1).mean() + 100  # without components


@pytest.mark.parametrize(
    "std, message",
    [
        (np.ones(7), r"X_std has shape \(7,\), but X has \(300, 60\)"),
        (np.ones((300, 1)), "X_std has shape"),
        (-np.eye(300, 60), "X_std has -1 in row 0, column 0"),
        (np.where(np.eye(300, 60), np.nan, 1), "X_std has nan in row 0"),
        (np.full((300, 60), "a"), "X_std is no table of numbers: could not convert"),
        (np.ones((1, 300, 60)), "X_std is no table of numbers"),
        (csr_array(np.ones((300, 60))), "X_std is no table of numbers"),
    ],
)
def test_bad_errors_are_refused(std, message, spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    for method in ("fit", "partial_fit", "score", *METHODS):
        with pytest.raises(ValueError, match=message):
            getattr(vae, method)(spectra, X_std=std)
    with pytest.raises(ValueError, match="X_val_std has the errors of X_val, which is None"):
        vae.fit(spectra, X_val_std=np.ones(60))


@pytest.mark.parametrize("labels", [[f"{i} nm" for i in range(8)], np.linspace(400.0, 470.0, 8)])
def test_labels_of_the_columns_are_those_of_x(labels):
    """Of errors and validation rows, whether they are names or wavelengths; an array beside a frame has none."""
    X, std, _ = linear_rows(60)
    frame, errors = (pd.DataFrame(array, columns=labels) for array in (X, std))
    vae = VAETransformer(2, max_iter=0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = vae.fit(X, X_std=std[0]).transform(X, std[0])
        for given, of_columns in ((frame, errors.loc[0]), (X, errors.loc[0]), (frame, std[0])):
            vae.fit(given, X_std=of_columns, X_val=frame, X_val_std=errors)
            np.testing.assert_array_equal(vae.transform(given, of_columns), expected)
    for wrong in (errors.iloc[:, ::-1], errors.loc[0, ::-1]):
        with pytest.raises(ValueError, match="X_std does not have the columns of X, in the same order: column 0"):
            vae.fit(frame, X_std=wrong)
    with pytest.raises(ValueError, match="X_val does not have the columns of X, in the same order: column 0"):
        vae.fit(frame, X_val=frame.iloc[:, ::-1])


@pytest.mark.parametrize("likelihood", [name for name in TAKERS if name != "gaussian_unit"])
@pytest.mark.parametrize("std", [1e15, 1e30, 1e300])
def test_errors_that_leave_nothing_of_x_say_nothing_of_its_components(likelihood, std):
    X, _, _ = linear_rows(60)
    vae = VAETransformer(2, likelihood=likelihood, **small(max_iter=2)).fit(X, X_std=np.full(8, std))
    np.testing.assert_allclose(vae.transform(X, np.full(8, std)), 0, atol=1e-6)


def test_an_error_too_small_for_the_others_is_named():
    X, std, _ = linear_rows(60)
    vae = VAETransformer(2, likelihood="gaussian_known", **small(max_iter=2)).fit(X, X_std=std)
    std[5, 3] = 1e-12
    for method in {"fit", *METHODS} - {"impute"}:  # of which no value is asked for
        with pytest.raises(ValueError, match=r"X_std.* raise the least of them"):
            getattr(vae, method)(X, X_std=std)
    with pytest.raises(ValueError, match="known errors so small"):
        vae.fit(X, X_std=np.full(8, 1e-20))


def test_a_row_measured_longer_scores_as_the_closed_form_says():
    X, std, _ = linear_rows(noise=0.1)
    vae = VAETransformer(2, likelihood="gaussian_diag", max_iter=0, random_state=0).fit(X, X_std=std)
    _, new_std, truth = linear_rows(2000, seed=4, noise=0.1)
    scores = []
    for factor in (1, 0.5):  # twice as long has half the variance
        rows = truth + factor**0.5 * new_std * np.random.RandomState(0).standard_normal(truth.shape)
        scores.append(vae.score(rows, X_std=factor**0.5 * new_std))
        assert scores[-1] == pytest.approx(dense(vae, rows, factor**0.5 * new_std)[0].mean(), abs=1e-5)
    assert scores[1] > scores[0] + 0.5


def test_tables_files_and_weights(tmp_path):
    """A frame, a mapped file that is streamed, blocks, float32 and weights, each with errors."""
    X, std, _ = linear_rows(200)
    settings = {"max_iter": 0, "random_state": 0}
    expected = VAETransformer(2, **settings).fit(X, X_std=std)
    names = [f"{i} nm" for i in range(8)]
    frame, std_frame = (pd.DataFrame(array, columns=names) for array in (X, std))
    framed = VAETransformer(2, **settings).fit(frame, X_std=std_frame)
    np.testing.assert_array_equal(framed.transform(frame, std_frame), expected.transform(X, std))
    with pytest.raises(ValueError, match="X_std does not have the columns of X"):
        framed.transform(frame, std_frame[names[::-1]])
    blocks = VAETransformer(2, **settings).fit([X[:150], X[150:]], X_std=[std[:150], std[150:]])
    np.testing.assert_array_equal(blocks.transform(X, std), expected.transform(X, std))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "std.npy", std)
    files = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "std.npy")]
    with sklearn.config_context(working_memory=0):
        streamed = VAETransformer(2, **settings).fit(files[0], X_std=files[1])
        trained = VAETransformer(2, **small()).fit(files[0], X_std=files[1])
    np.testing.assert_allclose(streamed.transform(X, std), expected.transform(X, std), atol=1e-4)
    assert trained.score(X, X_std=std) > expected.score(X, X_std=std) - 1
    weight = np.random.RandomState(0).randint(0, 3, 200)
    weighted = VAETransformer(2, **settings).fit(X, X_std=std, sample_weight=weight)
    repeated = VAETransformer(2, **settings).fit(np.repeat(X, weight, 0), X_std=np.repeat(std, weight, 0))
    np.testing.assert_allclose(weighted.components_, repeated.components_, rtol=1e-4, atol=1e-4)
    single = VAETransformer(2, **settings).fit(X.astype(np.float32), X_std=std)
    np.testing.assert_allclose(single.transform(X.astype(np.float32), std), expected.transform(X, std), atol=1e-3)


def test_errors_are_routed_through_pipelines_and_searches():
    X, std, _ = linear_rows(120)
    with sklearn.config_context(enable_metadata_routing=True):
        vae = VAETransformer(**small(max_iter=2)).set_fit_request(X_std=True)
        vae.set_score_request(X_std=True).set_transform_request(X_std=True)
        search = GridSearchCV(vae, {"n_components": [1, 2]}, cv=2).fit(X, X_std=std)
        expected = VAETransformer(**search.best_params_, **small(max_iter=2)).fit(X, X_std=std)
        np.testing.assert_array_equal(search.best_estimator_.components_, expected.components_)
        pipeline = make_pipeline(StandardScaler(), vae).fit(X, X_std=std / X.std(0))  # which scales with X
        Z = pipeline.transform(X, X_std=std / X.std(0))
        np.testing.assert_array_equal(Z, vae.transform(pipeline[:-1].transform(X), X_std=std / X.std(0)))
        np.testing.assert_array_equal(vae.fit_transform(X, X_std=std), vae.transform(X, X_std=std))


def test_errors_of_validation_rows():
    """The score of the start on them is that of the fitted start."""
    X, std, _ = linear_rows(200)
    settings = small(likelihood="gaussian_diag", max_iter=1)
    vae = VAETransformer(2, **settings).fit(X[:150], X_std=std[:150], X_val=X[150:], X_val_std=std[150:])
    start = VAETransformer(2, **{**settings, "max_iter": 0}).fit(X[:150], X_std=std[:150])
    assert vae.history_[0]["valid_score"] == pytest.approx(start.score(X[150:], X_std=std[150:]), abs=0.05)
    without = VAETransformer(2, **settings).fit(X[:150], X_std=std[:150], X_val=X[150:])
    assert vae.history_[0]["valid_score"] > without.history_[0]["valid_score"] + 1


def test_passes_of_partial_fit_come_to_the_start_of_all_rows():
    """In nats of rows without errors, and of rows with them."""
    X, std, truth = linear_rows(2000)
    whole = VAETransformer(2, likelihood="gaussian_diag", max_iter=0, random_state=0).fit(X, X_std=std)
    parts = VAETransformer(2, likelihood="gaussian_diag", learning_rate_init=1e-6, random_state=0)
    for block in np.split(np.arange(2000), 20):
        parts.partial_fit(X[block], X_std=std[block])
    assert parts.score(truth) == pytest.approx(whole.score(truth), abs=0.2)
    assert parts.score(X, X_std=std) == pytest.approx(whole.score(X, X_std=std), abs=0.1)


def test_intervals_and_limits_are_right_where_errors_are_uneven():
    """Of the true rows at 50, 90 and 99 %, and of T2 and Q at 95 %: within 5 standard errors and that of the fit."""
    X, std, _ = linear_rows(3000, p=20, d=3)
    vae = VAETransformer(3, likelihood="gaussian_diag", max_iter=0, random_state=0).fit(X, X_std=std)
    new, new_std, truth = linear_rows(3000, p=20, d=3, seed=5)
    mean, spread = vae.reconstruct(new, return_std=True, X_std=new_std)
    for level in (0.5, 0.9, 0.99):
        # the noise of a row is in part what the measurement saw, so that the truth is covered a little more
        covered = (np.abs(truth - mean) < norm.ppf(0.5 + level / 2) * spread).mean()
        assert level - 0.02 < covered < level + 0.1
    gaps = new.copy()
    gaps[::5] = np.nan
    gaps[::5, :6] = new[::5, :6]
    for rows, errors in ((new, new_std), (gaps, new_std), (truth, None)):
        alarms = [
            np.mean(vae.hotelling_t2(rows, errors) > vae.hotelling_t2_limit(0.95)),
            np.mean(vae.q_residuals(rows, errors) > vae.q_residuals_limit(0.95)),
        ]
        assert max(abs(share - 0.05) for share in alarms) < 0.03


def test_contributions_sum_to_t2_and_q():
    X, std, _ = linear_rows(200)
    X[::3, 2] = np.nan
    vae = VAETransformer(2, **small()).fit(X, X_std=std)
    np.testing.assert_allclose(vae.t2_contributions(X, std).sum(axis=1), vae.hotelling_t2(X, std), rtol=1e-9)
    np.testing.assert_allclose(np.abs(vae.q_contributions(X, std)).sum(axis=1), vae.q_residuals(X, std), rtol=1e-6)


def test_scaling_is_of_the_rows_without_errors():
    truth = linear_rows(4000, noise=0.2)[2]
    std = np.where(np.arange(4000) % 2, 0.01, 300.0)[:, None] * np.ones(8)
    X = truth + std * np.random.RandomState(0).standard_normal(truth.shape)
    vae = VAETransformer(2, likelihood="gaussian_diag", max_iter=0, random_state=0).fit(X, X_std=std)
    np.testing.assert_allclose(vae.mean_, truth.mean(0), atol=0.1)
    np.testing.assert_allclose(vae.net_.module_.scale, truth.std(0), rtol=0.1)
    np.testing.assert_allclose(vae.noise_variance_, 0.04, rtol=0.2)
    assert vae.explained_variance_ratio_.sum() == pytest.approx(1 - 8 * 0.04 / truth.var(0).sum(), abs=0.02)


def test_rows_with_errors_are_tensors_of_values_and_errors():
    X, std = np.array([[1.0, np.nan], [3.0, 4.0]]), np.array([[0.0, 1.0], [np.inf, 2.0]])
    rows = UnevenRows(Rows(X, errors=Rows(std)))
    expected = [[[1.0, 0.0], [0.0, np.inf]], [[0.0, 4.0], [np.inf, 2.0]]]
    np.testing.assert_array_equal(rows[:].numpy(), expected)
    np.testing.assert_array_equal(rows.select(np.array([1]))[:].numpy(), expected[1:])
    whole = Rows(X, errors=Rows(std)).with_columns(np.array([False, True])).with_all_columns()
    np.testing.assert_array_equal(UnevenRows(whole)[:].numpy(), expected)
