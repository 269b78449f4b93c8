"""Rows on their way to the network: every one once, resident or streamed, in little memory."""

import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch

import skvae._training.batches
from skvae import VAETransformer
from skvae._data.rows import Rows, evenly_spread
from skvae._training.batches import BatchLoader, StreamedRows

from ..conftest import curved_spectra, small


@pytest.fixture
def mapped(tmp_path):
    """The spectra as a file that is mapped, and as an array."""
    X = curved_spectra(400).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r"), X


def streamed(X, rows=None):
    rows = np.arange(len(X)) if rows is None else rows
    return StreamedRows(Rows(X, rows), torch.zeros(X.shape[1]), torch.ones(X.shape[1]), "cpu")


@pytest.mark.parametrize("n, batch_size", [(1, 4), (64, 16), (103, 16), (1000, 7)])
@pytest.mark.parametrize("n_draws", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_an_epoch_is_every_row_once_in_new_order(n, batch_size, n_draws, stream, monkeypatch):
    monkeypatch.setattr(skvae._training.batches, "PIECE", 40)  # numbers, so that chunks are many
    X = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    u = streamed(X) if stream else torch.from_numpy(X)
    batches = BatchLoader(u, batch_size, n_draws, 5, torch.Generator().manual_seed(0))
    epochs = [list(batches) for _ in range(2)]
    for epoch in epochs:
        assert len(epoch) == len(batches)
        assert sorted(torch.cat([x[:, 0] for x, _ in epoch]).tolist()) == X[:, 0].tolist()
        for x, eps in epoch:
            assert eps.shape == ((len(x), 5) if n_draws == 1 else (n_draws, len(x), 5))
    if n > 2:
        assert not torch.equal(*(torch.cat([x for x, _ in epoch]) for epoch in epochs))


@pytest.mark.parametrize("n_rows, at_most", [(1, 5), (5, 5), (6, 5), (1000, 64), (1001, 1000)])
def test_spread_takes_one_row_of_each_block(n_rows, at_most):
    rows = evenly_spread(n_rows, at_most)
    step = -(-n_rows // at_most)
    np.testing.assert_array_equal(rows // step, np.arange(-(-n_rows // step)))
    assert len(rows) <= at_most and rows[-1] < n_rows


def test_streamed_rows_are_the_resident_ones(mapped):
    file, X = mapped
    rows = np.r_[100:200, 0:30, 399, 250]
    mean, std = torch.from_numpy(X.mean(0, dtype=float)), torch.from_numpy(X.std(0, dtype=float))
    scaled = StreamedRows(Rows(file, rows), mean, std, "cpu")
    expected = torch.from_numpy(((X - X.mean(0)) / X.std(0))[rows])
    assert len(scaled) == len(rows) and scaled.shape == (132, X.shape[1])
    torch.testing.assert_close(scaled.resident(), expected, rtol=1e-4, atol=1e-5)
    for block in (slice(0, 50), slice(90, 120), slice(0, 1), slice(130, 132), slice(0, 0)):
        assert torch.equal(scaled[block], scaled.resident()[block])
    first, second = scaled.split([32, 100])
    assert torch.equal(torch.cat([first[:], second[:]]), scaled[:])


def test_only_large_mapped_arrays_are_streamed(mapped):
    file, X = mapped
    assert not Rows(file).is_streamed_to("cpu") and not Rows(X).is_streamed_to("cpu")
    with sklearn.config_context(working_memory=0):
        assert all(Rows(part).is_streamed_to("cpu") for part in (file, file[10:], np.asarray(file)))
        assert not Rows(X).is_streamed_to("cpu")


def test_streamed_fits_start_at_the_same_optimum_and_train_as_well(mapped):
    """The order of rows differs, so weights do; held out within 3 nats, where training gains more than 20."""
    file, X = mapped
    test = curved_spectra(200, seed=1).astype(np.float32)
    start = VAETransformer(2, max_iter=0).fit(X)
    with sklearn.config_context(working_memory=0):
        assert VAETransformer(2, max_iter=0).fit(file).score(test) == pytest.approx(start.score(test), abs=1e-3)
        streaming = VAETransformer(2, max_iter=40, random_state=0).fit(file)
        again = VAETransformer(2, max_iter=40, random_state=0).fit(file)
    resident = VAETransformer(2, max_iter=40, random_state=0).fit(X)
    assert resident.score(test) > start.score(test) + 20
    assert streaming.score(test) == pytest.approx(resident.score(test), abs=3)
    assert np.array_equal(streaming.transform(test), again.transform(test))
    with sklearn.config_context(working_memory=0):
        assert np.isfinite(streaming.partial_fit(file).score(test))


FIT_IN_LITTLE_MEMORY = """
import resource, sys
import numpy as np, sklearn
from skvae import VAETransformer
X = np.load(sys.argv[1], mmap_mode="r")
small = {"hidden_layer_sizes": (8,), "max_iter": 1, "batch_size": 4096, "random_state": 0}
VAETransformer(2, **small).fit(np.array(X[:1000]))  # libraries take their memory
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + X.nbytes // 2, resource.RLIM_INFINITY))
with sklearn.config_context(working_memory=64 if sys.argv[2] == "stream" else 2**20):
    vae = VAETransformer(2, **small).fit(X)
print(vae.history_[-1]["valid_score"] > vae.history_[0]["valid_score"] - 1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what is mapped on Linux alone")
@pytest.mark.parametrize("way", ["stream", "resident"])
def test_a_file_larger_than_memory_trains(way, tmp_path):
    """800 MB of rows with 400 MB of memory beyond what the libraries take; a copy of the rows does not fit in that."""
    file = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (1_000_000, 200))
    rng = np.random.RandomState(0)
    loadings = rng.standard_normal((3, 200)).astype(np.float32)
    for start in range(0, len(file), 50_000):
        z = rng.standard_normal((50_000, 3)).astype(np.float32)
        file[start : start + 50_000] = np.tanh(z) @ loadings + 0.1
    file.flush()
    run = [sys.executable, "-c", FIT_IN_LITTLE_MEMORY, str(tmp_path / "X.npy"), way]
    result = subprocess.run(run, capture_output=True, text=True)
    if way == "stream":
        assert result.stdout.strip() == "True", result.stderr
    else:
        assert result.returncode != 0 and "memory" in result.stderr.lower()


def test_inference_does_not_depend_on_its_blocks(spectra, monkeypatch):
    vae = VAETransformer(3, posterior="full", **small()).fit(spectra)
    Z = vae.transform(spectra)
    whole = Z, vae.inverse_transform(Z), vae.score_samples(spectra), vae.sample(50, random_state=0)
    monkeypatch.setattr("skvae._inference.predictor.rows_per_block", lambda *_: 7)
    in_blocks = vae.transform(spectra), vae.inverse_transform(Z), vae.score_samples(spectra)
    for a, b in zip(whole, in_blocks, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    assert vae.sample(50, random_state=0).shape == whole[3].shape


def test_an_iterator_of_blocks_is_asked_once_and_trains_as_the_array(mapped):
    """Blocks come from a generator that cannot start anew; small ones are resident, larger ones streamed."""
    _, X = mapped
    asked = []

    def blocks():
        for rows in np.array_split(np.arange(len(X)), 7):
            asked.append(len(rows))
            yield X[rows]

    expected = VAETransformer(2, **small()).fit(X)
    vae = VAETransformer(2, **small()).fit(blocks())
    assert sum(asked) == len(X) and len(asked) == 7
    np.testing.assert_array_equal(vae.transform(blocks()), expected.transform(X))
    with sklearn.config_context(working_memory=0.01):
        streamed = VAETransformer(2, **small()).fit(blocks())
    assert streamed.score(X) == pytest.approx(expected.score(X), abs=0.1 * X.shape[1])
    assert VAETransformer(2, **small()).partial_fit(blocks()).n_features_in_ == X.shape[1]


@pytest.mark.parametrize(
    "blocks, reason",
    [
        ([np.zeros((5, 3)), np.zeros((5, 4))], r"block 1 of shape \(5, 4\)"),
        ([np.zeros((5, 3)), np.zeros(3)], r"block 1 of shape \(3,\)"),
        ([np.array([["a", "b"]])], "block 0 .* is no table of numbers"),
        (iter([]), "there are no rows in it"),
    ],
)
def test_blocks_that_are_no_table_are_refused(blocks, reason):
    with pytest.raises(ValueError, match=reason):
        VAETransformer().fit(blocks)
