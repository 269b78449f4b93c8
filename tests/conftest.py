"""Data and settings that tests share."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # read when scipy is imported; without it scikit-learn skips its array-API check

import numpy as np
import pytest
import torch

from skvae.likelihoods import LIKELIHOODS

torch.set_num_threads(1)
if not torch.cuda.is_available():  # scikit-learn's checks ask only whether torch was built for a GPU
    torch.backends.cuda.is_built = lambda: False

PLAIN_LIKELIHOODS = [name for name, kind in LIKELIHOODS.items() if kind.has_noise]  # that need no X_std


def small(**params):
    """Settings under which a fit takes a fraction of a second."""
    return {"hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0, "device": "cpu", **params}


def curved_spectra(n_rows, n_channels=60, seed=0):
    """Two Gaussian bands, one of which shifts: a curved surface that no few linear components span."""
    rng = np.random.RandomState(seed)
    axis = np.linspace(0, 1, n_channels)
    height, centre = rng.uniform(0.5, 1.5, (2, n_rows, 1)) * np.array([1.0, 0.5])[:, None, None]
    bands = height * np.exp(-((axis - centre) ** 2) / 0.02) + np.exp(-((axis - 0.8) ** 2) / 0.01)
    return 1000 * (bands + 0.02 * rng.standard_normal((n_rows, n_channels)))


def takes(likelihood, rows):
    """Whether the rows lie in a likelihood's support."""
    try:
        LIKELIHOODS[likelihood].check(rows)
    except ValueError:
        return False
    return True


def in_support(likelihood, X):
    """The rows X, counts or values in [0, 1] of their shape: the first that the likelihood takes."""
    unit = (X - X.min()) / (X.max() - X.min())
    return next(rows for rows in (X, np.round(20 * unit), unit) if takes(likelihood, rows))


@pytest.fixture(autouse=True)
def no_gpu_by_default(request, monkeypatch):
    """device="auto" is the CPU in every test but those of CUDA, so that a GPU changes nothing that they compare."""
    if request.module.__name__ != "tests.test_cuda":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="session")
def spectra():
    return curved_spectra(300)
