"""partial_fit: whatever the first rows were, and a call that fails changes nothing."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback

from skvae import VAETransformer, load
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._io.state import map_leaves
from skvae._linear.moments import Moments

from ..conftest import curved_spectra, small


class Failing(Callback):
    """Raises an error at one of its hooks, once it is switched on."""

    def __init__(self, hook, error):
        self.error, self.is_on = error, False
        setattr(self, hook, self.fail)

    def fail(self, net, *args, **kwargs):
        if self.is_on:
            raise self.error


class FailsInItsSecondBatch(Callback):
    """So that the first has changed weights and moments, and the second has left gradients."""

    def __init__(self, error):
        self.error, self.is_on, self.n_batches = error, False, 0

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.n_batches += self.is_on
        if self.n_batches == 2:
            raise self.error


def everything(vae):
    """All that an estimator is, as text: weights, moments, generators, attributes."""
    state = {name: value for name, value in vae.__getstate__().items() if name not in ("callbacks", "_fitted_with")}
    return repr(map_leaves(np.ndarray, lambda array: (array.dtype, array.tolist()), state))


@pytest.mark.parametrize("optimizer", [None, torch.optim.SGD])
@pytest.mark.parametrize("error", [MemoryError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_call_that_fails_half_way_changes_nothing(spectra, method, error, optimizer):
    params = None if optimizer is None else {"optimizer": optimizer, "optimizer__momentum": 0.9, "lr": 1e-4}
    callback = FailsInItsSecondBatch(error)
    vae = getattr(VAETransformer(2, **small(callbacks=[callback], net_params=params)), method)(spectra)
    twin = getattr(VAETransformer(2, **small(net_params=params)), method)(spectra)
    before, callback.is_on = everything(vae), True
    with pytest.raises(error):
        vae.partial_fit(spectra[:200])
    assert everything(vae) == before
    assert_array_equal(
        vae.partial_fit(spectra[:200]).transform(spectra), twin.partial_fit(spectra[:200]).transform(spectra)
    )


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_a_callback_may_fail_at_any_hook(spectra, hook):
    callback = Failing(hook, MemoryError)
    vae = VAETransformer(2, **small(callbacks=[callback])).partial_fit(spectra)
    before, callback.is_on = everything(vae), True
    with pytest.raises(MemoryError):
        vae.partial_fit(spectra)
    assert everything(vae) == before


@pytest.mark.parametrize("factor", [1e30, np.inf])
def test_rows_that_are_refused_change_nothing(spectra, factor):
    vae = VAETransformer(2, **small()).partial_fit(spectra)
    before = everything(vae)
    with pytest.raises(ValueError, match=r"not finite|infinity"), np.errstate(over="ignore"):
        vae.partial_fit(factor * spectra)
    assert everything(vae) == before


def test_a_first_call_that_fails_leaves_an_estimator_that_was_not_fitted():
    callback = Failing("on_epoch_end", MemoryError)
    callback.is_on = True
    vae = VAETransformer(2, **small(callbacks=[callback]))
    before = dict(vars(vae))
    with pytest.raises(MemoryError):
        vae.partial_fit(curved_spectra(50))
    assert vars(vae) == before


def streamed(X, first, size=50, **params):
    """A model that is given the first rows of X, and the others in parts of one size."""
    vae = VAETransformer(3, random_state=0, device="cpu", **params).partial_fit(X[:first])
    for begin in range(first, len(X), size):
        vae.partial_fit(X[begin : begin + size])
    return vae


def linear(n_rows, seed):
    loadings = np.random.RandomState(0).standard_normal((3, 20))
    rng = np.random.RandomState(seed)
    return rng.standard_normal((n_rows, 3)) @ loadings + 0.1 * rng.standard_normal((n_rows, 20))


def with_poor_first_rows(X, kind):
    """The rows X so that the first ones are poor, and how many these are."""
    if kind == "sorted":
        by_size = np.argsort(X @ np.linalg.svd(X - X.mean(0), full_matrices=False)[2][0])
        return np.concatenate([X[by_size[:64]], X[np.sort(by_size[64:])]]), 64
    X = X.copy()
    if kind == "dead channel":
        X[:64, 5] = X[0, 5]
    return X, {"dead channel": 64, "few": 5, "fewer than components": 2}[kind]


def curved(n_rows, seed):
    return curved_spectra(n_rows, seed=seed)


@cache
def score_per_feature(make, kind):
    """Of 1,000 new rows, after 2,000 rows in parts of 50, in nats."""
    X, new = make(2000, 1), make(1000, 2)
    if kind == "start":
        return VAETransformer(3, max_iter=0).fit(X).score(new) / X.shape[1]
    X, n_first = (X, 500) if kind == "good" else with_poor_first_rows(X, kind)
    return streamed(X, n_first).score(new) / X.shape[1]


@pytest.mark.parametrize("make", [linear, curved])
@pytest.mark.parametrize("kind", ["few", "fewer than components", "sorted", "dead channel"])
def test_the_first_rows_decide_nothing(make, kind):
    """0.05 nats per feature of the same rows after a good first part, and of the linear start at all of them."""
    least = max(score_per_feature(make, "good"), score_per_feature(make, "start"))
    assert score_per_feature(make, kind) > least - 0.05


def test_scaling_alone_is_taken_anew_where_there_is_no_linear_start():
    """Counts, of which a column is zero in the first rows: to keep their scaling costs over 0.3 nats per feature."""
    rng = np.random.RandomState(0)
    X = rng.poisson(np.exp(rng.standard_normal((600, 2)) @ rng.standard_normal((2, 10)) / 2 + 2.0))
    X[:10, 3] = 0
    settings = small(likelihood="poisson", hidden_layer_sizes=(64,))
    anew, kept = (VAETransformer(2, **settings).partial_fit(X[:10]) for _ in range(2))
    kept._moments = None
    for part in np.array_split(X[10:], 12):
        anew.partial_fit(part), kept.partial_fit(part)
    assert anew.score(X) > kept.score(X) + 0.3 * 10


def moments_of(X, weight=None, is_uneven=False, vae=None, with_products=True):
    module = None if vae is None else vae.net_.module_
    return Moments.of(FitData(Rows(X), weight, is_uneven), module or START.net_.module_, with_products)


START = VAETransformer(3, max_iter=0, random_state=0, likelihood="gaussian_isotropic").fit(linear(100, 1))


@pytest.mark.parametrize("with_products", [True, False])
def test_moments_of_parts_are_those_of_all_rows(with_products):
    X, weight = 1e3 + linear(90, 1), np.random.RandomState(0).uniform(1, 3, 90)
    parts = [moments_of(X[i : i + 30], weight[i : i + 30], with_products=with_products) for i in (0, 30, 60)]
    merged = parts[0] + parts[1] + parts[2]
    products = np.cov(X.T, aweights=weight, ddof=0) * weight.sum()
    assert merged.n_rows == pytest.approx(weight.sum())
    np.testing.assert_allclose(merged.mean, np.average(X, axis=0, weights=weight))
    np.testing.assert_allclose(merged.products, products if with_products else products.diagonal(), atol=1e-8)


def test_moments_of_rows_with_gaps_are_what_the_linear_model_expects():
    """Against the conditional normal distribution of each row's gaps, by dense algebra."""
    X = linear(40, 2)
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.3] = np.nan
    module = START.net_.module_
    scale, shift = (tensor.numpy() for tensor in (module.scale, module.shift))
    W, v = module.fill_loadings.double().numpy() * scale[:, None], module.fill_noise.double().numpy() * scale**2
    S, filled, spread = W @ W.T + np.diag(v), X.copy(), np.zeros((20, 20))
    for row in filled:
        gap = np.isnan(row)
        gain = np.linalg.solve(S[np.ix_(~gap, ~gap)], S[np.ix_(~gap, gap)]).T
        row[gap] = shift[gap] + gain @ (row[~gap] - shift[~gap])
        spread[np.ix_(gap, gap)] += S[np.ix_(gap, gap)] - gain @ S[np.ix_(~gap, gap)]
    moments = moments_of(X, is_uneven=True, vae=START)
    np.testing.assert_allclose(moments.mean, filled.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moments.products, 40 * np.cov(filled.T, ddof=0) + spread, rtol=1e-4, atol=1e-3)
    columns = moments_of(X, is_uneven=True, with_products=False)
    np.testing.assert_allclose(columns.variance, np.nanvar(X, axis=0))
    np.testing.assert_array_equal(columns.n, (~np.isnan(X)).sum(0))


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic", "gaussian_diag"])
def test_a_start_that_is_taken_anew_is_that_of_all_rows(likelihood):
    """Rates of 1e-12 change no weight; noise variances per channel to the tenth that rows' leverages make.

    The channels' noise differs, so that that of all rows is not drawn to isotropic noise, as moments cannot have it.
    """
    X = linear(400, 1) * np.geomspace(1, 10, 20)
    settings = {"likelihood": likelihood, "random_state": 0}
    vae = VAETransformer(3, learning_rate_init=1e-12, **settings)
    for part in np.split(X, [4, 30, 200]):
        vae.partial_fit(part)
    whole = VAETransformer(3, max_iter=0, **settings).fit(X)
    np.testing.assert_allclose(vae.mean_, whole.mean_, atol=1e-6)
    np.testing.assert_allclose(vae.components_, whole.components_, atol=1e-2)
    np.testing.assert_allclose(vae.noise_variance_, whole.noise_variance_, rtol=0.1)
    assert vae.score(X) == pytest.approx(whole.score(X), abs=0.05)


def test_gaps_in_a_stream():
    """Within 0.1 nats per feature of EM on all rows at once: the first parts' gaps were filled by poorer models."""
    X, new = linear(1000, 1), linear(1000, 2)
    X[np.random.RandomState(0).uniform(size=X.shape) < 0.2] = np.nan
    whole = VAETransformer(3, max_iter=0, random_state=0).fit(X)
    assert streamed(X, 40).score(new) / 20 > whole.score(new) / 20 - 0.1


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_moments_go_with_the_model_and_end_with_fit(likelihood, tmp_path):
    X = linear(300, 1)
    if likelihood == "poisson":
        X = np.square(X).round()
        X[::7, 3] = np.nan
    vae = VAETransformer(3, likelihood=likelihood, **small()).partial_fit(X[:10])
    vae.save(tmp_path / "vae.safetensors")
    twins = load(tmp_path / "vae.safetensors"), pickle.loads(pickle.dumps(vae))
    for part in np.split(X[10:], [20, 150]):
        for model in (vae, *twins):
            model.partial_fit(part)
    for twin in twins:
        assert_array_equal(twin.transform(X), vae.transform(X))
    assert vae._moments.n_rows == 300 and vae.n_iter_ == 4
    shift = vae.fit(X).net_.module_.shift.clone()
    assert vae._moments is None
    assert torch.equal(vae.partial_fit(3 * X).net_.module_.shift, shift)


def test_wide_rows_need_a_first_part_from_which_a_start_can_be_taken():
    X = np.random.RandomState(0).standard_normal((40, 2049))
    with pytest.raises(ValueError, match=r"needs 40 = 10 \(n_components \+ 2\)"):
        VAETransformer(2, **small()).partial_fit(X[:39])
    assert VAETransformer(2, **small()).partial_fit(X)._moments is None
