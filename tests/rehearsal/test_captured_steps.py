"""Captured steps train to the weights of the CPU, and follow what changes between epochs."""

import copy
import gc
import itertools
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from skorch.callbacks import Callback

from skvae.likelihoods import LIKELIHOODS
from skvae.networks import NETWORKS
from skvae.objectives import OBJECTIVES
from skvae.posteriors import POSTERIORS

from ..training.changes import CHANGES, EachEpoch, Scaled, Waits, rescale, thaw
from .device import CUDAGraph, Watch
from .nets import GPU, X, assert_same_weights, assert_trains_alike, estimator, net_at_start, three_epochs

pytestmark = pytest.mark.filterwarnings("error:This training step cannot be captured")


EACH = {
    *itertools.product(["elbo"], POSTERIORS, ["gaussian"], ["mlp"]),
    *itertools.product(["elbo"], ["full"], LIKELIHOODS, ["mlp"]),
    *itertools.product(OBJECTIVES, ["full"], ["gaussian"], NETWORKS),
}


@pytest.mark.parametrize("objective, posterior, likelihood, network", sorted(EACH))
def test_every_part_trains_to_the_weights_of_the_cpu(objective, posterior, likelihood, network):
    assert_trains_alike(
        objective=objective,
        posterior=posterior,
        likelihood=likelihood,
        encoder=network,
        decoder=network,
        input_shape=(1, 4, 4),
        n_draws=1 + 2 * (objective == "iwae"),
        n_captures=int(LIKELIHOODS[likelihood].has_noise),  # with errors, steps read from the device
    )


@pytest.mark.parametrize("params", [{"kl_warmup": 2, "free_bits": 0.3}, {"n_draws": 2}, {"init": "random"}], ids=str)
def test_options_train_to_the_weights_of_the_cpu(params):
    assert_trains_alike(**params)


def test_weighted_rows_train_to_the_weights_of_the_cpu():
    def train(net, u):
        weight = torch.linspace(0.5, 1.5, len(u)).to(u.device)
        net.fit_loop((u, None), epochs=3, weights=(weight, None))

    assert_trains_alike(train)


def test_rows_with_missing_values_train_to_the_weights_of_the_cpu():
    def train(net, u):
        missing = torch.arange(u.numel()).reshape(u.shape).remainder(7).eq(0).to(u.device)
        errors = torch.zeros_like(u).masked_fill(missing, torch.inf)
        net.fit_loop((torch.stack([u.masked_fill(missing, 0.0), errors], dim=1), None), epochs=3)

    assert_trains_alike(train, n_captures=0)


def test_an_epoch_neither_waits_nor_copies():
    net, u = net_at_start(GPU, kl_warmup=2)
    three_epochs(net, u)
    n_rows = []

    def watched():
        with Watch():  # raises where a step waits or copies
            for batch in net.get_iterator(u, training=True):
                n_rows.append(len(batch[0]))
                yield batch

    net.run_single_epoch(watched_loader(net, watched()), training=True, prefix="train", step_fn=net.train_step)
    assert sum(n_rows) == len(u)


def watched_loader(net, batches):
    """Batches with the length that the warm-up of the KL asks for."""

    class Loader:
        def __len__(self):
            return 6

        def __iter__(self):
            return batches

    return Loader()


@pytest.mark.parametrize("do", CHANGES)
def test_what_a_callback_changes_is_followed(do):
    assert_trains_alike(callbacks=[EachEpoch(do)], n_captures=2 if do is thaw else 3)


def test_moments_that_are_dropped_before_the_capture():
    """With one batch an epoch, the optimizer starts anew between the warm-up and the capture."""

    def train(net, u):
        for _ in range(2):
            net.fit_loop((u, None), epochs=3)
            net._restart_optimizer()
        net.fit_loop((u, None), epochs=8)

    assert_trains_alike(train, rows=X[:8])


class Hooked(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


def test_a_gradient_that_a_hook_left_is_not_added():
    def train(net, u):
        net.callbacks_ = [("hooked", Hooked())]
        net.fit_loop((u, None), epochs=1)
        assert any(p.grad is not None for p in net.module_.parameters())
        net.callbacks_ = []
        three_epochs(net, u)

    assert_trains_alike(train)


def test_a_number_of_a_plug_in_is_followed():
    assert_trains_alike(encoder=Scaled, callbacks=[EachEpoch(rescale)], n_captures=3)


@pytest.mark.filterwarnings("default:This training step cannot be captured")
def test_a_plug_in_that_cannot_be_captured_trains_eagerly_after_one_warning():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert_trains_alike(encoder=Waits)
    said = [str(warning.message) for warning in said if "captured" in str(warning.message)]
    assert len(said) == 1 and "waits for the device: _local_scalar_dense" in said[0]


@pytest.mark.filterwarnings("default:This training step cannot be captured")
def test_after_a_failed_capture_the_next_fit_is_captured():
    with pytest.warns(RuntimeWarning, match="cannot be captured"):
        three_epochs(*net_at_start(GPU, encoder=Waits))
    assert_trains_alike()


def test_no_garbage_is_collected_in_a_capture(monkeypatch):
    collects, before = [], CUDAGraph.before
    monkeypatch.setattr(CUDAGraph, "before", lambda self, *op: (collects.append(gc.isenabled()), before(self, *op)))
    assert_trains_alike()
    assert collects and not any(collects) and gc.isenabled()


def test_a_fit_that_is_over_holds_no_graph_and_partial_fit_keeps_its_own():
    assert estimator(GPU).fit(X).net_.training_step_.captured is None
    net = estimator(GPU).partial_fit(X).net_
    captured = net.training_step_.captured
    assert captured is not None
    net.partial_fit((torch.zeros(16, 16, device=GPU), None), epochs=1)
    assert net.training_step_.captured is captured


def test_a_fit_that_fails_holds_no_graph():
    def fail(net, epoch):
        if epoch == 2:
            nets.append(net)
            raise ZeroDivisionError

    nets = []
    with pytest.raises(ZeroDivisionError):
        estimator(GPU, callbacks=[EachEpoch(fail)]).fit(X)
    assert nets[0].training_step_.captured is None


@pytest.mark.parametrize("twin_of", [lambda net: pickle.loads(pickle.dumps(net)), copy.deepcopy])
def test_the_twin_of_a_net_trains_its_own_module(twin_of):
    net, u = net_at_start(GPU)
    three_epochs(net, u)
    twin = twin_of(net)
    assert_same_weights(twin, net, rtol=0, atol=0)
    three_epochs(twin, u)
    assert twin.training_step_.module is twin.module_
    with pytest.raises(AssertionError):
        assert_same_weights(twin, net)
    three_epochs(net, u)
    assert_same_weights(twin, net)


def test_a_step_is_captured_by_the_thread_that_warmed_it_up():
    """Epochs of one batch, by two threads in turn, and then by one of them."""
    net, u = net_at_start(GPU, rows=X[:8])
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in [one, other] * 4:
            thread.submit(net.fit_loop, (u, None), epochs=1).result()
        assert net.training_step_.captured is None
        for thread in [one] * 4:
            thread.submit(net.fit_loop, (u, None), epochs=1).result()
    assert net.training_step_.captured is not None


def test_fits_in_threads_are_those_one_after_another():
    def fit(seed):
        return estimator(GPU, random_state=seed).fit(X).net_

    before = CUDAGraph.n_captures
    with ThreadPoolExecutor(2) as threads:
        at_once = list(threads.map(fit, range(2)))
    assert CUDAGraph.n_captures == before + 2
    for seed, net in enumerate(at_once):
        assert_same_weights(net, fit(seed), rtol=0, atol=0)
