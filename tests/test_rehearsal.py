"""The rehearsal of a GPU, in a process of its own: see `rehearsal/device.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent / "rehearsal"
TRIED_WITH = "2.13"  # torch's interface for devices that are written in Python is experimental


@pytest.mark.skipif(
    not torch.__version__.startswith(f"{TRIED_WITH}."), reason=f"the device was tried with {TRIED_WITH}"
)
def test_the_rehearsal_passes():
    command = [sys.executable, "-m", "pytest", FOLDER, "-o", "addopts=", "-p", "no:cacheprovider", "-q"]
    without_gpu = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parents[1], env=without_gpu)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2000:]
