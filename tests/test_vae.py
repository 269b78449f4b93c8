"""In use, as scikit-learn's people use PCA; and what happens with bad or odd input."""

import copy
import math

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer, load
from skvae.likelihoods import Likelihood
from skvae.posteriors import POSTERIORS

from .conftest import curved_spectra, small


def test_pipeline_feature_union_and_columns(spectra, tmp_path):
    z = make_pipeline(StandardScaler(), VAETransformer(2, **small())).fit_transform(spectra)
    assert z.shape == (300, 2)
    pipe = Pipeline([("scale", StandardScaler()), ("vae", VAETransformer(2, **small()))], memory=str(tmp_path))
    assert np.array_equal(pipe.fit_transform(spectra), z) and np.array_equal(pipe.fit_transform(spectra), z)
    union = FeatureUnion([("pca", PCA(3)), ("vae", VAETransformer(2, **small()))])
    assert union.fit_transform(spectra).shape == (300, 5)
    assert list(union.get_feature_names_out()[-2:]) == ["vae__vaetransformer0", "vae__vaetransformer1"]
    frame = pd.DataFrame(spectra, columns=[f"{i} nm" for i in range(spectra.shape[1])])
    columns = ColumnTransformer([("low", VAETransformer(2, **small()), frame.columns[:30])], remainder="drop")
    out = columns.set_output(transform="pandas").fit_transform(frame)
    assert list(out.columns) == ["low__vaetransformer0", "low__vaetransformer1"]


def test_grid_search_over_posteriors_and_over_models(spectra):
    search = GridSearchCV(VAETransformer(**small()), {"posterior": list(POSTERIORS), "n_components": [1, 2]}, cv=2)
    search.fit(spectra)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all() and len(search.cv_results_["params"]) == 8
    models = [PCA(2), FactorAnalysis(2), VAETransformer(2, random_state=0, max_iter=60)]
    contest = GridSearchCV(Pipeline([("model", PCA())]), {"model": models}, cv=2).fit(spectra)
    assert isinstance(contest.best_estimator_["model"], VAETransformer)  # the data are curved
    means = contest.cv_results_["mean_test_score"]
    assert means[2] > means[:2].max()


def test_halving_search_and_cross_validation(spectra):
    halving = HalvingGridSearchCV(VAETransformer(**small()), {"n_components": [1, 2, 3]}, cv=2, min_resources=60)
    assert halving.fit(spectra).best_params_["n_components"] in (1, 2, 3)
    X, y = load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), VAETransformer(4, **small()), LogisticRegression())
    assert cross_val_score(model, X, y, cv=3).mean() > 0.85


class ReportsThreads(VAETransformer):
    def score(self, X, y=None):
        return float(torch.get_num_threads())


def test_parallel_grid_search_neither_oversubscribes_nor_differs(spectra):
    grid = {"n_components": [1, 2]}
    alone = GridSearchCV(VAETransformer(**small()), grid, cv=2, n_jobs=1).fit(spectra)
    workers = GridSearchCV(VAETransformer(**small()), grid, cv=2, n_jobs=2).fit(spectra)
    assert np.array_equal(alone.cv_results_["mean_test_score"], workers.cv_results_["mean_test_score"])
    threads = GridSearchCV(ReportsThreads(**small(max_iter=1)), grid, cv=2, n_jobs=2, refit=False).fit(spectra)
    per_worker = threads.cv_results_["mean_test_score"]
    assert (per_worker <= max(1, joblib.cpu_count() // 2)).all()


def test_clone_joblib_and_dtypes(spectra, tmp_path):
    vae = VAETransformer(2, posterior="full", **small())
    assert clone(vae).get_params() == vae.get_params()
    joblib.dump(vae.fit(spectra), tmp_path / "vae.joblib")
    assert np.array_equal(
        joblib.load(tmp_path / "vae.joblib", mmap_mode="r").transform(spectra), vae.transform(spectra)
    )
    single = VAETransformer(2, **small()).fit(spectra.astype(np.float32))
    for array in (
        single.transform(spectra.astype(np.float32)),
        single.inverse_transform(np.zeros((1, 2), np.float32)),
        single.sample(2),
        single.score_samples(spectra.astype(np.float32)),
        single.components_,
        single.mean_,
    ):
        assert array.dtype == np.float32
    assert single.transform(spectra).dtype == np.float64
    np.testing.assert_allclose(single.transform(spectra.astype(np.float32)), single.transform(spectra), atol=1e-3)


def test_shapes_and_covariances(spectra):
    for posterior in POSTERIORS:
        vae = VAETransformer(3, posterior=posterior, **small()).fit(spectra)
        covariance = vae.posterior_covariance(spectra[:7])
        assert covariance.shape == (7, 3, 3)
        assert (np.linalg.eigvalsh(covariance) > 0).all()
        assert vae.transform(spectra[:7]).shape == (7, 3)
        assert vae.inverse_transform(vae.transform(spectra[:7])).shape == (7, 60)
        assert vae.components_.shape == (3, 60) and vae.noise_variance_.shape == (60,)


def test_score_is_a_lower_bound_that_more_draws_tighten(spectra):
    """Nested subsets of the draws would only tighten in expectation: averaged over 50 noises here."""
    vae = VAETransformer(2, likelihood="gaussian_diag", **small(max_iter=30)).fit(spectra)
    means = []
    for n_draws in (1, 4, 64):
        vae.n_importance_samples = n_draws
        scores = []
        for seed in range(50):
            vae._seed = seed
            scores.append(vae.score(spectra))
        means.append(np.mean(scores))
    assert means[0] < means[1] < means[2]


def test_score_is_the_likelihood_where_that_is_known():
    """A linear model at its optimum is Gaussian with covariance W^T W + Psi, in X's units."""
    X = curved_spectra(200, n_channels=20)
    vae = VAETransformer(2, max_iter=0).fit(X)
    covariance = vae.components_.T @ vae.components_ + np.diag(vae.noise_variance_)
    expected = multivariate_normal(vae.mean_, covariance).logpdf(X)
    np.testing.assert_allclose(vae.score_samples(X), expected, atol=0.05)
    draws = vae.sample(20_000, random_state=0)
    np.testing.assert_allclose(draws.mean(0), vae.mean_, atol=6 * np.sqrt(covariance.diagonal().max() / 20_000))
    assert np.abs(np.cov(draws.T) - covariance).max() < 0.05 * covariance.max()


def test_score_is_at_beta_one_and_sample_follows_its_seed(spectra):
    tight, loose = (VAETransformer(2, max_iter=0, beta=beta, random_state=0).fit(spectra) for beta in (1.0, 8.0))
    assert tight.score(spectra) == loose.score(spectra)
    assert np.array_equal(tight.sample(3, random_state=4), tight.sample(3, random_state=4))
    assert not np.array_equal(tight.sample(3, random_state=4), tight.sample(3, random_state=5))


def test_a_larger_beta_lowers_the_kl(spectra):
    kl = [VAETransformer(2, **small(max_iter=30, beta=beta)).fit(spectra).history_[-1]["train_kl"] for beta in (1, 30)]
    assert kl[1] < kl[0]


class LaplaceLikelihood(Likelihood):
    """Heavy tails, one scale: a likelihood of one's own, with no linear optimum."""

    standardises = True

    def log_density(self, raw, u):
        return -((u - raw).abs() / 0.3 + math.log(0.6))

    def mean(self, raw):
        return raw

    def variance(self, raw):
        return torch.full_like(raw, 2 * 0.3**2)

    def sample(self, raw, generator):
        uniform = torch.empty_like(raw).uniform_(-1, 1, generator=generator)
        return raw - 0.3 * uniform.sign() * torch.log1p(-uniform.abs())


def test_a_likelihood_of_ones_own(spectra):
    vae = VAETransformer(2, likelihood=LaplaceLikelihood, **small(max_iter=20)).fit(spectra)
    assert vae.history_[vae.best_iter_]["valid_score"] > vae.history_[0]["valid_score"] + 1
    assert vae.noise_variance_ is None
    assert np.isfinite(vae.score(spectra)) and np.isfinite(vae.sample(5, random_state=0)).all()


X_BAD = np.full((10, 3), np.nan)
BAD = [
    ({}, X_BAD, "NaN"),
    ({}, np.full((10, 3), np.inf), "infinity"),
    ({}, np.empty((0, 3)), "0 sample"),
    ({}, np.ones((1, 3)), "minimum of 2"),
    ({}, np.ones((10, 0)), "0 feature"),
    ({}, np.array([["a", "b"]] * 5), "string|float"),
    ({}, csr_array(np.eye(5)), "[Ss]parse"),
    ({}, np.full((10, 3), 1e300) * np.arange(10)[:, None], "too large"),
    ({"likelihood": "bernoulli"}, np.linspace(-1, 1, 30).reshape(10, 3), r"\[0, 1\]"),
    ({"likelihood": "poisson"}, np.linspace(-1, 1, 30).reshape(10, 3), r"\[0, 1e\+10\]"),
    ({"likelihood": "gauss"}, None, "gaussian_isotropic"),
    ({"kl_warmup": -1}, None, "kl_warmup"),
    ({"free_bits": -0.5}, None, "free_bits"),
    ({"objective": 3}, None, "objective"),
    ({"encoder": 3}, None, "encoder"),
    ({"posterior": "dag"}, None, "rho_diag"),
    ({"posterior": lambda raw, d: None}, None, "skvae.posteriors"),
    ({"likelihood": print}, None, "skvae.likelihoods"),
    ({"likelihood": LaplaceLikelihood(torch.zeros(3), torch.ones(3))}, None, "skvae.likelihoods"),
    ({"activation": "slu"}, None, "silu"),
    ({"init": "pca"}, None, "linear"),
    ({"n_components": 0}, None, "n_components"),
    ({"n_components": 1.5}, None, "n_components"),
    ({"beta": -1.0}, None, "beta"),
    ({"n_draws": 0}, None, "n_draws"),
    ({"hidden_layer_sizes": (8, 0)}, None, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": (8, 2.5)}, None, "hidden_layer_sizes"),
    ({"learning_rate_init": 0}, None, "learning_rate_init"),
    ({"batch_size": 0}, None, "batch_size"),
    ({"max_iter": -1}, None, "max_iter"),
    ({"validation_fraction": 1.0}, None, "validation_fraction"),
    ({"validation_fraction": 0.999}, None, "validation_fraction"),
    ({"device": "abacus"}, None, "device"),
    ({"device": "meta"}, None, "device"),
    ({"hidden_layer_sizes": 0}, None, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": 2.5}, None, "hidden_layer_sizes"),
    ({"callbacks": "all"}, None, "callbacks"),
]


@pytest.mark.parametrize("params, X, message", BAD)
def test_bad_input_is_named_and_a_fitted_estimator_is_left_as_it_was(params, X, message):
    good = np.random.RandomState(0).rand(30, 4)
    vae = VAETransformer(2, **small(max_iter=1)).fit(good)
    before = {key: value for key, value in vars(vae).items() if key.endswith("_")}
    copies = copy.deepcopy({key: value for key, value in before.items() if key != "net_"})
    z = vae.transform(good)
    settings = vae.get_params()
    vae.set_params(**params)
    with pytest.raises((ValueError, TypeError), match=message):
        vae.fit(good if X is None else X)
    vae.set_params(**settings)
    assert all(vars(vae)[key] is value for key, value in before.items())
    assert all(np.array_equal(before[key], value) for key, value in copies.items())
    assert np.array_equal(vae.transform(good), z)


def test_bad_input_after_fitting(spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    with pytest.raises(ValueError, match="60 features"):
        vae.transform(spectra[:, :10])
    with pytest.raises(ValueError, match="n_components=2"):
        vae.inverse_transform(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="infinity"):
        vae.score(np.full_like(spectra, np.inf))


ODD = {
    "constant column": lambda X: np.column_stack([X, np.full(len(X), 7.0)]),
    "all constant": lambda X: np.full_like(X, 3.0),
    "all zero": np.zeros_like,
    "duplicated columns": lambda X: np.column_stack([X, X]),
    "one feature": lambda X: X[:, :1],
    "two rows": lambda X: X[:2],
    "more features than rows": lambda X: X[:6],
    "duplicated rows": lambda X: np.repeat(X[:3], 10, axis=0),
    "1e30": lambda X: 1e30 * X,
    "1e-30": lambda X: 1e-30 * X,
    "far from zero": lambda X: X + 1e9,
    "integers": lambda X: X.astype(int),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda X: X[::-1, ::-1],
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic"])
def test_odd_data_give_finite_numbers(name, dtype, likelihood):
    X = ODD[name](curved_spectra(40, n_channels=8))
    X = X if X.dtype.kind == "i" else X.astype(dtype)
    vae = VAETransformer(10, likelihood=likelihood, **small(max_iter=2)).fit(X)
    for array in (
        vae.transform(X),
        vae.score_samples(X),
        vae.sample(5, random_state=0),
        vae.inverse_transform(vae.transform(X)),
    ):
        assert np.isfinite(array).all()


def test_parameters_that_inference_reads_are_checked_there(spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    for wrong in (0, 2.5, "many"):
        with pytest.raises(ValueError, match="n_importance_samples"):
            vae.set_params(n_importance_samples=wrong).score(spectra)
    assert np.isfinite(vae.set_params(n_importance_samples=1).score(spectra))


def test_the_html_representation_links_to_no_place_on_this_machine(spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    html = vae._repr_html_()
    assert "VAETransformer" in html and "file:" not in html


def test_one_hidden_layer_may_be_given_by_its_size(spectra, tmp_path):
    one, other = (VAETransformer(2, **small(hidden_layer_sizes=sizes)).fit(spectra) for sizes in (16, (16,)))
    np.testing.assert_array_equal(one.transform(spectra), other.transform(spectra))
    one.save(tmp_path / "vae")
    for twin in (copy.deepcopy(one), load(tmp_path / "vae", device="cpu")):
        assert twin.hidden_layer_sizes == 16
        np.testing.assert_array_equal(twin.transform(spectra), one.transform(spectra))


def test_a_device_without_double_precision_is_refused_at_once(spectra, monkeypatch):
    """As Apple's "mps" is; this machine need not have one."""

    def zeros(*args, **kwargs):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(ValueError, match="device='mps' is not available here, or cannot compute in float64"):
        VAETransformer(2, **small(device="mps")).fit(spectra)
