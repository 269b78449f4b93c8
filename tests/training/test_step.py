"""A training step: our AdamW against torch's, compiled and reduced-precision steps against plain ones."""

import copy
import pickle
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skvae import VAETransformer
from skvae._training import torch_private
from skvae._training.adamw import AdamW
from skvae.networks._precision import exact_products, training_products

from ..conftest import curved_spectra, small


def layers():
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    for p in net.parameters():
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))
    return net


def groups(net):
    return [{"params": [net[0].weight, net[2].weight]}, {"params": [net[0].bias, net[2].bias], "weight_decay": 0.0}]


def test_adamw_is_torch_s_adamw_also_after_a_round_trip_of_its_state():
    ours_net, theirs_net = layers(), layers()
    ours = AdamW(groups(ours_net), lr=1e-2, weight_decay=0.3)
    theirs = torch.optim.AdamW(groups(theirs_net), lr=1e-2, weight_decay=0.3, fused=True)
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    for step in range(12):
        for optimizer, net in ((ours, ours_net), (theirs, theirs_net)):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / (1 + step)
            optimizer.zero_grad()
            net(x).square().sum().backward()
        theirs.step()
        if step % 2:
            ours.step()
            assert ours_net[0].weight.grad is not None
        else:
            ours.update()
            assert ours_net[0].weight.grad is None
        if step == 5:
            state = copy.deepcopy(ours.state_dict())
            ours = AdamW(groups(ours_net), lr=1.0)
            ours.load_state_dict(state)
    for a, b in zip(ours_net.parameters(), theirs_net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_adamw_leaves_parameters_without_gradient_alone_and_takes_a_closure():
    net = layers()
    optimizer = AdamW(net.parameters(), lr=1e-2)
    before = copy.deepcopy(net.state_dict())

    def closure():
        loss = net[0](torch.ones(1, 5)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad
    assert torch.equal(net[2].weight, before["2.weight"])
    assert not torch.equal(net[0].weight, before["0.weight"])


class Seen(Callback):
    def on_batch_end(self, net, **kwargs):
        self.n = getattr(self, "n", 0) + 1


def test_steps_with_callbacks_are_the_steps_without(spectra):
    """Batch callbacks take skorch's own way through a step."""
    seen = Seen()
    plain, hooked = (
        VAETransformer(3, **small(callbacks=callbacks)).fit(spectra).transform(spectra) for callbacks in (None, [seen])
    )
    assert seen.n > 0
    np.testing.assert_array_equal(plain, hooked)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_steps_agree_with_eager_ones_and_copies_train_on():
    X = curved_spectra(70)  # the last batch is smaller
    eager, compiled = (VAETransformer(2, **small(max_iter=3, compile=c, refit=False)).fit(X) for c in (False, True))
    np.testing.assert_allclose(compiled.transform(X), eager.transform(X), atol=1e-3)
    assert compiled.score(X) == pytest.approx(eager.score(X), abs=0.05)
    twin = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_array_equal(twin.transform(X), compiled.transform(X))
    assert np.isfinite(twin.partial_fit(X).score(X))
    assert not any("_orig_mod" in name for name in compiled.net_.module_.state_dict())


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precision_leaves_the_start_and_inference_exact_and_the_score_close(precision):
    """Within 2 nats of float32 after training, where training gains more than 20; on the CPU tf32 changes nothing."""
    train, test = curved_spectra(400), curved_spectra(200, seed=1)
    settings = {"n_components": 2, "random_state": 0, "max_iter": 40}
    start, reduced_start = (VAETransformer(2, max_iter=0, precision=p).fit(train) for p in ("float32", precision))
    np.testing.assert_array_equal(start.transform(test), reduced_start.transform(test))
    exact, reduced = (VAETransformer(**settings, precision=p).fit(train) for p in ("float32", precision))
    assert exact.score(test) > start.score(test) + 20
    assert reduced.score(test) == pytest.approx(exact.score(test), abs=2)
    assert np.array_equal(exact.transform(test), reduced.transform(test)) == (precision == "tf32")


def test_tf32_puts_the_process_s_setting_back(spectra):
    class Fail(Callback):
        def on_batch_end(self, net, **kwargs):
            raise RuntimeError("stop here")

    def setting():
        return getattr(torch.backends.cuda.matmul, "fp32_precision", torch.backends.cuda.matmul.allow_tf32)

    before = setting()
    VAETransformer(2, **small(precision="tf32")).fit(spectra)
    assert setting() == before
    with pytest.raises(RuntimeError, match="stop here"):
        VAETransformer(2, **small(precision="tf32", callbacks=[Fail()])).fit(spectra)
    assert setting() == before


def test_tf32_has_the_same_value_under_both_of_torch_s_names():
    """Where they differ, reading the older one raises, as torch.compile does on torch 2.9 and 2.10."""
    with training_products("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32 and torch.get_float32_matmul_precision() == "high"
        with exact_products("tf32"):
            assert not torch.backends.cuda.matmul.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("params", [{}, {"kl_warmup": 2}, {"compile": True}], ids=str)
def test_the_pickle_of_a_net_trains_its_own_module(spectra, params):
    net = VAETransformer(2, **small(**params, max_iter=1)).partial_fit(spectra).net_
    twin = pickle.loads(pickle.dumps(net))
    assert twin.training_step_.module is twin.module_ and twin.training_step_.optimizer is twin.optimizer_
    u = torch.randn(100, 60, generator=torch.Generator().manual_seed(0))
    for each in (net, twin):
        each.fit_loop((u, None), epochs=2)
    for ours, theirs in zip(net.module_.parameters(), twin.module_.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_gradient_that_a_hook_left_is_not_added_to_the_next(spectra):
    """An epoch with a batch hook leaves the gradients of its last step."""

    class Hooked(Callback):
        def on_batch_end(self, net, **kwargs):
            pass

    nets = [VAETransformer(2, **small(max_iter=0)).fit(spectra).net_ for _ in range(2)]
    u = torch.randn(100, 60, generator=torch.Generator().manual_seed(0))
    for net, drops in zip(nets, (False, True), strict=True):
        net.callbacks_ = [("hooked", Hooked())]
        net.fit_loop((u, None), epochs=1)
        assert any(p.grad is not None for p in net.module_.parameters())
        net.callbacks_ = []
        if drops:
            net.optimizer_.zero_grad()
        net.fit_loop((u, None), epochs=1)
    for ours, theirs in zip(*(net.module_.parameters() for net in nets), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rate_on_device", [False, True])
def test_the_public_adamw_stands_in_for_the_private_kernel(monkeypatch, rate_on_device):
    """Number for number, also where several parameters share one count of steps."""
    nets = layers(), layers()
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    for net, kernel in zip(nets, (torch_private._fused_kernel, None), strict=True):
        monkeypatch.setattr(torch_private, "_fused_kernel", kernel)
        optimizer = AdamW(groups(net), lr=torch.tensor(1e-2) if rate_on_device else 1e-2, weight_decay=0.3)
        for _ in range(5):
            net(x).square().sum().backward()
            optimizer.update()
        assert {group["step"].item() for group in optimizer.param_groups} == {5.0}
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


class PlainDescent(torch.optim.Optimizer):
    """An optimizer whose `step` takes no closure."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])


class NeedsClosure(torch.optim.SGD):
    """An optimizer that evaluates the loss itself, as LBFGS does."""

    def step(self, closure):
        return super().step(closure)


class CountsBatches(Callback):
    n_batches = 0

    def on_batch_end(self, net, **kwargs):
        self.n_batches += 1


@pytest.mark.parametrize("has_hook", [False, True])
@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, foreach=False), PlainDescent, NeedsClosure])
def test_any_optimizer_takes_the_steps_of_gradient_descent(spectra, optimizer, has_hook):
    settings = small(max_iter=2, learning_rate_init=1e-6, validation_fraction=None)
    callback = CountsBatches()
    callbacks = [callback] if has_hook else None
    ours, theirs = (
        VAETransformer(2, net_params={"optimizer": kind}, callbacks=callbacks, **settings).fit(spectra)
        for kind in (optimizer, torch.optim.SGD)
    )
    np.testing.assert_allclose(ours.transform(spectra), theirs.transform(spectra), rtol=1e-5, atol=1e-6)
    assert ours.score(spectra) != VAETransformer(2, **{**settings, "max_iter": 0}).fit(spectra).score(spectra)
    assert callback.n_batches == (2 * 2 * 19 if has_hook else 0)
