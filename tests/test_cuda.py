"""The engine on a GPU: captured steps are the eager ones, nothing waits, pickles train on, memory stays."""

import gc
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skvae import VAESearchCV, VAETransformer, load
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._training.captured_step import CUDAGraphStep
from skvae._training.fit import new_net, start_linear, to_device
from skvae._training.schedules import one_cycle
from skvae._training.step import Step
from skvae.posteriors import POSTERIORS

from .conftest import curved_spectra, in_support, small
from .training.changes import CHANGES, EachEpoch, Scaled, Waits, rescale

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("error:This training step cannot be captured"),
]


@pytest.fixture(autouse=True)
def deterministic():
    """Convolutions whose gradients are the same in each run, so that tolerances can be tight."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


def on_cuda(**params):
    return VAETransformer(3, **small(device="cuda", **params))


def net_at_start(X, capture=True, **params):
    """A net at its linear start, and its rows; without capture it takes each step as a CPU does."""
    params = on_cuda(**params)
    net = new_net(params, FitData(Rows(X)), seed=0)
    u = to_device(net, Rows(X))
    start_linear(net, params, u)
    if not capture:
        options = net.compile_step, net.precision, net.training_step_.kl_scale
        net.training_step_ = Step(net.module_, net.criterion_, net.optimizer_, *options)
    return net, u


def trained_both_ways(X, epochs=2, weights=(None, None), **params):
    """Nets that were trained alike, with captured steps and with eager ones."""
    nets = []
    for capture in (True, False):
        net, u = net_at_start(X, capture, **params)
        net.fit_loop((u, None), epochs=epochs, cycle=epochs, weights=weights)
        nets.append(net)
    return nets


def batch_norm(n_hidden, n_in, n_out):
    layers = torch.nn.Linear(n_in, n_hidden), torch.nn.BatchNorm1d(n_hidden), torch.nn.ELU()
    return torch.nn.Sequential(*layers, torch.nn.Linear(n_hidden, n_out))


def dropout(n_in, n_out):
    return torch.nn.Sequential(torch.nn.Linear(n_in, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, n_out))


def assert_same_weights(net, other):
    for (name, ours), theirs in zip(net.module_.named_parameters(), other.module_.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_cuda_agrees_with_the_cpu(spectra, posterior):
    """The same start to rounding, and a trained score within 2 nats; the pickle gives the same numbers."""
    on = {
        device: VAETransformer(2, posterior=posterior, device=device, max_iter=0).fit(spectra)
        for device in ("cpu", "cuda")
    }
    assert on["cuda"].device_ == "cuda"
    assert on["cuda"].score(spectra) == pytest.approx(on["cpu"].score(spectra), rel=1e-4)
    cpu, cuda = (
        VAETransformer(2, posterior=posterior, device=device, random_state=0).fit(spectra) for device in ("cpu", "cuda")
    )
    assert cuda.score(spectra) == pytest.approx(cpu.score(spectra), abs=2)
    twin = pickle.loads(pickle.dumps(cuda))
    np.testing.assert_array_equal(twin.transform(spectra), cuda.transform(spectra))


@pytest.mark.parametrize(
    "params",
    [
        *({"posterior": posterior} for posterior in POSTERIORS),
        {"n_draws": 3},
        {"objective": "iwae", "n_draws": 3},
        {"objective": "info"},
        {"kl_warmup": 1},
        {"free_bits": 0.5},
        {"encoder": "conv1d", "decoder": "conv1d"},
        {"encoder": "conv2d", "decoder": "conv2d", "input_shape": (1, 6, 10)},
        {"likelihood": "poisson"},
        {"precision": "tf32"},
        {"precision": "bf16"},
        {"compile": True},
        pytest.param({"encoder": partial(batch_norm, 16)}, id="BatchNorm"),
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_captured_steps_are_the_eager_ones(spectra, params, weighted):
    """Two epochs of 18 whole batches and a ragged one: the same weights and loss, to rounding."""
    X = in_support(params.get("likelihood", "gaussian"), spectra)
    weight = torch.linspace(0.5, 1.5, len(X), device="cuda") if weighted else None
    captured, eager = trained_both_ways(X, weights=(weight, None), **params)
    assert isinstance(captured.training_step_, CUDAGraphStep) and captured.training_step_.captured is not None
    assert_same_weights(captured, eager)
    assert captured.history[-1, "train_loss"] == pytest.approx(eager.history[-1, "train_loss"], abs=1e-3)


@pytest.mark.parametrize("params", [{"precision": "tf32"}, {"precision": "bf16"}, {"compile": True}], ids=str)
def test_precision_and_compilation_end_where_float32_does(spectra, params):
    """Within 2 nats on the rows of the fit."""
    plain = on_cuda(max_iter=30).fit(spectra).score(spectra)
    assert on_cuda(max_iter=30, **params).fit(spectra).score(spectra) == pytest.approx(plain, abs=2)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_an_epoch_does_not_wait_for_the_device(spectra, posterior):
    """From the shuffle to the last step, the learning-rate schedule included; then the losses are read."""
    net, u = net_at_start(spectra, posterior=posterior)
    net.fit_loop((u, None), epochs=1, cycle=3)

    def watched():
        torch.cuda.set_sync_debug_mode("error")
        yield from net.get_iterator(u, training=True)
        torch.cuda.set_sync_debug_mode("default")

    try:
        net.run_single_epoch(watched(), training=True, prefix="train", step_fn=net.train_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(net.history[-1, "train_loss"])


def test_a_captured_step_follows_the_learning_rate(spectra):
    net, u = net_at_start(spectra)
    net.fit_loop((u, None), epochs=1, cycle=2)
    for group in net.optimizer_.param_groups:
        assert float(group["lr"]) == pytest.approx(group["initial_lr"] * one_cycle(0.5))
    batch = next(iter(net.get_iterator(u, training=True)))
    net._set_training(True)
    before = [weight.clone() for weight in net.module_.parameters()]
    net._set_learning_rate(0.0)
    net.training_step_(*batch)
    assert all(torch.equal(*pair) for pair in zip(net.module_.parameters(), before, strict=True))
    net._set_learning_rate(1.0)
    net.training_step_(*batch)
    assert not any(torch.equal(*pair) for pair in zip(net.module_.parameters(), before, strict=True))


def test_a_pickle_trains_on_alike(spectra):
    vae = on_cuda().fit(spectra)
    twin = pickle.loads(pickle.dumps(vae))
    assert twin.net_.device == "cuda" and np.array_equal(vae.transform(spectra), twin.transform(spectra))
    vae.partial_fit(spectra), twin.partial_fit(spectra)
    assert_same_weights(vae.net_, twin.net_)


def test_a_pickle_trains_on_where_there_is_no_gpu(spectra, tmp_path):
    vae = on_cuda().fit(spectra)
    file = tmp_path / "vae.pickle"
    file.write_bytes(pickle.dumps((vae, spectra, vae.transform(spectra))))
    code = (
        "import pickle, sys, numpy as np\n"
        "vae, X, Z = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert vae.net_.device == 'cpu'\n"
        "np.testing.assert_allclose(vae.transform(X), Z, atol=1e-3)\n"
        "assert np.isfinite(vae.partial_fit(X).score(X))\n"
    )
    subprocess.run([sys.executable, "-c", code, file], env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, check=True)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_file_loads_on_any_device(spectra, tmp_path, device):
    vae = on_cuda().fit(spectra)
    vae.save(tmp_path / "vae")
    twin = load(tmp_path / "vae", device=device)
    assert twin.net_.device == twin.device_ == device
    np.testing.assert_allclose(twin.transform(spectra), vae.transform(spectra), atol=1e-3)
    assert_same_weights(vae.net_, twin.net_)
    vae.partial_fit(spectra), twin.partial_fit(spectra)
    if device == "cuda":
        assert_same_weights(vae.net_, twin.net_)
    assert np.isfinite(twin.score(spectra))


class StopAt(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4:
            raise RuntimeError("stopped")


class Never(Callback):
    def __repr__(self):
        return repr(StopAt())


def test_a_checkpoint_goes_on_to_the_weights_of_a_straight_run(spectra, tmp_path):
    path = tmp_path / "checkpoint"
    straight = on_cuda(callbacks=[Never()]).fit(spectra)
    with pytest.raises(RuntimeError):
        on_cuda(callbacks=[StopAt()], checkpoint=path).fit(spectra)
    resumed = on_cuda(callbacks=[Never()], checkpoint=path).fit(spectra)
    assert not path.exists()
    assert_same_weights(resumed.net_, straight.net_)


def test_partial_fit_captures_once(spectra):
    vae = on_cuda().partial_fit(spectra)
    net = vae.net_
    captured = net.training_step_.captured
    assert captured is not None
    net.partial_fit((to_device(net, Rows(spectra)), None), epochs=1)
    assert net.training_step_.captured is captured


def test_other_optimizers_take_plain_steps(spectra):
    vae = on_cuda(net_params={"optimizer": torch.optim.SGD, "lr": 1e-5}).fit(spectra)
    assert type(vae.net_.training_step_) is Step
    assert np.isfinite(vae.score(spectra))


def test_memory_does_not_grow_with_fits(spectra):
    """What torch holds, unused blocks given back. 32 MiB are less than a graph's least pool for each of the fits."""

    def held(n_fits):
        for _ in range(n_fits):
            on_cuda().fit(spectra).score(spectra)
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    assert held(20) <= held(3) + 2**25


def test_a_net_trains_on_when_another_is_gone():
    """Graphs captured on one stream share cuBLAS's workspace, which goes with the first of them: pytorch#193402."""
    X = curved_spectra(300, n_channels=600)
    wide = {"hidden_layer_sizes": (512,), "batch_size": 64}
    (kept, u), (gone, _), (eager, _) = (net_at_start(X, capture, **wide) for capture in (True, True, False))
    for net in (kept, gone, eager):
        net.fit_loop((u, None), epochs=2)
    assert gone.training_step_.captured is not None
    del gone, net
    gc.collect()
    torch.cuda.empty_cache()
    for net in (kept, eager):
        net.fit_loop((u, None), epochs=2)
    assert_same_weights(kept, eager)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_gaps_and_weights_on_cuda(spectra, posterior):
    """The same linear start as on the CPU, and training, whose steps with gaps are not captured."""
    rng = np.random.RandomState(0)
    gaps, weight = np.where(rng.uniform(size=spectra.shape) < 0.2, np.nan, spectra), rng.uniform(0.5, 2, len(spectra))
    cpu, cuda = (
        VAETransformer(2, posterior=posterior, device=device, max_iter=0).fit(gaps, sample_weight=weight)
        for device in ("cpu", "cuda")
    )
    assert cuda.score(gaps) == pytest.approx(cpu.score(gaps), abs=0.1)
    np.testing.assert_allclose(cuda.impute(gaps), cpu.impute(gaps), rtol=1e-2, atol=1e-2 * np.abs(spectra).max())
    np.testing.assert_allclose(cuda.components_, cpu.components_, atol=1e-3 * np.abs(cpu.components_).max())
    for rows in (gaps, spectra):
        vae = on_cuda(posterior=posterior).fit(rows, sample_weight=weight)
        assert np.isfinite(vae.score(gaps)) and np.isfinite(vae.loadings(gaps)).all()
        assert vae.get_covariance().shape == (60, 60) and (vae.hotelling_t2(gaps) >= 0).all()


@pytest.mark.parametrize("model", [PCA(2), VAETransformer(2, **small(device="auto"))])
def test_a_pipeline_over_tensors_on_the_gpu_stays_there(spectra, model):
    pytest.importorskip("sklearn", minversion="1.9")
    X = torch.from_numpy(spectra).cuda()
    with config_context(array_api_dispatch=True):
        pipeline = make_pipeline(StandardScaler(), model).fit(X)
        Z = pipeline.transform(X)
        assert Z.is_cuda and pipeline.inverse_transform(Z).is_cuda and pipeline[-1].components_.is_cuda
        host = make_pipeline(StandardScaler(), model).fit(spectra)
        assert pipeline.score(X) == pytest.approx(host.score(spectra), abs=2)
    if isinstance(model, VAETransformer):
        twin = pickle.loads(pickle.dumps(pipeline[-1]))
        assert twin.components_.is_cuda and torch.equal(twin.components_, pipeline[-1].components_)


def test_models_that_are_trained_together_are_what_they_are_alone(spectra):
    grid = {"random_state": [0, 1], "beta": [1.0, 4.0], "learning_rate_init": [1e-3, 3e-3]}
    alone, together = (Search(on_cuda(), grid, cv=2).fit(spectra) for Search in (GridSearchCV, VAESearchCV))
    assert together.n_trained_together_ == 16
    ours, theirs = (search.cv_results_["mean_test_score"] for search in (together, alone))
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=0.1)


def test_auto_is_the_device_that_cuda_visible_devices_leaves():
    """As dask's workers and torchrun's processes are pinned: to a GPU, or to none."""
    code = "import torch; from skvae._data.devices import resolve_device; print(resolve_device('auto'))"
    for visible, device in (("0", "cuda"), ("", "cpu")):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == device


@pytest.mark.parametrize("Search", [GridSearchCV, VAESearchCV])
def test_a_search_with_two_jobs_has_the_scores_of_one(spectra, Search):
    one, two = (
        Search(on_cuda(), {"beta": [1.0, 4.0]}, cv=2, n_jobs=n_jobs, error_score="raise").fit(spectra)
        for n_jobs in (1, 2)
    )
    ours, theirs = (search.cv_results_["mean_test_score"] for search in (two, one))
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=0.1)


@pytest.mark.parametrize("do", CHANGES)
def test_what_a_callback_changes_is_followed(spectra, do):
    captured, eager = trained_both_ways(spectra, epochs=3, callbacks=[EachEpoch(do)])
    assert captured.training_step_.captured is not None
    assert_same_weights(captured, eager)


def test_a_number_of_a_plug_in_is_followed(spectra):
    assert_same_weights(*trained_both_ways(spectra, epochs=3, encoder=Scaled, callbacks=[EachEpoch(rescale)]))


def test_an_optimizer_that_starts_anew_after_three_steps(spectra):
    """With one batch an epoch, its moments are dropped between the warm-up and the capture."""
    nets = []
    for capture in (True, False):
        net, u = net_at_start(spectra[:64], capture, batch_size=64)
        for _ in range(2):
            net.fit_loop((u, None), epochs=3)
            net._restart_optimizer()
        net.fit_loop((u, None), epochs=8)
        nets.append(net)
    assert_same_weights(*nets)


@pytest.mark.filterwarnings("default:This training step cannot be captured")
def test_a_plug_in_that_waits_trains_eagerly_and_the_next_fit_is_captured(spectra):
    with pytest.warns(RuntimeWarning, match="cannot be captured") as said:
        captured, eager = trained_both_ways(spectra, encoder=Waits)
    assert len([warning for warning in said if "captured" in str(warning.message)]) == 1
    assert captured.training_step_.captured is None
    assert_same_weights(captured, eager)
    captured, eager = trained_both_ways(spectra)
    assert captured.training_step_.captured is not None
    assert_same_weights(captured, eager)
    assert np.isfinite(on_cuda(encoder=dropout).fit(spectra).score(spectra))  # draws from torch's own generator


def test_dropout_is_captured_and_draws_anew_in_each_replay(spectra):
    net, u = net_at_start(spectra, encoder=dropout)
    net.fit_loop((u, None), epochs=2)
    assert net.training_step_.captured is not None
    batch = next(iter(net.get_iterator(u, training=True)))
    net._set_training(True)
    net._set_learning_rate(0.0)
    first, second = (net.training_step_(*batch)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_a_mapped_file_is_streamed_on_the_caller_s_stream(tmp_path):
    """As in the default stream, in which a reader's copies would not wait for this one."""
    np.save(tmp_path / "rows.npy", curved_spectra(20_000, n_channels=200).astype(np.float32))
    rows, scores = np.load(tmp_path / "rows.npy", mmap_mode="r"), []
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        with config_context(working_memory=1), torch.cuda.stream(stream):
            vae = on_cuda(max_iter=2, batch_size=500).fit(rows)
            scores.append(vae.score(np.asarray(rows[:1000])))
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)


def test_rows_that_are_larger_than_the_card_are_streamed(spectra, monkeypatch):
    resident = on_cuda().fit(spectra)
    monkeypatch.setattr("skvae._data.rows.RESIDENT_SHARE", 1e-12)
    assert Rows(spectra).is_streamed_to("cuda")
    assert on_cuda().fit(spectra).score(spectra) == pytest.approx(resident.score(spectra), abs=5)


def test_fits_in_two_threads_are_those_one_after_another(spectra):
    def fit(seed):
        return on_cuda(random_state=seed).fit(spectra).net_

    with ThreadPoolExecutor(2) as threads:
        at_once = list(threads.map(fit, range(4)))
    for seed, net in enumerate(at_once):
        assert_same_weights(net, fit(seed))


def test_living_estimators_hold_no_graph(spectra):
    """20 MiB for 20 estimators; a graph's pool takes 64 and more for each."""
    kept = [on_cuda().fit(spectra)]
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    kept += [on_cuda(random_state=seed).fit(spectra) for seed in range(20)]
    gc.collect()
    torch.cuda.empty_cache()
    assert all(vae.net_.training_step_.captured is None for vae in kept)
    assert torch.cuda.memory_reserved() <= before + 20 * 2**20


def test_float32_rows_train_as_float64_ones(spectra):
    single, double = (on_cuda().fit(X) for X in (spectra.astype(np.float32), spectra))
    assert single.transform(spectra.astype(np.float32)).dtype == np.float32
    assert single.score(spectra) == pytest.approx(double.score(spectra), abs=0.5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_a_fit_stays_on_its_gpu(spectra, tmp_path):
    first, second = (VAETransformer(3, **small(device=f"cuda:{i}")).fit(spectra) for i in range(2))
    assert all(str(p.device) == "cuda:1" for p in second.net_.module_.parameters())
    assert second.score(spectra) == pytest.approx(first.score(spectra), abs=0.1)
    vae = VAETransformer(3, **small(device="auto")).fit(spectra)
    before = vae.transform(spectra)
    try:
        torch.cuda.set_device(1)
        np.testing.assert_allclose(vae.transform(spectra), before, atol=1e-4)
        vae.partial_fit(spectra)
        twin = pickle.loads(pickle.dumps(vae))
        assert str(vae.net_.own_device) == "cuda:0" and np.isfinite(twin.partial_fit(spectra).score(spectra))
    finally:
        torch.cuda.set_device(0)
