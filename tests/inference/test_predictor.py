"""A predictor is made once per dtype and model, and never answers with numbers of another model."""

import pickle

import numpy as np
import pytest
import torch

import skvae._inference.predictor
from skvae import VAETransformer

from ..conftest import curved_spectra, small


def answers(vae, X):
    Z = vae.transform(X)
    return Z, vae.inverse_transform(Z), vae.score_samples(X), vae.sample(4, random_state=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictors_are_kept_and_follow_every_change_of_the_model(dtype):
    """As a copy of the estimator answers, which has no predictor yet."""
    X = curved_spectra(90).astype(dtype)
    vae = VAETransformer(2, warm_start=True, **small(max_iter=2)).fit(X)

    def edit(weight):
        weight.data.mul_(1.5)

    def edit_in_place(weight):
        with torch.no_grad():
            weight.add_(0.1)

    changes = [
        lambda: None,
        lambda: vae.partial_fit(X),
        lambda: vae.fit(X),
        lambda: edit(vae.net_.module_.decoder.weight),
        lambda: edit_in_place(vae.net_.module_.encoder.net[0].weight),
        lambda: vae.net_.module_.load_state_dict(VAETransformer(2, **small()).fit(2 * X).net_.module_.state_dict()),
    ]
    before = answers(vae, X)
    for i, change in enumerate(changes):
        change()
        ours, fresh = answers(vae, X), answers(pickle.loads(pickle.dumps(vae)), X)
        for a, b in zip(ours, fresh, strict=True):
            np.testing.assert_array_equal(a, b)
        if i != 2:  # a fit may keep the weights that it started from
            assert (i == 0) == np.array_equal(ours[1], before[1])
        before = ours
    kept = vae._predictor(np.dtype(dtype))
    vae.transform(X)
    assert vae._predictor(np.dtype(dtype)) is kept


def test_predictors_are_in_no_pickle(spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    before = len(pickle.dumps(vae))
    answers(vae, spectra)
    assert vae._predictors and not {"_predictors", "_trained_fit"} & set(vae.__getstate__())
    assert len(pickle.dumps(vae)) == before


def test_encoding_complete_rows_copies_no_module(spectra, monkeypatch):
    X = spectra.astype(np.float64)
    vae = VAETransformer(2, **small(max_iter=1)).fit(X)
    methods = vae.transform, vae.posterior_covariance, vae.hotelling_t2
    expected = [method(X) for method in methods]

    def never(module):
        raise AssertionError("a module was copied")

    vae._predictors.clear()
    monkeypatch.setattr(skvae._inference.predictor, "double_copy", never)
    for method, before in zip(methods, expected, strict=True):
        np.testing.assert_array_equal(method(X), before)
    with pytest.raises(AssertionError, match="a module was copied"):
        vae.inverse_transform(expected[0])
