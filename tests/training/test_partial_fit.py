"""partial_fit: a call that fails changes nothing."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback

from skvae import VAETransformer
from skvae._io.state import map_leaves

from ..conftest import curved_spectra, small


class Failing(Callback):
    """Raises an error at one of its hooks, once it is switched on."""

    def __init__(self, hook, error):
        self.error, self.is_on = error, False
        setattr(self, hook, self.fail)

    def fail(self, net, *args, **kwargs):
        if self.is_on:
            raise self.error


class FailsInItsSecondBatch(Callback):
    """So that the first has changed weights and moments, and the second has left gradients."""

    def __init__(self, error):
        self.error, self.is_on, self.n_batches = error, False, 0

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.n_batches += self.is_on
        if self.n_batches == 2:
            raise self.error


def everything(vae):
    """All that an estimator is, as text: weights, moments, generators, attributes."""
    state = {name: value for name, value in vae.__getstate__().items() if name not in ("callbacks", "_fitted_with")}
    return repr(map_leaves(np.ndarray, lambda array: (array.dtype, array.tolist()), state))


@pytest.mark.parametrize("optimizer", [None, torch.optim.SGD])
@pytest.mark.parametrize("error", [MemoryError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_call_that_fails_half_way_changes_nothing(spectra, method, error, optimizer):
    params = None if optimizer is None else {"optimizer": optimizer, "optimizer__momentum": 0.9, "lr": 1e-4}
    callback = FailsInItsSecondBatch(error)
    vae = getattr(VAETransformer(2, **small(callbacks=[callback], net_params=params)), method)(spectra)
    twin = getattr(VAETransformer(2, **small(net_params=params)), method)(spectra)
    before, callback.is_on = everything(vae), True
    with pytest.raises(error):
        vae.partial_fit(spectra[:200])
    assert everything(vae) == before
    assert_array_equal(
        vae.partial_fit(spectra[:200]).transform(spectra), twin.partial_fit(spectra[:200]).transform(spectra)
    )


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_a_callback_may_fail_at_any_hook(spectra, hook):
    callback = Failing(hook, MemoryError)
    vae = VAETransformer(2, **small(callbacks=[callback])).partial_fit(spectra)
    before, callback.is_on = everything(vae), True
    with pytest.raises(MemoryError):
        vae.partial_fit(spectra)
    assert everything(vae) == before


@pytest.mark.parametrize("factor", [1e30, np.inf])
def test_rows_that_are_refused_change_nothing(spectra, factor):
    vae = VAETransformer(2, **small()).partial_fit(spectra)
    before = everything(vae)
    with pytest.raises(ValueError, match=r"not finite|infinity"), np.errstate(over="ignore"):
        vae.partial_fit(factor * spectra)
    assert everything(vae) == before


def test_a_first_call_that_fails_leaves_an_estimator_that_was_not_fitted():
    callback = Failing("on_epoch_end", MemoryError)
    callback.is_on = True
    vae = VAETransformer(2, **small(callbacks=[callback]))
    before = dict(vars(vae))
    with pytest.raises(MemoryError):
        vae.partial_fit(curved_spectra(50))
    assert vars(vae) == before
