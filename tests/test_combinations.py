"""Every objective with every posterior, likelihood and network: sixty steps, finite and improving."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from skvae import VAETransformer
from skvae._data.rows import Rows
from skvae._training.fit import to_device
from skvae.networks import NETWORKS
from skvae.objectives import OBJECTIVES
from skvae.posteriors import POSTERIORS

from .conftest import PLAIN_LIKELIHOODS, in_support


def own_network(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.ELU(), nn.Linear(8, n_out))


def moving_band(n_rows=64, n_channels=16):
    """Spectra of one band whose place differs: few linear components do not follow it, so there is much to gain."""
    rng = np.random.RandomState(0)
    centre = rng.uniform(0.2, 0.8, (n_rows, 1))
    axis = np.linspace(0, 1, n_channels)
    return 50 * (np.exp(-((axis - centre) ** 2) / 0.01) + 0.02 * rng.standard_normal((n_rows, n_channels)))


ROWS = {name: in_support(name, moving_band()) for name in PLAIN_LIKELIHOODS}
NOISE = torch.randn(64, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "objective, posterior, likelihood, network",
    list(itertools.product(OBJECTIVES, POSTERIORS, PLAIN_LIKELIHOODS, [*NETWORKS, own_network])),
)
def test_trains(objective, posterior, likelihood, network):
    """The objective of the rows trained on, over 64 draws of the same noise, rises; what the model gives is finite."""
    rows = ROWS[likelihood]
    vae = VAETransformer(
        3,
        objective=objective,
        posterior=posterior,
        likelihood=likelihood,
        encoder=network,
        decoder=network,
        input_shape=(1, 4, 4),
        hidden_layer_sizes=(8,),
        n_draws=1 + (objective == "iwae"),
        n_importance_samples=2,
        learning_rate_init=1e-2,
        batch_size=64,
        validation_fraction=None,
        device="cpu",
        random_state=0,
    )
    before, after = (
        vae.set_params(max_iter=steps).fit(rows).net_.score_rows(to_device(vae.net_, Rows(rows)), NOISE).mean()
        for steps in (0, 60)
    )
    assert after > before
    z = vae.transform(rows)
    for array in (z, vae.inverse_transform(z), vae.score_samples(rows), vae.sample(5, random_state=0)):
        assert np.isfinite(array).all()
