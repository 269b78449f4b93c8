"""One estimator in many threads, many fits in one process."""

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV

from skvae import VAETransformer
from skvae.posteriors import POSTERIORS

from ..conftest import curved_spectra, small

CALLS = {
    "transform": lambda vae, X: vae.transform(X),
    "transform float32": lambda vae, X: vae.transform(X.astype(np.float32)),
    "transform gaps": lambda vae, X: vae.transform(np.where(np.quantile(X, 0.9) < X, np.nan, X)),
    "score_samples": lambda vae, X: vae.score_samples(X),
    "sample": lambda vae, X: vae.sample(50, random_state=3),
    "inverse_transform": lambda vae, X: vae.inverse_transform(X[:, :3]),
    "posterior_covariance": lambda vae, X: vae.posterior_covariance(X),
    "reconstruct": lambda vae, X: vae.reconstruct(X, return_std=True)[1],
    "loadings": lambda vae, X: vae.loadings(X[:20]),
    "hotelling_t2": lambda vae, X: vae.hotelling_t2(X),
}


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_eight_threads_at_once_get_the_answers_that_one_gets(posterior, spectra):
    """Each thread makes every call, each in another order, all at the same time."""
    vae = VAETransformer(3, posterior=posterior, **small()).fit(spectra)
    alone = {name: call(vae, spectra) for name, call in CALLS.items()}
    state = vae.net_.module_.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    gate = threading.Barrier(8)

    def work(seed):
        gate.wait()
        order = np.random.RandomState(seed).permutation(list(CALLS))
        return {name: CALLS[name](vae, spectra) for _ in range(3) for name in order}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    for answer in answers:
        for name, expected in alone.items():
            np.testing.assert_array_equal(answer[name], expected, err_msg=name)
    assert all((state[name] == tensor).all() for name, tensor in before.items())


def fitted_scores(seed):
    X = curved_spectra(100, seed=seed)
    return VAETransformer(2, **small(max_iter=3)).fit(X).score_samples(X)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_every_backend_gives_the_same_bits(backend):
    alone = [fitted_scores(seed) for seed in range(4)]
    together = Parallel(n_jobs=2, backend=backend)(delayed(fitted_scores)(seed) for seed in range(4))
    np.testing.assert_array_equal(together, alone)


def test_a_search_does_not_depend_on_its_number_of_jobs(spectra):
    grid = {"n_components": [1, 3], "posterior": ["diag", "full"]}
    searches = [GridSearchCV(VAETransformer(**small()), grid, cv=2, n_jobs=jobs).fit(spectra) for jobs in (1, 2)]
    for key in ("split0_test_score", "mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[key] for search in searches))
    np.testing.assert_array_equal(*(search.transform(spectra) for search in searches))


FITS = """
import gc, sys, torch
import numpy as np
from skvae import VAETransformer
from tests.conftest import curved_spectra, small

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096

X = curved_spectra(1000, n_channels=200)
for done in range(201):
    kind = {"posterior": ["diag", "rho", "full"][done % 3], "likelihood": ["gaussian", "gaussian_isotropic"][done % 2]}
    vae = VAETransformer(3, **small(hidden_layer_sizes=(64,), max_iter=2), **kind).fit(X)
    vae.score(X[:100]), vae.transform(X), vae.sample(10)
    if done in (20, 200):
        print(resident(), len(gc.get_objects()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_hundred_fits_leave_nothing_behind():
    """From the 20th fit to the 200th memory swings by 20 MB, up and down; were rows, weights and moments of each kept,
    it would grow by 200 MB. The number of Python's objects stays what it is."""
    result = subprocess.run([sys.executable, "-c", FITS], capture_output=True, text=True, check=True)
    (early, objects_early), (late, objects_late) = (map(int, line.split()) for line in result.stdout.splitlines())
    assert late - early < 40e6
    assert objects_late - objects_early < 100


def test_a_fitted_estimator_dies_with_its_last_name(spectra):
    """No cycle through a C++ object keeps it: the collector finds all."""
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(3):
        VAETransformer(2, **small(max_iter=1)).fit(spectra)
    gc.collect()
    assert len(gc.get_objects()) - before < 100
