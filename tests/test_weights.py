"""Rows that count more than others: the start exactly, training as a factor, scores as a mean."""

import numpy as np
import pytest
import sklearn
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skvae._training.batches
from skvae import VAETransformer
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._training.batches import BatchLoader, StreamedRows
from skvae._training.fit import new_net, start_linear, to_device
from skvae._training.step import Step
from skvae.likelihoods import LIKELIHOODS
from skvae.objectives import OBJECTIVES

from .conftest import PLAIN_LIKELIHOODS, curved_spectra, small

LINEAR = [name for name in PLAIN_LIKELIHOODS if LIKELIHOODS[name].linear_noise]


def counted(X, seed=0):
    """How often each row counts, and the rows that often."""
    counts = np.random.RandomState(seed).randint(1, 4, len(X))
    return counts.astype(float), np.repeat(X, counts, axis=0)


@pytest.mark.parametrize("likelihood", LINEAR)
@pytest.mark.parametrize("n_rows", [30, 110])  # fewer rows than columns, and more
@pytest.mark.parametrize("gaps", [False, True])
def test_the_start_with_weights_is_that_of_rows_repeated(likelihood, n_rows, gaps):
    X = curved_spectra(n_rows, n_channels=40)
    if gaps:
        X[np.random.RandomState(0).uniform(size=X.shape) < 0.2] = np.nan
    weight, repeated = counted(X)
    settings = {"n_components": 2, "likelihood": likelihood, "max_iter": 0, "random_state": 0}
    ours, theirs = VAETransformer(**settings).fit(X, sample_weight=weight), VAETransformer(**settings).fit(repeated)
    unlike = VAETransformer(**settings).fit(X)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), atol=1e-4)
    assert np.abs(ours.transform(X) - unlike.transform(X)).max() > 1e-3
    for name in ("mean_", "components_", "kl_per_component_", "explained_variance_ratio_", "explained_variance_"):
        expected = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    for limit in ("hotelling_t2_limit", "q_residuals_limit"):
        assert getattr(ours, limit)() == pytest.approx(getattr(theirs, limit)(), rel=1e-3)
    assert ours.score(X, sample_weight=weight) == pytest.approx(theirs.score(repeated), rel=1e-5)


def test_weight_zero_is_no_row_and_weight_one_changes_nothing(spectra):
    keep = np.random.RandomState(0).uniform(size=len(spectra)) < 0.7
    plain = VAETransformer(2, **small()).fit(spectra[keep])
    weighted = VAETransformer(2, **small()).fit(spectra, sample_weight=keep.astype(int))
    np.testing.assert_array_equal(plain.transform(spectra), weighted.transform(spectra))
    whole = VAETransformer(2, **small()).fit(spectra).transform(spectra)
    np.testing.assert_array_equal(
        VAETransformer(2, **small()).fit(spectra, sample_weight=np.ones(300)).transform(spectra), whole
    )
    tenfold = VAETransformer(2, **small()).fit(spectra, sample_weight=np.full(300, 10.0))  # another n - 1 at the start
    np.testing.assert_allclose(tenfold.transform(spectra), whole, atol=0.02)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "info"])  # whose rows go together
def test_the_gradient_of_a_weighted_batch_is_that_of_rows_repeated(objective):
    X = curved_spectra(40)
    weight, repeated = counted(X)
    vae = VAETransformer(2, objective=objective, n_draws=3, **small())
    net = new_net(vae, FitData(Rows(X)), 0)
    start_linear(net, vae, to_device(net, Rows(X)))
    eps = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(0))
    step = Step(net.module_, net.criterion_, net.optimizer_)
    gradients = []
    for rows, noise, weights in (
        (X, eps, torch.from_numpy(weight / weight.mean()).float()),
        (repeated, eps.repeat_interleave(torch.from_numpy(weight).long(), dim=1), None),
    ):
        step.gradients(to_device(net, Rows(rows)), noise, *(() if weights is None else (weights,)))
        gradients.append([p.grad.clone() for p in net.module_.parameters() if p.grad is not None])
        net.module_.zero_grad()
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item() + 1e-7)


def test_training_follows_the_weights():
    """Two kinds of rows that one component cannot serve: each is reconstructed better if it weighs more."""
    rng = np.random.RandomState(0)
    kinds = np.arange(400) % 2
    X = rng.standard_normal((400, 20)) * 0.1
    X[:, :10] += (kinds == 0)[:, None] * np.sin(3 * rng.standard_normal((400, 1)) + np.arange(10))
    X[:, 10:] += (kinds == 1)[:, None] * np.sin(3 * rng.standard_normal((400, 1)) + np.arange(10))
    settings = small(likelihood="gaussian_isotropic", max_iter=30, hidden_layer_sizes=(128, 128), weight_decay=0.1)
    settings["validation_fraction"] = None
    scores = []
    for heavy in (0, 1):
        vae = VAETransformer(1, **settings).fit(X, sample_weight=np.where(kinds == heavy, 20.0, 1.0))
        scores.append([vae.score(X[kinds == kind]) for kind in (0, 1)])
        assert vae.history_[-1]["train_loss"] < vae.history_[1]["train_loss"]
    assert scores[0][0] > scores[1][0] + 1 and scores[1][1] > scores[0][1] + 1


@pytest.mark.parametrize("stream", [False, True])
def test_batches_carry_each_row_s_weight(stream, monkeypatch):
    monkeypatch.setattr(skvae._training.batches, "PIECE", 40)  # numbers, so that chunks are many
    X = np.arange(2 * 103, dtype=np.float32).reshape(103, 2)
    u = StreamedRows(Rows(X), torch.zeros(2), torch.ones(2), "cpu") if stream else torch.from_numpy(X)
    weight = torch.from_numpy(X[:, 0] + 0.5)
    batches = BatchLoader(u, 16, 1, 3, torch.Generator().manual_seed(0), weight)
    rows, weights = (torch.cat(parts) for parts in zip(*((u, w) for u, _, w in batches), strict=True))
    assert torch.equal(weights, rows[:, 0] + 0.5) and len(rows) == 103


def test_streamed_weights_start_as_resident_ones_do(tmp_path):
    X = curved_spectra(300).astype(np.float32)
    weight, _ = counted(X)
    np.save(tmp_path / "X.npy", X)
    file = np.load(tmp_path / "X.npy", mmap_mode="r")
    resident = VAETransformer(2, max_iter=0, random_state=0).fit(X, sample_weight=weight)
    with sklearn.config_context(working_memory=0):
        streamed = VAETransformer(2, max_iter=0, random_state=0).fit(file, sample_weight=weight)
        trained = VAETransformer(2, **small()).fit(file, sample_weight=weight)
    assert streamed.score(X) == pytest.approx(resident.score(X), abs=1e-2)
    assert np.isfinite(trained.score(X))


def test_score_is_the_weighted_mean(spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    weight = np.random.RandomState(0).uniform(size=300)
    expected = np.average(vae.score_samples(spectra), weights=weight)
    assert vae.score(spectra, sample_weight=weight) == pytest.approx(expected, rel=1e-12)


def test_partial_fit_takes_weights(spectra):
    light, heavy = (VAETransformer(2, **small()) for _ in range(2))
    weight = np.where(np.arange(300) < 150, 1.0, 30.0)
    for _ in range(3):
        light.partial_fit(spectra)
        heavy.partial_fit(spectra, sample_weight=weight)
    assert not np.allclose(light.mean_, heavy.mean_)
    np.testing.assert_allclose(heavy.mean_, np.average(spectra, axis=0, weights=weight), rtol=1e-9)


def test_weights_are_routed_through_pipelines_and_searches(spectra):
    weight = np.random.RandomState(0).uniform(0.5, 2, 300)
    with sklearn.config_context(enable_metadata_routing=True):
        vae = VAETransformer(**small()).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(vae, {"n_components": [1, 2]}, cv=2).fit(spectra, sample_weight=weight)
        expected = VAETransformer(**search.best_params_, **small()).fit(spectra, sample_weight=weight)
        np.testing.assert_array_equal(search.best_estimator_.components_, expected.components_)
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, vae).fit(spectra, sample_weight=weight)
        scaled = scaler.fit(spectra, sample_weight=weight).transform(spectra)
        expected = VAETransformer(**small()).fit(scaled, sample_weight=weight)
        np.testing.assert_array_equal(pipeline[-1].components_, expected.components_)


@pytest.mark.parametrize(
    "weight", [np.ones(7), -np.ones(300), np.zeros(300), np.full(300, np.nan), np.full(300, 1e300)]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
def test_bad_weights_are_refused_and_nothing_is_lost(weight, method, spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    before = vae.transform(spectra)
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        getattr(vae, method)(spectra, sample_weight=weight)
    np.testing.assert_array_equal(vae.transform(spectra), before)


@pytest.mark.parametrize("likelihood", LINEAR)
def test_a_factor_of_small_weights_means_nothing(likelihood, spectra):
    settings = {"n_components": 2, "likelihood": likelihood, "max_iter": 0, "random_state": 0}
    weight = np.random.RandomState(0).uniform(size=300)
    ours, theirs = (VAETransformer(**settings).fit(spectra, sample_weight=c * weight) for c in (1, 1 / 300))
    for name in ("explained_variance_", "components_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-4)
    assert ours.score(spectra) == pytest.approx(theirs.score(spectra), rel=1e-4)
    assert ours.hotelling_t2_limit() == pytest.approx(theirs.hotelling_t2_limit())
    assert ours.q_residuals_limit() == pytest.approx(theirs.q_residuals_limit(), rel=1e-4)


def test_a_weight_of_zero_does_not_load_a_streamed_file(tmp_path, spectra):
    np.save(tmp_path / "X.npy", spectra)
    X, weight = np.load(tmp_path / "X.npy", mmap_mode="r"), np.repeat([1.0, 0.0, 2.0], 100)
    with sklearn.config_context(working_memory=0.01):
        streamed = VAETransformer(2, **small(max_iter=0)).fit(X, sample_weight=weight)
        rows = streamed._training_rows(X, weight, reset=False).rows
        assert rows.is_streamed_to("cpu") and len(rows) == 200
        trained = VAETransformer(2, **small()).fit(X, sample_weight=weight)
    resident = VAETransformer(2, **small(max_iter=0)).fit(spectra, sample_weight=weight)
    np.testing.assert_allclose(streamed.transform(spectra), resident.transform(spectra), atol=1e-4)
    np.testing.assert_allclose(streamed.components_, resident.components_, rtol=1e-4, atol=1e-2)
    assert trained.score(spectra) >= streamed.score(spectra) - 1


def test_weights_must_leave_two_rows(spectra):
    with pytest.raises(ValueError, match="1 rows with a value that is not NaN and a positive sample_weight; two"):
        VAETransformer(2).fit(spectra, sample_weight=np.eye(300)[0])
