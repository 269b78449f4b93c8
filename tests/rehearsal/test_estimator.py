"""The estimator on the device: each public method, files, pickles, checkpoints, searches and streams."""

import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn import config_context
from skorch.callbacks import Callback

from skvae import VAESearchCV, VAETransformer, load
from skvae._data.rows import Rows, rows_per_block
from skvae._linear.scatter import LARGE, Scatter
from skvae._linear.start import linear_start
from skvae._training.batches import BatchLoader, StreamedRows
from skvae._training.stacked_models import StackedModels
from skvae.posteriors import DiagPosterior

from ..conftest import curved_spectra, in_support
from .device import Watch
from .nets import GPU, X, assert_same_weights, estimator

GAPS = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
CALLS = {
    "fit": lambda vae, X: vae.fit(X).history_[-1]["train_loss"],
    "fit_transform": lambda vae, X: vae.fit_transform(X),
    "partial_fit": lambda vae, X: vae.partial_fit(X).history_[-1]["train_loss"],
    "transform": lambda vae, X: vae.transform(X),
    "inverse_transform": lambda vae, X: vae.inverse_transform(np.linspace(-1, 1, 30).reshape(10, 3)),
    "posterior_covariance": lambda vae, X: vae.posterior_covariance(X),
    "score_samples": lambda vae, X: vae.score_samples(X),
    "score": lambda vae, X: vae.score(X),
    "sample": lambda vae, X: vae.sample(20, random_state=0),
    "loadings": lambda vae, X: vae.loadings(X),
    "reconstruct": lambda vae, X: vae.reconstruct(X, return_std=True, n_draws=8),
    "impute": lambda vae, X: vae.impute(X, return_std=True, n_draws=8),
    "get_covariance": lambda vae, X: vae.get_covariance(n_draws=100),
    "hotelling_t2": lambda vae, X: vae.hotelling_t2(X),
    "t2_contributions": lambda vae, X: vae.t2_contributions(X),
    "q_contributions": lambda vae, X: vae.q_contributions(X),
    "hotelling_t2_limit": lambda vae, X: vae.hotelling_t2_limit(),
    "q_residuals": lambda vae, X: vae.q_residuals(X),
    "q_residuals_limit": lambda vae, X: vae.q_residuals_limit(),
}
WITHOUT_NUMBERS = {"summary", "save"}  # of which the second has tests of its own


def test_every_public_method_is_called():
    public = {name for name, value in vars(VAETransformer).items() if callable(value) and not name.startswith("_")}
    assert public - WITHOUT_NUMBERS == set(CALLS)


@pytest.mark.parametrize(
    "params, rows",
    [({"posterior": "full"}, GAPS), ({"posterior": "rho"}, X.astype(np.float32)), ({"likelihood": "poisson"}, X)],
    ids=["full, gaps", "rho, float32", "poisson"],
)
def test_every_public_method_gives_the_numbers_of_the_cpu(rows, params):
    rows = np.where(np.isnan(rows), np.nan, in_support(params.get("likelihood", "gaussian"), np.nan_to_num(rows)))
    cpu, gpu = (estimator(device, **params).fit(rows) for device in ("cpu", GPU))
    assert str(gpu.net_.own_device) == gpu.device_ == GPU
    for name, call in CALLS.items():
        ours, theirs = call(gpu, rows), call(cpu, rows)
        for a, b in zip(np.atleast_1d(ours), np.atleast_1d(theirs), strict=True):
            scale = np.nanmax(np.abs(b))
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3 * scale, err_msg=name)
    assert gpu.summary().splitlines()[:2] == cpu.summary().splitlines()[:2]


def test_a_pickle_goes_on_alike():
    vae = estimator(GPU).fit(X)
    twin = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(twin.transform(X), vae.transform(X))
    vae.partial_fit(X), twin.partial_fit(X)
    assert_same_weights(vae.net_, twin.net_, rtol=0, atol=0)


@pytest.mark.parametrize("from_, to", [(GPU, "cpu"), ("cpu", GPU), (GPU, GPU)])
def test_a_file_loads_on_either_device(tmp_path, from_, to):
    vae = estimator(from_, likelihood="gaussian").fit(X)
    vae.save(tmp_path / "vae")
    twin = load(tmp_path / "vae", device=to)
    assert twin.device_ == str(twin.net_.own_device) == to
    np.testing.assert_allclose(twin.transform(X), vae.transform(X), rtol=1e-4, atol=1e-4)
    assert_same_weights(twin.partial_fit(X).net_, vae.partial_fit(X).net_) if from_ == to else twin.partial_fit(X)


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def __repr__(self):
        return "StopAt()"

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise ZeroDivisionError


def test_a_checkpoint_goes_on_to_the_weights_of_a_straight_run(tmp_path):
    path = tmp_path / "checkpoint"
    straight = estimator(GPU, max_iter=4).fit(X)
    with pytest.raises(ZeroDivisionError):
        estimator(GPU, max_iter=4, callbacks=[StopAt(4)], checkpoint=path).fit(X)
    resumed = estimator(GPU, max_iter=4, callbacks=[StopAt(99)], checkpoint=path).fit(X)
    assert_same_weights(resumed.net_, straight.net_)
    assert_same_weights(straight.net_, estimator("cpu", max_iter=4).fit(X).net_)


def test_a_warm_start_goes_on_as_on_the_cpu():
    cpu, gpu = (estimator(device, warm_start=True).fit(X).fit(X) for device in ("cpu", GPU))
    assert_same_weights(cpu.net_, gpu.net_, rtol=1e-3, atol=1e-4)


def test_a_stacked_search_gives_the_scores_of_the_cpu():
    """Two jobs score, in threads, as only this process has the device."""
    grid = [{"beta": [4.0]}, {"learning_rate_init": [1e-3]}]
    with joblib.parallel_config("threading"):
        cpu, gpu = (
            VAESearchCV(estimator(device, early_stopping=True, kl_warmup=1), grid, cv=2, n_jobs=2, refit=False).fit(X)
            for device in ("cpu", GPU)
        )
    assert gpu.n_trained_together_ == 4
    ours, theirs = (search.cv_results_["mean_test_score"] for search in (gpu, cpu))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 1.5, len(X))], ids=["alike", "weighted"])
def test_a_stacked_step_sends_nothing_to_the_device(monkeypatch, weight):
    """Folds of 22 and 23 rows, so that one of the models has a batch fewer. Batches are drawn in the step, too."""
    n_steps, run = [], BatchLoader.__iter__
    step = StackedModels.step

    def watched_step(self, *args):
        with Watch():
            n_steps.append(len(self.flat))
            return step(self, *args)

    def watched_draw(self):
        batches = run(self)
        while True:
            with Watch():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    monkeypatch.setattr(StackedModels, "step", watched_step)
    monkeypatch.setattr(BatchLoader, "__iter__", watched_draw)
    grid = {"learning_rate_init": [1e-3, 3e-3]}
    vae = estimator(GPU, batch_size=11, validation_fraction=None, kl_warmup=2)
    VAESearchCV(vae, grid, cv=2, refit=False).fit(X, sample_weight=weight)
    assert n_steps == 2 * [4, 4, 2]


@pytest.fixture
def mapped(tmp_path):
    rows = curved_spectra(4000, 16).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    return np.load(tmp_path / "rows.npy", mmap_mode="r"), rows


def test_rows_of_a_file_are_streamed_as_on_the_cpu(mapped):
    with config_context(working_memory=0):
        cpu, gpu = (estimator(device, max_iter=1, batch_size=256).fit(mapped[0]) for device in ("cpu", GPU))
    assert_same_weights(cpu.net_, gpu.net_)


def test_rows_larger_than_the_device_are_streamed(mapped, monkeypatch):
    rows = Rows(mapped[1])
    assert not rows.is_streamed_to("cpu") and not rows.is_streamed_to(GPU)
    resident = estimator(GPU, max_iter=1, batch_size=256).fit(mapped[1])
    monkeypatch.setattr(torch.gpu, "total_memory", 4 * mapped[1].size)
    assert rows.is_streamed_to(GPU) and not rows.is_streamed_to("cpu")
    streamed = estimator(GPU, max_iter=1, batch_size=256).fit(mapped[1])
    assert streamed.score(mapped[1]) == pytest.approx(resident.score(mapped[1]), abs=2)


def test_chunks_hold_each_row_once(monkeypatch):
    monkeypatch.setattr("skvae._training.batches.PIECE", 16 * 10)
    monkeypatch.setattr("skvae._training.batches.CHUNK", 3)
    rows = np.arange(1000 * 16, dtype=np.float64).reshape(1000, 16)
    shift, scale = torch.zeros(2, 16, dtype=torch.float64)
    for where in ("cpu", GPU):
        streamed = StreamedRows(Rows(rows), shift.to(where), (scale + 1).to(where), where)
        chunks = [(u.cpu().clone(), places) for u, places in streamed.chunks(5, torch.Generator(where).manual_seed(0))]
        u, places = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        assert len(chunks) == 34 and torch.equal(u, torch.from_numpy(rows).float()[places])
        assert torch.equal(places.sort().values, torch.arange(1000))


def test_blocks_have_the_size_of_the_device(monkeypatch):
    vae = estimator(GPU).fit(X)
    whole = vae.score_samples(X)
    assert rows_per_block(10) == 100_000
    monkeypatch.setattr(torch.gpu, "total_memory", 2**40)
    assert rows_per_block(10, GPU) == 2**40 // 256 // 8 // 10
    np.testing.assert_allclose(vae.score_samples(X), whole, rtol=1e-6)


def test_a_large_covariance_stays_on_the_device():
    u = torch.randn(LARGE // 20_000, 20_000, generator=torch.Generator().manual_seed(0))
    cpu, gpu = Scatter.of(u), Scatter.of(u.to(GPU))
    assert str(gpu.device) == GPU and str(Scatter.of(u[:100].to(GPU)).device) == "cpu"
    torch.testing.assert_close(gpu.top(3)[0].cpu(), cpu.top(3)[0])
    scale = torch.ones(20_000, dtype=torch.float64)
    starts = (linear_start(rows, 3, DiagPosterior, "isotropic", scale, 1e-6) for rows in (u, u.to(GPU)))
    for ours, theirs in zip(*(vars(start).values() for start in starts), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_net_s_pickle_has_no_step():
    """It belongs to the process, and holds what cannot be pickled."""
    net = estimator(GPU).partial_fit(X).net_
    pickle.dump(net, io.BytesIO())
    assert "training_step_" not in net.__getstate__() and net.training_step_.captured is not None
