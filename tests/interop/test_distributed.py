"""Two processes train one model: one process's curve, one file, and no hang when one of them dies."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from skvae import load

ROOT = __file__.rsplit("/tests/", 1)[0]
LAUNCHERS = {
    "alone": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"],
    "accelerate": [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),  # also of CPUs
        # A precision that must change nothing: the estimator has a parameter for it.
        *("--num_machines", "1", "--mixed_precision", "bf16", "--dynamo_backend", "no", "--main_process_port", "0"),
    ],
}
BASE = {"hidden_layer_sizes": [16], "batch_size": 50, "max_iter": 6, "random_state": 0, "device": "cpu"}


def run(launcher, folder, dies="", **params):
    folder.mkdir(exist_ok=True)
    command = [*LAUNCHERS[launcher], "-m", "tests.interop.job", folder, json.dumps({**BASE, **params})]
    environment = {**os.environ, "DIES": dies}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def curve(folder, rank):
    return np.array(json.loads((folder / f"{rank}.json").read_text()))


@pytest.mark.parametrize(
    "launcher, params",
    [
        ("torchrun", {}),
        ("accelerate", {"posterior": "full"}),
        ("torchrun", {"posterior": "rho", "weights": True, "kl_warmup": 3}),
        ("torchrun", {"gaps": True, "objective": "iwae", "n_draws": 3}),
        ("torchrun", {"refit": True}),
    ],
    ids=str,
)
def test_the_loss_curve_is_one_process_s_at_the_same_batch(tmp_path, launcher, params):
    """403 rows in batches of 50: the last has rows for one process more than for the other. To float32's rounding."""
    for how in ("alone", launcher):
        result = run(how, tmp_path / how, **params)
        assert result.returncode == 0, result.stderr
    alone, first, second = curve(tmp_path / "alone", 0), curve(tmp_path / launcher, 0), curve(tmp_path / launcher, 1)
    assert len(alone) > 3
    np.testing.assert_allclose(first, alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max())
    np.testing.assert_array_equal(first, second)
    ours, theirs = np.load(tmp_path / launcher / "0.npy"), np.load(tmp_path / launcher / "1.npy")
    np.testing.assert_array_equal(ours, theirs)
    assert [path.name for path in (tmp_path / launcher).glob("*.safetensors")] == ["by 0.safetensors"]
    loaded = load(tmp_path / launcher / "by 0.safetensors", "cpu")
    assert loaded.distributed and np.isfinite(loaded.sample(3)).all()


def test_processes_agree_on_a_seed_that_nobody_gave(tmp_path):
    result = run("torchrun", tmp_path, random_state=None)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_a_process_that_dies_ends_the_job_with_an_error(tmp_path, launcher, rank):
    start = time.monotonic()
    result = run(launcher, tmp_path, dies=f"{rank} 2", may_die=True, max_iter=1000)
    assert result.returncode != 0 and "SIGKILL" in result.stderr
    assert time.monotonic() - start < 100
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_job_that_died_goes_on_from_its_checkpoint(tmp_path):
    whole = run("torchrun", tmp_path / "whole", may_die=True)
    kept = {"checkpoint": str(tmp_path / "c.safetensors"), "may_die": True}
    died = run("torchrun", tmp_path / "parts", dies="1 3", **kept)
    assert whole.returncode == 0 and died.returncode != 0 and (tmp_path / "c.safetensors").exists()
    resumed = run("torchrun", tmp_path / "parts", **kept)
    assert resumed.returncode == 0, resumed.stderr
    assert not (tmp_path / "c.safetensors").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "parts" / "0.npy"), np.load(tmp_path / "whole" / "0.npy"))
