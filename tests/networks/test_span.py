"""A decoder seen through the span of its last layer: against the decoder itself."""

import numpy as np
import pytest
import torch

from skvae import VAETransformer
from skvae.networks import decoder_jacobian, last_layer_span

from ..conftest import small
from .test_jacobian import decoder, latents


@pytest.mark.parametrize("name", ["silu", "tanh"])
def test_a_span_says_of_z_all_that_the_outputs_say(name):
    net, z = decoder(name).double(), latents(64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 48, generator=generator, dtype=torch.float64)
    weight = 10 ** torch.randn(48, generator=generator, dtype=torch.float64)
    span = last_layer_span(net, weight)
    inside, outside = span.project(x)
    assert inside.shape == (64, 3 + 24)
    values, jacobian = decoder_jacobian(net, z)
    seen, seen_jacobian = decoder_jacobian(span.decoder, z)
    squares = (weight * (x - values).square()).sum(1)
    torch.testing.assert_close((inside - seen).square().sum(1) + outside, squares, rtol=1e-11, atol=0)
    torch.testing.assert_close(seen_jacobian @ seen_jacobian.mT, (jacobian * weight) @ jacobian.mT, rtol=1e-10, atol=0)
    along = ((inside - seen).unsqueeze(1) * seen_jacobian).sum(2)
    torch.testing.assert_close(along, ((weight * (x - values)).unsqueeze(1) * jacobian).sum(2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name, p", [("conv1d", 48), ("heteroscedastic", 48), ("plain", 48), ("linear", 48), ("silu", 27)]
)
def test_what_has_no_narrower_span(name, p):
    assert last_layer_span(decoder(name, p=p), torch.ones(p, dtype=torch.float64)) is None


def test_scores_follow_the_weights_and_are_the_same_with_and_without_a_span():
    X = np.random.RandomState(0).standard_normal((60, 5)) @ np.random.RandomState(1).standard_normal((5, 40))
    X += 0.1 * np.random.RandomState(2).standard_normal(X.shape)
    vae = VAETransformer(2, **small(max_iter=2, hidden_layer_sizes=(16,))).fit(X)
    for _ in range(2):
        with_gap = np.vstack([X[:20], np.where(np.arange(40) == 3, np.nan, X[20])])  # a value is missing: no span
        np.testing.assert_allclose(vae.score_samples(X[:20]), vae.score_samples(with_gap)[:20], rtol=1e-5, atol=1e-3)
        before = vae.score(X)
        vae.partial_fit(X)
        assert vae.score(X) != before
