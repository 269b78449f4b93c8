"""Long fits survive: killed at any moment, out of disk, out of order; then the same call reaches the same bits."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import sklearn
from skorch.callbacks import Callback

import skvae
from skvae import VAETransformer
from skvae._io.tensor_file import read

from ..conftest import curved_spectra, small


def long_fit(**params):
    """Half a second of fit, most of it in epochs; a refit after the choice of their number."""
    return VAETransformer(**{"n_components": 3, **small(max_iter=20), **params})


def weights(vae):
    return [vae.net_.module_.state_dict()[name].numpy() for name in sorted(vae.net_.module_.state_dict())]


def assert_same_weights(one, two):
    for ours, theirs in zip(weights(one), weights(two), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def rows(kind):
    X = curved_spectra(200)
    if kind == "gaps":
        X[::3, 5:9] = np.nan
    return X, (np.linspace(0.5, 2, 200) if kind == "weights" else None)


KINDS = {
    "refit": {},
    "no refit": {"refit": False, "max_iter": 40},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 4},
    "every 7 epochs": {"checkpoint_every": 7},
    "no validation": {"validation_fraction": None},
    "gaps": {"max_iter": 10},
    "weights": {"objective": "iwae", "n_draws": 3, "posterior": "rho_diag"},
}


def fit_and_save(kind, directory):
    """In a process of its own, which may be killed."""
    import torch

    torch.set_num_threads(1)
    X, weight = rows(kind)
    begin = time.perf_counter()
    vae = long_fit(checkpoint=f"{directory}/checkpoint", **KINDS[kind]).fit(X, sample_weight=weight)
    vae.save(f"{directory}/fitted")
    np.save(f"{directory}/seconds.npy", time.perf_counter() - begin)


def fit_in_process(kind, directory, kill_after=None):
    """Its exit code. Forked from a server that has imported all; killed so long after its first checkpoint."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "tests.io.test_checkpoint"])
    process = context.Process(target=fit_and_save, args=(kind, str(directory)))
    process.start()
    if kill_after is not None:
        while process.is_alive() and not (directory / "checkpoint").exists():
            time.sleep(1e-3)
        time.sleep(kill_after)
        process.kill()  # SIGKILL: nothing of Python's runs
    process.join()
    return process.exitcode


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment_it_reaches_the_same_bits(kind, tmp_path):
    """kill -9 at eight random moments of each of seven kinds of fit, every second of one that had gone on already.

    All eight come too late or too early once in 10,000 runs, if a fit takes as long as the one before.
    """
    assert fit_in_process(kind, tmp_path) == fit_in_process(kind, tmp_path) == 0  # the second takes the usual time
    expected, seconds = skvae.load(tmp_path / "fitted"), float(np.load(tmp_path / "seconds.npy"))
    X, weight = rows(kind)
    straight = long_fit(**KINDS[kind]).fit(X, sample_weight=weight)
    assert_same_weights(expected, straight)  # the checkpoint changes nothing
    rng, n_killed = np.random.RandomState(len(kind)), 0
    for _ in range(4):
        os.remove(tmp_path / "fitted")
        for delay in rng.uniform(0, 0.8 * seconds, 2):
            killed = fit_in_process(kind, tmp_path, kill_after=delay) == -signal.SIGKILL
            n_killed += killed and (tmp_path / "checkpoint").exists()
        assert fit_in_process(kind, tmp_path) == 0
        vae = skvae.load(tmp_path / "fitted")
        assert_same_weights(vae, expected)
        assert [row["epoch"] for row in vae.history_] == [row["epoch"] for row in expected.history_]
        assert vae.best_iter_ == expected.best_iter_ and vae.score(X[:50]) == expected.score(X[:50])
        assert not (tmp_path / "checkpoint").exists()
    assert n_killed > 0


class Stop(Callback):
    """Stops the process's training with an error within an epoch."""

    def __init__(self, epoch, error=RuntimeError):
        self.epoch, self.error = epoch, error

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise self.error("stopped")


class Never(Stop):
    def __repr__(self):
        return repr(Stop(1))  # the same fit, as a checkpoint sees it

    def on_batch_end(self, net, **kwargs):
        pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("epoch", [6, 15])  # of the fit, and the second one of the refit
@pytest.mark.parametrize("setting", [{}, {"checkpoint_every": 4}, {"warm_start": True}, {"kl_warmup": 5}])
def test_stopped_by_an_error_or_ctrl_c_it_goes_on(error, epoch, setting, tmp_path, spectra):
    path = tmp_path / "checkpoint"
    straight = long_fit(max_iter=12, callbacks=[Never(0)], **setting)
    halting = long_fit(max_iter=12, callbacks=[Stop(epoch, error)], checkpoint=path, **setting)
    if "warm_start" in setting:
        straight.fit(spectra)
        halting.set_params(callbacks=[Never(0)], checkpoint=None).fit(spectra)
        halting.set_params(callbacks=[Stop(6, error)], checkpoint=path)
    with pytest.raises(error):
        halting.fit(spectra)
    if error is RuntimeError and "warm_start" not in setting:
        assert not hasattr(halting, "net_")
    if error is KeyboardInterrupt:
        assert np.isfinite(halting.score(spectra))  # the best weights so far
        if "warm_start" in setting:
            return  # those are where a warm start goes on from, so that it is another fit now
    assert path.exists()
    halting.set_params(callbacks=[Never(0)]).fit(spectra)
    assert_same_weights(halting, straight.fit(spectra))
    assert not path.exists()


def test_without_a_random_state_it_goes_on_with_its_own_seed(tmp_path, spectra):
    path = tmp_path / "checkpoint"
    settings = {"max_iter": 10, "random_state": None, "checkpoint": path}
    with pytest.raises(RuntimeError):
        long_fit(callbacks=[Stop(5)], **settings).fit(spectra)
    seed = read(path)["seed"]
    vae = long_fit(callbacks=[Never(0)], **settings).fit(spectra)
    assert vae._seed == seed


def test_streamed_rows_too(tmp_path, spectra):
    np.save(tmp_path / "X.npy", spectra.astype(np.float32))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    with sklearn.config_context(working_memory=0):
        straight = long_fit(max_iter=8).fit(X)
        with pytest.raises(RuntimeError):
            long_fit(max_iter=8, checkpoint=tmp_path / "c", callbacks=[Stop(5)]).fit(X)
        resumed = long_fit(max_iter=8, checkpoint=tmp_path / "c", callbacks=[Never(0)]).fit(X)
    assert_same_weights(resumed, straight)


@pytest.fixture
def interrupted(tmp_path, spectra):
    """A checkpoint of a fit that was stopped."""
    with pytest.raises(RuntimeError):
        long_fit(max_iter=10, checkpoint=tmp_path / "checkpoint", callbacks=[Stop(5)]).fit(spectra)
    return tmp_path / "checkpoint"


OTHERS = {
    "n_components": lambda X: (long_fit(n_components=2), X),
    "posterior": lambda X: (long_fit(posterior="full"), X),
    "objective": lambda X: (long_fit(objective="iwae"), X),
    "random_state": lambda X: (long_fit(random_state=1), X),
    "the rows": lambda X: (long_fit(), np.where(np.arange(len(X))[:, None] == 299, X + 1e-9, X)),
    "the rows, in order": lambda X: (long_fit(), X[::-1]),
    "the rows, in dtype": lambda X: (long_fit(), X.astype(np.float32)),
    "the rows, weighted": lambda X: (long_fit(), X),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_fit_is_refused_and_kept(name, interrupted, spectra):
    before = interrupted.read_bytes()
    vae, X = OTHERS[name](spectra)
    weight = np.linspace(1, 2, len(X)) if "weighted" in name else None
    vae.set_params(max_iter=10, checkpoint=interrupted, callbacks=[Never(0)])
    with pytest.raises(ValueError, match=f"differ: {name.split(',')[0]}"):
        vae.fit(X, sample_weight=weight)
    assert interrupted.read_bytes() == before


def test_what_is_no_checkpoint_is_refused_and_kept(tmp_path, spectra):
    path = tmp_path / "file"
    for content in (b"my thesis", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="file"):
            long_fit(checkpoint=path).fit(spectra)
        assert path.read_bytes() == content
    VAETransformer(2, **small(max_iter=1)).fit(spectra).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no checkpoint"):
        long_fit(checkpoint=path).fit(spectra)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="checkpoint_every"):
        long_fit(checkpoint=path, checkpoint_every=0).fit(spectra)


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path, spectra):
    (tmp_path / "file").touch()
    seen = []

    class Seen(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net)

    for path in (tmp_path / "nowhere" / "c", tmp_path / "file" / "c", "/proc/c"):
        vae = long_fit(checkpoint=path, callbacks=[Seen()])
        with pytest.raises(OSError, match=str(path)):
            vae.fit(spectra)
        assert not hasattr(vae, "net_")
    assert not seen


FULL_DISK = """
import resource, sys
import numpy as np
from tests.io.test_checkpoint import long_fit
from tests.conftest import curved_spectra
X = curved_spectra(100)
fitted = long_fit(max_iter=1).fit(X)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for what in (lambda: fitted.save(sys.argv[1]), lambda: long_fit(checkpoint=sys.argv[1]).fit(X)):
    try:
        what()
    except OSError as error:
        print(error.filename == sys.argv[1], error.strerror)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks for RLIMIT_FSIZE")
def test_a_full_disk_is_an_error_at_the_first_checkpoint(tmp_path):
    """The system refuses bytes past 20 kB of a file, in the middle of a writing: an error, and no litter."""
    run = [sys.executable, "-c", FULL_DISK, str(tmp_path / "c")]
    result = subprocess.run(run, capture_output=True, text=True)
    assert result.stdout.splitlines() == ["True File too large"] * 2, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_later_leaves_the_checkpoint_before(tmp_path, spectra, monkeypatch):
    path, calls, sync = tmp_path / "checkpoint", [], os.fsync

    def fail_later(descriptor):
        calls.append(descriptor)
        if len(calls) > 6:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(OSError, match="No space left"):
        long_fit(max_iter=10, checkpoint=path).fit(spectra)
    monkeypatch.undo()
    assert len(read(path)["stages"]["fit"]["net"]["history"]) == 6  # the start and five epochs
    assert_same_weights(long_fit(max_iter=10, checkpoint=path).fit(spectra), long_fit(max_iter=10).fit(spectra))
