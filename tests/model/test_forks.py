"""A process that is forked after torch has worked on several threads does not wait for them."""

import multiprocessing
import os
import subprocess
import sys

import pytest

CHILDREN = """
import sys
from multiprocessing import get_context
import joblib, numpy as np, torch
import skvae
from skvae import VAETransformer

torch.set_num_threads(2)
X = np.random.RandomState(0).randn(600, 200)
fitted = VAETransformer(2, hidden_layer_sizes=(64,), max_iter=1, random_state=0).fit(X)
if sys.argv[1] == "load":
    fitted.save(sys.argv[2])
    fitted = skvae.load(sys.argv[2])

def twin():
    return VAETransformer(2, hidden_layer_sizes=(64,), max_iter=1, random_state=0).fit(X)

def work(name):
    return {"transform": lambda: fitted.transform(X), "score": lambda: fitted.score_samples(X),
            "fit": lambda: twin().transform(X)}[name]()

names = "transform", "score", "fit"
with get_context("fork").Pool(1) as pool:
    by_fork = [pool.apply(work, (name,)) for name in names]
by_joblib = joblib.Parallel(2, backend="multiprocessing")(joblib.delayed(work)(name) for name in names)
assert torch.get_num_threads() == 2
for name, *results in zip(names, by_fork, by_joblib):
    np.testing.assert_allclose(results, [work(name)] * 2, rtol=1e-3, atol=1e-3)
print("done")
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no forks")
@pytest.mark.parametrize("begin", ["fit", "load"])
def test_children_of_a_process_that_has_worked_on_two_threads(begin, tmp_path):
    run = [sys.executable, "-c", CHILDREN, begin, str(tmp_path / "file")]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(run, capture_output=True, text=True, timeout=300, env=environment)
    assert result.stdout.strip() == "done", result.stderr
