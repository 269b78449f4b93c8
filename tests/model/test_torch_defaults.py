"""What others set in torch changes nothing of what an estimator computes, and an estimator changes nothing of it."""

import contextlib
import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import skvae
from skvae import VAESearchCV, VAETransformer
from tests.conftest import curved_spectra, in_support, small


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


AMBIENT = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic_algorithms,
}


def network(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))


MODELS = {
    "default": {},
    "warm_up": {"kl_warmup": 2, "likelihood": "gaussian_diag", "posterior": "rho"},
    "own_network": {"encoder": network, "decoder": network, "init": "random", "objective": "info"},
    "poisson": {"likelihood": "poisson", "posterior": "full", "encoder": "conv1d", "free_bits": 0.1, "n_draws": 2},
}
X = curved_spectra(60, 20)


def results(estimator, rows):
    """What a fitted estimator says of rows with and without gaps, in both dtypes."""
    for dtype in (np.float32, np.float64):
        complete = rows[:9].astype(dtype)
        gaps = complete.copy()
        gaps[::2, 3] = np.nan
        for method in (
            "transform",
            "score_samples",
            "posterior_covariance",
            "loadings",
            "q_residuals",
            "hotelling_t2",
            "t2_contributions",
            "q_contributions",
        ):
            yield from (getattr(estimator, method)(given) for given in (complete, gaps))
        yield estimator.inverse_transform(estimator.transform(complete))
        yield from estimator.reconstruct(complete, return_std=True, n_draws=4)
        yield from estimator.impute(gaps, return_std=True, n_draws=4)
    yield estimator.sample(3, random_state=0)
    yield estimator.get_covariance(16)


def work(params, folder):
    """All that an estimator does, from its fit on, as a list of arrays."""
    rows = in_support(params.get("likelihood", "gaussian"), X)
    fitted = VAETransformer(3, **small(max_iter=2, **params)).fit(rows)
    estimators = [fitted, pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)]
    fitted.save(folder / "file")
    custom = {name: value for name, value in params.items() if callable(value)}
    estimators.append(skvae.load(folder / "file", device="cpu", **custom))
    for estimator in estimators[2:]:
        estimator.partial_fit(rows[:30])
    estimators.append(VAETransformer(3, **small(max_iter=2, **params)).partial_fit(rows[:40].astype(np.float32)))
    with_gaps = np.where(np.random.RandomState(0).rand(*rows.shape) < 0.1, np.nan, rows)
    estimators.append(VAETransformer(2, **small(max_iter=2, **params)).fit(with_gaps, sample_weight=np.arange(1, 61)))
    return [array for estimator in estimators for array in results(estimator, rows)]


@pytest.fixture(scope="module", params=MODELS)
def undisturbed(request, tmp_path_factory):
    params = MODELS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return params, work(params, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ambient", AMBIENT)
def test_same_bits(undisturbed, ambient, tmp_path):
    params, expected = undisturbed
    with AMBIENT[ambient]():
        given = work(params, tmp_path)
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("ambient", AMBIENT)
def test_a_model_that_was_made_under_a_setting_works_without_it(ambient):
    with AMBIENT[ambient]():
        made = VAETransformer(3, **small()).fit(X)
        made.loadings(X[:3])
    assert np.isfinite(made.loadings(X[:3])).all()
    made.partial_fit(X)
    assert np.isfinite(made.score(X))


@pytest.mark.parametrize("ambient", AMBIENT)
def test_search(ambient):
    def scores():
        search = VAESearchCV(VAETransformer(2, **small()), {"beta": [1.0, 4.0]}, cv=2).fit(X)
        assert search.n_trained_together_ == 4
        return search.cv_results_["mean_test_score"]

    expected = scores()
    with AMBIENT[ambient]():
        np.testing.assert_array_equal(scores(), expected)
