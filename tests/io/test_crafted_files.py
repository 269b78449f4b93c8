"""Files that somebody made to harm: each is refused in words, and nothing runs, hangs or takes much memory.

Most have a right checksum, as their maker can compute one.
"""

import copy
import io
import itertools
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

import skvae
from skvae import VAETransformer
from skvae._io import tensor_file
from skvae.likelihoods import GaussianLikelihood

from ..conftest import curved_spectra, small

SECONDS = 5.0  # a load takes a hundredth of one


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def changed(*keys, value):
    """A change of what is at a place of the tree: to a value, or to what a function makes of it."""

    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value(tree[keys[-1]]) if callable(value) else value

    return change


def without(*keys):
    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        del tree[keys[-1]]

    return change


def nan_at_the_end(array):
    array = array.copy()
    array.flat[-1] = np.nan
    return array


MODULE = "fitted", "net_", "module"
WEIGHT = *MODULE, "encoder.net.0.weight"
PARAMETERS = "posterior", "likelihood", "encoder", "decoder", "activation", "objective", "init", "device", "precision"
PATHS = "os.system", "posix.system", "builtins.eval", "__import__('os').system('touch exploded')", "torch.load"

FORGED = {
    "missing tensor": without(*WEIGHT),
    "extra tensor": changed(*MODULE, "decoder.net.9.weight", value=np.zeros((3, 3), np.float32)),
    "wrong shape": changed(*WEIGHT, value=lambda w: w[:, :-1]),
    "transposed": changed(*WEIGHT, value=lambda w: w.T),
    "another rank": changed(*WEIGHT, value=lambda w: w[..., None]),
    "float64 weights": changed(*WEIGHT, value=lambda w: w.astype(np.float64)),
    "integer weights": changed(*WEIGHT, value=lambda w: w.astype(np.int32)),
    "half weights": changed(*WEIGHT, value=lambda w: w.astype(np.float16)),
    "NaN weights": changed(*WEIGHT, value=nan_at_the_end),
    "infinite weights": changed(*WEIGHT, value=lambda w: w * np.float32(np.inf)),
    "NaN in a moment": changed("fitted", "net_", "moments", "1", "exp_avg_sq", value=nan_at_the_end),
    "moments of no parameter": changed("fitted", "net_", "moments", value=lambda m: {**m, "99": m["0"]}),
    "moments missing": without("fitted", "net_", "moments", "0", "exp_avg"),
    "weights that are a string": changed(*WEIGHT, value="os.system"),
    "weights that are a number": changed(*WEIGHT, value=1.0),
    "weights that are a list": changed(*WEIGHT, value=lambda w: w.tolist()),
    "scale of zero": changed(*MODULE, "scale", value=lambda s: s * 0),
    "scale of columns negative": changed("fitted", "net_", "column_scale", value=lambda s: -s),
    "noise of zero": changed(*MODULE, "likelihood.channel_variance", value=lambda v: v * 0),
    "noise of the linear model negative": changed(*MODULE, "fill_noise", value=lambda v: -v),
    "moments of squares negative": changed("fitted", "net_", "moments", "1", "exp_avg_sq", value=lambda m: m - 1),
    "rows of the monitor negative": changed("fitted", "_monitor", 1, value=-1.0),
    "squares of the monitor negative": changed("fitted", "_monitor", 3, value=lambda s: -s),
    "residuals of the monitor negative": changed("fitted", "_monitor", 4, value=-1.0),
    "unit of the monitor zero": changed("fitted", "_monitor", 0, value=0.0),
    "tensors without numbers": changed("fitted", "_tensors_on", value="meta"),
    "tensors on no device": changed("fitted", "_tensors_on", value="os.system"),
    "order that is none": changed(*MODULE, "order", value=lambda order: order * 0 + 10**9),
    "order twice": changed(*MODULE, "order", value=lambda order: order * 0),
    "generator too short": changed("fitted", "net_", "generator", value=np.zeros(3, np.uint8)),
    "generator of noise": changed("fitted", "net_", "generator", value=lambda g: g * 0 + 255),
    "generator of floats": changed("fitted", "net_", "generator", value=lambda g: g.astype(float)),
    "no net": without("fitted", "net_"),
    "net a list": changed("fitted", "net_", value=[]),
    "no seed": without("fitted", "_seed"),
    "seed a string": changed("fitted", "_seed", value="os.system"),
    "seed negative": changed("fitted", "_seed", value=-1),
    "attribute of another name": changed("fitted", "transform", value="os.system"),
    "dunder attribute": changed("fitted", "__class__", value="os.system"),
    "components of another shape": changed("fitted", "components_", value=lambda c: c[:1]),
    "mean that is NaN": changed("fitted", "mean_", value=nan_at_the_end),
    "mean of strings": changed("fitted", "mean_", value=lambda m: m.astype(str)),
    "monitor cut": changed("fitted", "_monitor", value=lambda m: m[:2]),
    "monitor a dict": changed("fitted", "_monitor", value={}),
    "names too few": changed("fitted", "feature_names_in_", value=np.array(["a"], dtype=object)),
    "output set to code": changed("fitted", "_sklearn_output_config", value={"transform": ["os.system"]}),
    "history of dicts in dicts": changed("fitted", "history_", value=[{"epoch": {"a": 1}}]),
    "history a number": changed("fitted", "history_", value=7),
    "no parameters": without("parameters"),
    "parameters a list": changed("parameters", value=[]),
    "unknown parameter": changed("parameters", "shell", value="os.system"),
    "n_components a string": changed("parameters", "n_components", value="2"),
    "n_components 10^12": changed("parameters", "n_components", value=10**12),
    "n_components 10^400": changed("parameters", "n_components", value=10**400),
    "hidden layer of 10^9": changed("parameters", "hidden_layer_sizes", value=[10**9]),
    "hidden layers of 10^5 each": changed("parameters", "hidden_layer_sizes", value=[10**5] * 8),
    "a million hidden layers": changed("parameters", "hidden_layer_sizes", value=[1] * 10**6),
    "hidden layers nested": changed("parameters", "hidden_layer_sizes", value=[[8], "os.system"]),
    "image of 10^18": changed(
        "parameters", value=lambda p: {**p, "encoder": "conv2d", "input_shape": [1, 10**9, 10**9]}
    ),
    "image of 30": changed("parameters", value=lambda p: {**p, "encoder": "conv2d", "input_shape": [1, 5, 6]}),
    "net_params": changed("parameters", "net_params", value={"callbacks": "os.system", "device": "cpu"}),
    "callbacks of strings": changed("parameters", "callbacks", value=["os.system"]),
    "other fitted parameters": changed("fitted", "_fitted_with", value={"hidden_layer_sizes": [10**9]}),
    "fitted parameters a string": changed("fitted", "_fitted_with", value="os.system"),
    "batch size a list": changed("fitted", "net_", "batch_size", value=[1]),
    "batch size infinite": changed("fitted", "net_", "batch_size", value=float("inf")),
    "betas of Adam strings": changed("fitted", "net_", "param_groups", 0, "betas", value=["os", "system"]),
    "learning rate infinite": changed("fitted", "net_", "param_groups", 0, "lr", value=float("inf")),
    "progress unknown": changed("fitted", "net_", "progress", "fit", value=1),
    "progress a string": changed("fitted", "net_", "progress", "best_epoch_", value="os.system"),
    "estimator a path": changed("estimator", value="os.system"),
    "an object in place of a number": changed("parameters", "beta", value=tensor_file.Custom("os.system")),
}
FORGED |= {
    f"{name}={path}": changed("parameters", name, value=path) for name, path in itertools.product(PARAMETERS, PATHS)
}
FORGED |= {f"custom {name}": changed("parameters", name, value=tensor_file.Custom("os.system")) for name in PARAMETERS}
del FORGED["custom device"]  # which `load` takes from its caller
for path in PATHS:
    del FORGED[f"device={path}"]


def with_metadata(text, arrays):
    """A file with any text for metadata, and a right checksum."""
    arrays = {**arrays, "sha256": np.frombuffer(tensor_file._digest(text, arrays), np.uint8)}
    return safetensors.numpy.save(arrays, {"skvae": text})


def header_of(n_bytes, text=b"{}"):
    return n_bytes.to_bytes(8, "little") + text


def raw(tree):
    """Files that are hardly of the format: bytes by name."""
    few = {"a": np.zeros(3, np.float32)}
    header = {"format": 1, "versions": {}, "content": {}}
    entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    return {
        "empty": b"",
        "a pickle": pickle.dumps(Bomb()),
        "a pickle of protocol 0": pickle.dumps(Bomb(), protocol=0),
        "random": np.random.RandomState(0).bytes(5000),
        "zeros": bytes(5000),
        "header longer than the file": header_of(10**6),
        "header of 2^63": header_of(2**63 - 1),
        "header of 2^64": header_of(2**64 - 1),
        "header of nothing": header_of(0),
        "header that is no JSON": header_of(8, b"\xff" * 8),
        "header nested": header_of(10**5, b"[" * 10**5),
        "tensor past the end": header_of(len(json.dumps({"a": entry})), json.dumps({"a": entry}).encode()),
        "no metadata": safetensors.numpy.save(few),
        "other metadata": safetensors.numpy.save(few, {"format": "pt"}),
        "metadata no JSON": with_metadata("os.system('touch exploded')", few),
        "metadata a list": with_metadata("[1, 2]", few),
        "metadata nested": with_metadata("[" * 10**5, few),
        "metadata of many lists": with_metadata("[" + "[]," * 3_000_000 + "[]]", few),
        "metadata of a great number": with_metadata("1" * 10**6, few),
        "no format": with_metadata('{"content": {}}', few),
        "format a string": with_metadata('{"format": "1", "content": {}}', few),
        "later format": with_metadata('{"format": 2, "content": {}}', few),
        "nothing in it": with_metadata(json.dumps(header), {}),
        "array twice": with_metadata(json.dumps({**header, "content": [{"$array": "a"}] * 2}), few),
        "array that is not there": with_metadata(json.dumps({**header, "content": {"$array": "b"}}), few),
        "array without a place": with_metadata(json.dumps(header), few),
        "kind unknown": with_metadata(json.dumps({**header, "content": {"$eval": "1 + 1"}}), {}),
        "two kinds": with_metadata(json.dumps({**header, "content": {"$tuple": [], "$array": "a"}}), few),
        "float unknown": with_metadata(json.dumps({**header, "content": {"$float": "os.system"}}), {}),
        "array of a list": with_metadata(json.dumps({**header, "content": {"$array": ["a"]}}), few),
        "tuple of a number": with_metadata(json.dumps({**header, "content": {"$tuple": 3}}), {}),
        "no checksum": safetensors.numpy.save(few, {"skvae": json.dumps(header)}),
        "checksum of another shape": safetensors.numpy.save(
            {**few, "sha256": np.zeros((2, 2))}, {"skvae": json.dumps(header)}
        ),
        "torch's own format": torch_file(),
    }


def torch_file():
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3), "b": Bomb()}, buffer)
    return buffer.getvalue()


def crafted(directory):
    """(name, path) of each hostile file, written one after another; the good one they are made of comes first."""
    good, path = os.path.join(directory, "good"), os.path.join(directory, "crafted")
    vae = VAETransformer(2, **small(max_iter=2, refit=False)).fit(curved_spectra(60, n_channels=30))
    vae.save(good)
    yield None, good
    tree = tensor_file.read(good)
    for name, change in FORGED.items():
        copied = copy.deepcopy(tree)
        change(copied)
        tensor_file.write(path, copied)
        yield name, path
    for name, data in raw(tree).items():
        with open(path, "wb") as file:
            file.write(data)
        yield name, path


class Watched:
    """Notes what a program does that a load should not, while it is on."""

    FORBIDDEN = (
        "exec",
        "compile",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "subprocess.Popen",
        "pickle.find_class",
    )

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self.note)

    def note(self, event, arguments):
        if self.on and event in self.FORBIDDEN:
            self.seen.append((event, arguments))


WATCHED = Watched()


class Activation(torch.nn.SiLU):
    """A class that its user passes to `load`."""


class NeedsNumbers(GaussianLikelihood):
    """A likelihood of a user's that cannot be made of shapes alone."""

    def __init__(self, mean, scale):
        super().__init__(mean, scale)
        self.register_buffer("width", (torch.ones(len(scale)) * scale).float())


LARGE = {
    "layers": {"hidden_layer_sizes": (60_000, 6_000)},
    "components": {"n_components": 600},
    "posterior": {"n_components": 600, "posterior": "full"},
}


@pytest.mark.parametrize("large", LARGE)
@pytest.mark.parametrize("custom", [{"activation": Activation}, {"likelihood": NeedsNumbers}], ids=["class", "numbers"])
def test_shapes_are_checked_before_memory_is_taken_whatever_the_caller_passes(custom, large, tmp_path, monkeypatch):
    """The model is never made."""
    VAETransformer(2, **small(max_iter=1, hidden_layer_sizes=(8, 8)), **custom).fit(curved_spectra(60)).save(
        tmp_path / "vae"
    )
    assert skvae.load(tmp_path / "vae", **custom).n_components_ == 2
    tree = tensor_file.read(tmp_path / "vae")
    tree["parameters"].update(LARGE[large])
    tensor_file.write(tmp_path / "vae", tree)
    if large == "layers" or "activation" in custom:
        monkeypatch.setattr("skvae._io.load.blank_net", None)
    with pytest.raises(ValueError, match="cannot be loaded"):
        skvae.load(tmp_path / "vae", **custom)


def assert_refused(path, name):
    begin = time.perf_counter()
    WATCHED.on = True
    try:
        with pytest.raises(ValueError) as caught:
            skvae.load(path)
    finally:
        WATCHED.on = False
    assert time.perf_counter() - begin < SECONDS, name
    assert str(path) in str(caught.value), name
    assert not WATCHED.seen, (name, WATCHED.seen)


def test_the_watch_sees():
    WATCHED.on = True
    exec("1 + 1")
    pickle.loads(pickle.dumps(np.float64))
    WATCHED.on = False
    assert {event for event, _ in WATCHED.seen} >= {"exec", "compile", "pickle.find_class"}
    WATCHED.seen.clear()


def test_crafted_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = crafted(tmp_path)
    _, good = next(files)
    X = curved_spectra(5, n_channels=30)
    assert np.isfinite(skvae.load(good).transform(X)).all()  # also imports what loading imports
    names = []
    for name, path in files:
        assert_refused(path, name)
        names.append(name)
    assert len(names) > 120 and not (tmp_path / "exploded").exists()


def test_truncated_files_are_refused(tmp_path):
    vae = VAETransformer(2, max_iter=1, device="cpu").fit(curved_spectra(60, n_channels=30))
    vae.save(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for length in [*range(0, len(data), 1024), len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:length])
        assert_refused(tmp_path / "cut", length)
    for more in (b"\0", b"PK\3\4", data):
        (tmp_path / "cut").write_bytes(data + more)
        assert_refused(tmp_path / "cut", "longer")


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    """In 1,000 places: 500 of the header, where a flip may do most, and 500 of all bytes."""
    vae = VAETransformer(2, **small(max_iter=2)).fit(curved_spectra(60, n_channels=30))
    vae.save(tmp_path / "whole")
    data = bytearray((tmp_path / "whole").read_bytes())
    n_header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.RandomState(0)
    for place in [*rng.choice(n_header, 500, replace=False), *rng.choice(len(data), 500, replace=False)]:
        bit = 1 << rng.randint(8)
        data[place] ^= bit
        (tmp_path / "flipped").write_bytes(data)
        assert_refused(tmp_path / "flipped", (place, bit))
        data[place] ^= bit
    (tmp_path / "flipped").write_bytes(data)
    skvae.load(tmp_path / "flipped")


def test_what_is_no_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        skvae.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        skvae.load(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what is mapped on Linux alone")
def test_crafted_files_take_little_memory(tmp_path):
    """Each within six times its length and 64 MB: a process that may not have more refuses them in the same words."""
    run = [sys.executable, "-m", "tests.io.test_crafted_files", str(tmp_path)]
    result = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 120


if __name__ == "__main__":
    files, n_refused = crafted(sys.argv[1]), 0
    skvae.load(next(files)[1])
    for name, path in files:
        status = Path("/proc/self/status").read_text().splitlines()
        used = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 6 * os.path.getsize(path) + 2**26, resource.RLIM_INFINITY))
        try:
            skvae.load(path)
        except ValueError:
            n_refused += 1
        except BaseException as error:
            raise AssertionError(name) from error
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(n_refused)
