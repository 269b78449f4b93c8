"""skorch's callbacks: each of its own does its work, or is refused by its name with what does that work."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch import callbacks
from skorch.callbacks import Callback

from skvae import VAETransformer
from skvae._parameters import SKORCH_CALLBACKS

from ..conftest import small

SGD = {"optimizer": torch.optim.SGD, "lr": 1e-5, "lr_scheduler": None}


def fitted_with(X, *given, **params):
    return VAETransformer(2, **small(refit=False, callbacks=list(given), **params)).fit(X)


def the_base_changes_nothing(X, monkeypatch, capsys):
    assert np.array_equal(fitted_with(X, Callback).transform(X), fitted_with(X).transform(X))


def epochs_are_timed(X, monkeypatch, capsys):
    monkeypatch.setattr("skorch.callbacks.logging.time", SimpleNamespace(time=itertools.count().__next__))
    history = fitted_with(X, ("timer", callbacks.EpochTimer)).history_
    assert [row.get("dur") for row in history] == [None, 1, 1, 1, 1, 1]


def gradients_are_clipped(X, monkeypatch, capsys):
    class Norms(Callback):
        def on_train_begin(self, net, X, y, **kwargs):
            self.seen = []

        def on_grad_computed(self, net, named_parameters, **kwargs):
            gradients = [p.grad.flatten() for _, p in named_parameters if p.grad is not None]
            self.seen.append(float(torch.cat(gradients).norm()))

    norms, most = Norms(), 0.5
    fitted_with(X, norms, net_params=SGD)
    assert min(norms.seen) > most
    fitted_with(X, callbacks.GradientNormClipping(most), norms, net_params=SGD)
    assert np.allclose(norms.seen, most, rtol=1e-5)


def epochs_are_printed(X, monkeypatch, capsys):
    history = fitted_with(X, callbacks.PrintLog(), early_stopping=True).history_
    header, _, *rows = capsys.readouterr().out.splitlines()
    names = header.split()
    assert names == ["epoch", "train_kl", "train_loss", "valid_score", "dur"] and len(rows) == len(history) - 1
    for row, shown in zip(history[1:], rows, strict=True):
        assert np.allclose([row[name] for name in names], [float(value) for value in shown.split()], atol=6e-5)
    fitted_with(X, callbacks.PrintLog(), net_params={"verbose": 0})
    fitted_with(X)
    assert capsys.readouterr().out == ""


def epochs_reach_the_board(X, monkeypatch, capsys):
    seen = {}
    writer = SimpleNamespace(
        add_scalar=lambda tag, scalar_value, global_step: seen.update({(global_step, tag): scalar_value}),
        close=lambda: None,
    )
    history = fitted_with(X, callbacks.TensorBoard(writer, key_mapper=str)).history_
    numbers = [(row["epoch"], name, value) for row in history[1:] for name, value in row.items()]
    assert seen == {(epoch, name): value for epoch, name, value in numbers if name not in ("epoch", "batches")}


WORKING = {
    "Callback": the_base_changes_nothing,
    "EpochTimer": epochs_are_timed,
    "GradientNormClipping": gradients_are_clipped,
    "PrintLog": epochs_are_printed,
    "TensorBoard": epochs_reach_the_board,
}
REFUSED = sorted(name for name, instead in SKORCH_CALLBACKS.items() if instead is not None)


@pytest.mark.parametrize("name", callbacks.__all__)
def test_each_of_skorch_s_own_works_or_is_refused(spectra, monkeypatch, capsys, name):
    if SKORCH_CALLBACKS[name] is None:
        WORKING[name](spectra, monkeypatch, capsys)
        return
    kind = getattr(callbacks, name)
    instance = kind.__new__(kind)  # some need a service's client to be made
    for given, method in itertools.product((kind, instance, (name, kind), (name, instance)), ("fit", "partial_fit")):
        vae = VAETransformer(2, **small(callbacks=[Callback(), given]))
        with pytest.raises(ValueError, match=re.escape(f"skorch's {name}: use {SKORCH_CALLBACKS[name]}.")):
            getattr(vae, method)(spectra)
        assert not hasattr(vae, "net_")


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_the_work_is_there(name):
    known = {*VAETransformer().get_params(), "save", "set_callbacks", "history_", "Callback"}
    assert known & set(re.findall(r"\w+", SKORCH_CALLBACKS[name]))


def test_a_subclass_is_the_user_s_own(spectra):
    class Stopping(callbacks.EarlyStopping):
        pass

    stop = Stopping("train_loss", patience=2, threshold=1e6, threshold_mode="abs")
    assert fitted_with(spectra, stop, max_iter=30).n_iter_ == 3


@pytest.mark.parametrize("given", ["all", 3, SimpleNamespace(on_fit_task_end=None), ("name", int)])
def test_what_is_no_callback_of_skorch_s_is_refused(spectra, given):
    with pytest.raises(TypeError, match=r"no callback of skorch's. Scikit-learn's go into set_callbacks"):
        fitted_with(spectra, given)


def test_a_callback_that_is_none_is_left_out_as_in_skorch(spectra):
    assert fitted_with(spectra, ("off", None)).net_.callbacks_ == []
