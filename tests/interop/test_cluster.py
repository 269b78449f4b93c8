"""Searches on dask clusters of separate processes: loky's results, one thread each, and one that dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pytest
import torch
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, KFold

from skvae import VAESearchCV, VAETransformer

from ..conftest import curved_spectra, small

GRID = {"n_components": [1, 2, 3], "posterior": ["diag", "rho"]}


@contextmanager
def local_cluster(folder):
    """Two worker processes of one thread, which dask starts and looks after."""
    with (
        LocalCluster(
            2, processes=True, threads_per_worker=1, dashboard_address=None, local_directory=folder
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def workers_over_tcp(folder):
    """A scheduler and two workers on the loopback, each a command of its own, as on a cluster of machines."""
    processes = []

    def start(*command):
        processes.append(subprocess.Popen([sys.executable, "-m", "dask", *map(str, command)], start_new_session=True))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", folder / "s.json")
        while not (folder / "s.json").exists():
            time.sleep(0.1)
        with Client(scheduler_file=folder / "s.json") as client:
            address = client.scheduler.address
            for name in "ab":
                start("worker", address, "--nthreads", 1, "--name", name, "--no-dashboard", "--local-directory", folder)
            client.wait_for_workers(2, timeout=60)
            yield client
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


CLUSTERS = pytest.mark.parametrize("cluster", [local_cluster, workers_over_tcp])


@pytest.fixture(scope="module")
def X():
    return curved_spectra(400, 20)


def search(X, cv=2, Search=GridSearchCV, **params):
    return Search(VAETransformer(**small(**params)), GRID, cv=cv).fit(X)


@pytest.mark.parametrize("Search", [GridSearchCV, VAESearchCV])
@CLUSTERS
def test_a_search_on_a_cluster_gives_loky_s_results(X, tmp_path, cluster, Search):
    """Also where models are trained together at home, and sent to the workers for their scores."""
    with parallel_config("loky", n_jobs=2):
        here = search(X, Search=Search)
    with cluster(tmp_path) as client, parallel_config("dask"):
        threads = client.run(torch.get_num_threads)
        assert len(threads) == 2 and set(threads.values()) == {1}
        assert os.getpid() not in client.run(os.getpid).values()
        there = search(X, Search=Search)
    np.testing.assert_array_equal(there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])
    assert there.best_params_ == here.best_params_
    np.testing.assert_array_equal(there.transform(X), here.transform(X))


@CLUSTERS
def test_a_worker_that_is_killed_in_mid_search_costs_its_task_alone(X, tmp_path, cluster):
    """Kill -9 to a worker that is at work; its nanny starts another, and its fits are done again.

    joblib puts each array of over a kilobyte on one worker, whose death would lose it, unless `scatter` names it; and
    dask's memory manager, in time, leaves one copy of what is on all.
    """
    slow = {"max_iter": 60, "validation_fraction": None}
    folds = list(KFold(2).split(X))
    here = search(X, folds, **slow)
    with cluster(tmp_path) as client, parallel_config("dask", scatter=[X, *chain(*folds)]):
        client.amm.stop()
        workers = client.run(os.getpid)
        killed = []

        def kill():
            while not killed:
                busy = [address for address, tasks in client.processing().items() if tasks]
                if busy:
                    time.sleep(0.5)
                    killed.append(workers[busy[0]])
                    os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        there = search(X, folds, **slow)
        killer.join()
        assert killed and killed[0] not in client.run(os.getpid).values()
    np.testing.assert_array_equal(there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(there.transform(X), here.transform(X))
