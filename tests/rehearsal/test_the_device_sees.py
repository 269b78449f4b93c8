"""Mistakes that the device must see: each, put into the code, makes a test fail."""

import pytest
import torch

from skvae._training.batches import BatchLoader
from skvae._training.captured_step import CUDAGraphStep
from skvae._training.step import Step
from skvae.objectives import InfoVAE

from ..training.changes import EachEpoch, anneal
from .device import Watch
from .nets import GPU, assert_trains_alike, net_at_start, three_epochs

pytestmark = pytest.mark.filterwarnings("error:This training step cannot be captured")


def test_operations_on_two_devices():
    here, there = torch.ones(3), torch.ones(3, device=GPU)
    for wrong in (
        lambda: here + there,
        lambda: there.numpy(),
        lambda: here[torch.tensor([0], device=GPU)],
        lambda: torch.randn(2, device=GPU, generator=torch.Generator()),
        lambda: torch.nn.Linear(3, 1)(there),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            wrong()
    assert (2 * there - torch.tensor(1.0)).tolist() == [1, 1, 1]


def test_waits_and_copies_where_they_are_watched():
    there, mask = torch.ones(3, device=GPU), torch.ones(3, dtype=torch.bool, device=GPU)
    for waits in (
        lambda: there.sum().item(),
        lambda: there.cpu(),
        lambda: torch.tensor([1.0], device=GPU),
        lambda: there[mask],
        lambda: there[[0, 1]],
        lambda: there.tolist(),
    ):
        waits()
        with Watch(), pytest.raises(RuntimeError, match="waits"):
            waits()


def test_a_host_copy_in_a_step(monkeypatch):
    mixture = InfoVAE._mixture
    monkeypatch.setattr(InfoVAE, "_mixture", lambda self, z: mixture(InfoVAE(), z))  # made anew in each step
    with pytest.raises(RuntimeWarning, match="between the host and the device"):
        assert_trains_alike(objective="info")


def test_a_generator_of_the_cpu(monkeypatch):
    def init(self, u, batch_size, n_draws, n_components, generator, weight=None):
        begin(self, u, batch_size, n_draws, n_components, torch.Generator(), weight)

    begin = BatchLoader.__init__
    monkeypatch.setattr(BatchLoader, "__init__", init)
    with pytest.raises(RuntimeError, match="generator"):
        three_epochs(*net_at_start(GPU))


def test_a_number_that_only_python_changes(monkeypatch):
    """Every step scales its noise by a number of its own, which no key knows."""
    plain = Step.gradients

    def gradients(self, u, eps, *options, **further):
        self.n_calls = getattr(self, "n_calls", 0) + 1
        return plain(self, u, eps * (1 + self.n_calls % 7), *options, **further)

    monkeypatch.setattr(Step, "gradients", gradients)
    with pytest.raises(AssertionError, match="not close"):
        assert_trains_alike()


def test_memory_that_was_given_back(monkeypatch):
    """The step loses the input that its graph reads."""
    replay = CUDAGraphStep.__call__

    def call(self, *batch, **options):
        if self.captured is not None:
            self.captured.inputs = tuple(tensor.clone() for tensor in batch)
        return replay(self, *batch, **options)

    monkeypatch.setattr(CUDAGraphStep, "__call__", call)
    with pytest.raises(AssertionError, match="given back"):
        assert_trains_alike()


def test_a_key_that_knows_too_little(monkeypatch):
    monkeypatch.setattr(CUDAGraphStep, "_key", lambda self: ())
    with pytest.raises(AssertionError, match="not close"):
        assert_trains_alike(callbacks=[EachEpoch(anneal)])
