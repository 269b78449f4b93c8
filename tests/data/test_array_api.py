"""Tensors in, tensors out, under scikit-learn's `array_api_dispatch`, with the numbers of ndarrays.

scikit-learn's own checks of the tag run with its other checks, in test_estimator_checks.
"""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.overrides import TorchFunctionMode

from skvae import VAETransformer, load

from ..conftest import curved_spectra, small

pytest.importorskip("sklearn", minversion="1.9")  # StandardScaler and the checks of the tag learned it late

ATTRIBUTES = (
    *("components_", "mean_", "noise_variance_", "kl_per_component_"),
    *("explained_variance_", "explained_variance_ratio_"),
)
METHODS = {
    "transform": lambda vae, X: vae.transform(X),
    "inverse_transform": lambda vae, X: vae.inverse_transform(vae.transform(X)),
    "posterior_covariance": lambda vae, X: vae.posterior_covariance(X),
    "score_samples": lambda vae, X: vae.score_samples(X),
    "loadings": lambda vae, X: vae.loadings(X),
    "reconstruct": lambda vae, X: vae.reconstruct(X, return_std=True)[1],
    "impute": lambda vae, X: vae.impute(X, return_std=True)[0],
    "hotelling_t2": lambda vae, X: vae.hotelling_t2(X),
    "q_residuals": lambda vae, X: vae.q_residuals(X),
    "t2_contributions": lambda vae, X: vae.t2_contributions(X),
    "q_contributions": lambda vae, X: vae.q_contributions(X),
    "sample": lambda vae, X: vae.sample(3, random_state=0),
    "get_covariance": lambda vae, X: vae.get_covariance(),
}


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


@pytest.fixture(params=["float32", "float64"])
def X(request):
    return curved_spectra(120, 12).astype(request.param)


@pytest.fixture
def pair(X):
    """An estimator fitted to an array and one fitted to the same numbers in a tensor."""
    return VAETransformer(2, **small()).fit(X), VAETransformer(2, **small()).fit(torch.from_numpy(X))


@pytest.mark.parametrize("name", METHODS)
def test_methods_return_tensors_with_the_numbers_of_arrays(pair, X, name):
    ours, theirs = (METHODS[name](vae, x) for vae, x in zip(pair, (X, torch.from_numpy(X)), strict=True))
    assert isinstance(ours, np.ndarray) and isinstance(theirs, torch.Tensor)
    assert_array_equal(ours, theirs.numpy())
    assert str(theirs.dtype) == f"torch.{ours.dtype}"


def test_attributes_are_tensors_with_the_numbers_of_arrays(pair, X):
    for name in ATTRIBUTES:
        ours, theirs = (getattr(vae, name) for vae in pair)
        assert isinstance(theirs, torch.Tensor), name
        assert_array_equal(ours, theirs.numpy(), err_msg=name)
    assert pair[0].score(X) == pair[1].score(torch.from_numpy(X))
    assert pair[0].q_residuals_limit(X=X) == pair[1].q_residuals_limit(X=torch.from_numpy(X))


@pytest.mark.parametrize("model", [PCA(2), VAETransformer(2, **small())])
def test_a_pipeline_over_tensors_as_over_arrays(model, X):
    pipeline = make_pipeline(StandardScaler(), model)
    expected = pipeline.fit_transform(X)
    Z = pipeline.fit_transform(torch.from_numpy(X))
    assert isinstance(Z, torch.Tensor)
    np.testing.assert_allclose(np.abs(Z.numpy()), np.abs(expected), rtol=0.02, atol=0.02 * np.abs(expected).max())
    assert isinstance(pipeline.inverse_transform(Z), torch.Tensor)
    assert isinstance(pipeline.score(torch.from_numpy(X)), float)


def test_a_grid_search_over_tensors(X):
    grid = {"n_components": [1, 2], "posterior": ["diag", "rho"]}
    ours, theirs = (GridSearchCV(VAETransformer(**small(max_iter=2)), grid, cv=2) for _ in range(2))
    ours.fit(X)
    theirs.fit(torch.from_numpy(X))
    assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    assert isinstance(theirs.best_estimator_.components_, torch.Tensor)


def test_gaps_weights_and_a_class_of_rows_that_count_for_nothing(X):
    X[::7, 3], X[5] = np.nan, np.nan
    weight = np.where(np.arange(120) % 5 == 0, 0.0, 1.5)
    ours = VAETransformer(2, **small()).fit(X, sample_weight=weight)
    theirs = VAETransformer(2, **small()).fit(torch.from_numpy(X), sample_weight=torch.from_numpy(weight))
    kept = np.delete(X, 5, axis=0)
    for name in ("transform", "impute", "q_residuals"):
        assert_array_equal(METHODS[name](ours, kept), METHODS[name](theirs, torch.from_numpy(kept)).numpy())
    assert ours.score(kept, sample_weight=np.delete(weight, 5)) == theirs.score(
        torch.from_numpy(kept), sample_weight=torch.from_numpy(np.delete(weight, 5))
    )


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson"])
def test_values_outside_of_the_support_are_refused_on_the_tensor_s_device(X, likelihood):
    with pytest.raises(ValueError, match=f"likelihood='{likelihood}' takes X in .* ranges from -5 to"):
        VAETransformer(likelihood=likelihood, **small()).fit(torch.from_numpy(np.where(X.max() == X, -5, 0 * X)))


def test_partial_fit_and_checkpoints_take_tensors(X, tmp_path):
    ours, theirs = VAETransformer(2, **small()), VAETransformer(2, **small())
    for part in np.split(X, 2):
        ours.partial_fit(part)
        theirs.partial_fit(torch.from_numpy(part))
    assert_array_equal(ours.transform(X), theirs.transform(torch.from_numpy(X)).numpy())
    kept = VAETransformer(2, checkpoint=tmp_path / "c.safetensors", **small()).fit(torch.from_numpy(X))
    assert isinstance(kept.transform(torch.from_numpy(X)), torch.Tensor)


def test_what_was_fitted_to_tensors_stays_so_in_files_and_copies(X, tmp_path):
    x = torch.from_numpy(X)
    vae = VAETransformer(2, **small()).fit(x)
    vae.save(tmp_path / "vae.safetensors")
    for copy in (pickle.loads(pickle.dumps(vae)), load(tmp_path / "vae.safetensors")):
        assert all(isinstance(getattr(copy, name), torch.Tensor) for name in ATTRIBUTES)
        assert torch.equal(copy.transform(x), vae.transform(x))
        assert torch.equal(
            copy.partial_fit(x).transform(x), pickle.loads(pickle.dumps(vae)).partial_fit(x).transform(x)
        )


def test_arrays_of_another_library_than_in_fit_are_refused_by_name(X):
    vae = VAETransformer(2, **small()).fit(torch.from_numpy(X))
    with pytest.raises(ValueError, match=r"VAETransformer.transform\(\) must use the same namespace"):
        vae.transform(X)
    with pytest.raises(ValueError, match=r"VAETransformer.inverse_transform\(\) must use the same namespace"):
        vae.inverse_transform(X[:, :2])


def test_without_dispatch_tensors_are_taken_for_arrays(X):
    with config_context(array_api_dispatch=False):
        vae = VAETransformer(2, **small()).fit(torch.from_numpy(X))
        assert isinstance(vae.components_, np.ndarray)
        assert isinstance(vae.transform(torch.from_numpy(X)), np.ndarray)


class OnHost(TorchFunctionMode):
    """The greatest number of elements that one call has taken out of tensors into an array or a list."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in {"cpu", "numpy", "tolist", "__array__"}:
            self.most = max(self.most, args[0].numel())
        return func(*args, **(kwargs or {}))


def test_no_copy_of_the_rows_on_the_host():
    """What describes components rests on 8,192 rows at most and is computed on the host; the rows are not."""
    X = torch.from_numpy(curved_spectra(40_000, 16).astype(np.float32))
    with OnHost() as on_host:
        pipeline = make_pipeline(StandardScaler(), VAETransformer(2, **small(max_iter=1))).fit(X)
        pipeline.inverse_transform(pipeline.transform(X))
        pipeline.score(X)
    assert 0 < on_host.most <= 8192 * 16 < len(X) * 16 / 4
