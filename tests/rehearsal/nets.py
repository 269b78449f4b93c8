"""Nets that are trained on the CPU and on the device that is none, from the same start and with the same batches."""

import numpy as np
import torch

from skvae import VAETransformer
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows, is_uneven
from skvae._training.fit import new_net, start_linear, to_device
from skvae.likelihoods import LIKELIHOODS

from ..conftest import curved_spectra, in_support, small
from .device import CUDAGraph

X = curved_spectra(45, 16)
GPU = "gpu:0"


def estimator(device, **params):
    few = {"max_iter": 2, "batch_size": 8, "hidden_layer_sizes": (8,), "n_importance_samples": 5}
    return VAETransformer(3, **small(**few | {"device": device} | params))


def net_at_start(device, rows=None, **params):
    """A net at its linear start, and the rows, which the likelihood takes, with errors where it has no noise itself."""
    likelihood = params.get("likelihood", "gaussian")
    values = in_support(likelihood, X if rows is None else rows)
    rows = Rows(values) if LIKELIHOODS[likelihood].has_noise else Rows(values, errors=Rows(np.full_like(values, 0.1)))
    vae = estimator(device, **params)
    net = new_net(vae, FitData(rows, is_uneven=is_uneven(rows)), 0)
    u = to_device(net, rows, is_uneven=is_uneven(rows))
    start_linear(net, vae, u)
    return net, u


def weights(net):
    return {name: getattr(p, "held", p).detach() for name, p in net.module_.named_parameters()}


def assert_same_weights(net, other, **tolerance):
    torch.testing.assert_close(weights(net), weights(other), **(tolerance or {"rtol": 1e-4, "atol": 2e-5}))


def three_epochs(net, u):
    net.fit_loop((u, None), epochs=3, cycle=3)


def assert_trains_alike(train=three_epochs, rows=None, n_captures=1, **params):
    """The same weights on the CPU and on the device, on which steps were captured so many times."""
    nets = [net_at_start(device, rows, **params) for device in ("cpu", GPU)]
    train(*nets[0])
    before = CUDAGraph.n_captures
    train(*nets[1])
    assert CUDAGraph.n_captures == before + n_captures
    assert_same_weights(nets[0][0], nets[1][0])
