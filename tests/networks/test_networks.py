"""Networks: shapes for any length, weights from a private generator, the linear start around each of them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch import nn

from skvae import VAETransformer
from skvae.networks import NETWORKS, LinearResidual, Network, PlainNetwork, draw_weights, fan_in, weighted_layers

from ..conftest import curved_spectra, small

IMAGES = [(1, 8, 8), (3, 4, 4), (1, 7, 5), (2, 28, 28)]
LENGTHS = [1, 2, 9, 60, 257]
KINDS = [(name, length, None) for name in NETWORKS if name != "conv2d" for length in LENGTHS]
KINDS += [("conv2d", int(np.prod(shape)), shape) for shape in IMAGES]


@pytest.mark.parametrize("name, n_features, shape", KINDS)
@pytest.mark.parametrize("per_feature", [1, 2])
@pytest.mark.parametrize("sizes", [(), (16,), (24, 12)])
def test_shapes_are_met_exactly(name, n_features, shape, per_feature, sizes):
    kind = NETWORKS[name](n_features, sizes, "relu", shape)
    encoder, decoder = kind.encoder(7), kind.decoder(3, per_feature * n_features)
    generator = torch.Generator().manual_seed(0)
    for net in (encoder, decoder):
        draw_weights(net, generator)
    assert encoder(torch.rand(5, n_features)).shape == (5, 7)
    assert decoder(torch.rand(5, 3)).shape == (5, per_feature * n_features)
    widths = [layer.out_features for layer in weighted_layers(encoder) if isinstance(layer, nn.Linear)]
    assert widths == [*sizes, 7]


@pytest.mark.parametrize("name, n_features, shape", [("conv1d", 60, None), ("conv2d", 64, (1, 8, 8))])
def test_convolutions_see_neighbours_in_the_shape_of_a_row(name, n_features, shape):
    """One input reaches a filter's length of the first layer's outputs, those around it, and no other."""
    kind = NETWORKS[name](n_features, (), "identity", shape)
    net = kind.encoder(1)[:2]
    draw_weights(net, torch.Generator().manual_seed(0))
    at = n_features // 2 + 2
    x = torch.zeros(1, n_features)
    x[0, at] = 1.0
    reached = (net(x) - net(torch.zeros(1, n_features)))[0].abs().sum(0) > 0
    axes = [n_features] if shape is None else list(shape[1:])
    centre = np.unravel_index(at, axes)
    for axis, (c, n) in enumerate(zip(centre, axes, strict=True)):
        seen = np.flatnonzero(reached.numpy().any(axis=tuple(i for i in range(len(axes)) if i != axis)))
        places = kind.stride * seen - kind.padding
        assert (places <= c).all() and (places + kind.kernel > c).all() and len(seen) < n


def test_fan_in_is_the_number_of_inputs_that_meet_in_an_output():
    """By the sum of a layer's output for inputs and weights of one, inside the borders."""
    for layer in (nn.Linear(7, 3), nn.Conv1d(2, 3, 9, 4), nn.Conv2d(2, 3, 4, 2), nn.ConvTranspose2d(5, 3, 4, 2)):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        x = (
            torch.ones(1, 7)
            if isinstance(layer, nn.Linear)
            else torch.ones(1, layer.in_channels, *[41] * (layer.weight.ndim - 2))
        )
        y = layer(x).detach().reshape(-1)
        assert y.median() == fan_in(layer)


@pytest.mark.parametrize(
    "name, n_features, shape", [("mlp", 60, None), ("conv1d", 60, None), ("conv2d", 64, (1, 8, 8))]
)
def test_weights_keep_the_size_of_what_passes_and_leave_global_generators_alone(name, n_features, shape):
    state = torch.get_rng_state()
    kind = NETWORKS[name](n_features, (64, 64), "relu", shape)
    x = torch.randn(200, n_features, generator=torch.Generator().manual_seed(1))
    net = kind.encoder(50)
    draw_weights(net, torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())
    assert 0.2 < net(x).square().mean() < 5
    draw_weights(net, torch.Generator().manual_seed(0), last_gain=0.0)
    assert (net(x) == 0).all()


def bottleneck(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 20), nn.Tanh(), nn.Linear(20, n_out))


NETS = [{"encoder": name, "decoder": name, "input_shape": (1, 8, 8)} for name in NETWORKS] + [
    {"encoder": bottleneck, "decoder": bottleneck},
    {"encoder": "conv1d", "decoder": "mlp"},
]


@pytest.mark.parametrize("nets", NETS)
def test_the_linear_start_is_exact_around_any_network(nets):
    X = np.random.RandomState(0).standard_normal((300, 64)) @ np.diag(np.linspace(3, 1, 64))
    start = VAETransformer(3, max_iter=0, **nets, **{"likelihood": "gaussian_isotropic", "device": "cpu"}).fit(X)
    assert start.score(X) == pytest.approx(PCA(3).fit(X).score(X), abs=1e-2)
    start.set_params(likelihood="gaussian_diag").fit(X)
    assert start.score(X) >= FactorAnalysis(3, tol=1e-6, max_iter=5000).fit(X).score(X) - 1e-2


@pytest.mark.parametrize("nets", NETS)
def test_copies_are_exact_and_global_generators_left_alone(nets):
    X = curved_spectra(80, n_channels=64)
    torch_state = torch.get_rng_state()
    vae = VAETransformer(2, **nets, **small(max_iter=2)).fit(X)
    again = VAETransformer(2, **nets, **small(max_iter=2)).fit(X)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(vae.transform(X), again.transform(X))
    twins = pickle.loads(pickle.dumps(vae)), copy.deepcopy(vae)
    for twin in twins:
        assert np.array_equal(vae.transform(X), twin.transform(X)) and vae.score(X) == twin.score(X)
    trained = [model.partial_fit(X).transform(X) for model in (vae, *twins)]
    assert np.array_equal(trained[0], trained[1]) and np.array_equal(trained[0], trained[2])


def test_rows_do_not_depend_on_each_other_in_any_network():
    X = curved_spectra(50, n_channels=64)
    for nets in NETS:
        vae = VAETransformer(2, **nets, **small(max_iter=2)).fit(X)
        np.testing.assert_allclose(vae.transform(X)[:7], vae.transform(X[:7]), atol=1e-10)


def test_convolutions_gain_on_spectra_whose_bands_shift():
    """Held out, each kind alone in both places: ahead of factor analysis, as the perceptron is."""
    train, test = curved_spectra(400, n_channels=64), curved_spectra(200, n_channels=64, seed=1)
    linear = FactorAnalysis(2).fit(train).score(test)
    for name in NETWORKS:
        settings = small(max_iter=60, hidden_layer_sizes=(64,), input_shape=(1, 8, 8))
        assert VAETransformer(2, encoder=name, decoder=name, **settings).fit(train).score(test) > linear + 5


def test_a_random_start_is_the_networks_alone(spectra):
    vae = VAETransformer(2, init="random", **small()).fit(spectra)
    assert isinstance(vae.net_.module_.encoder, PlainNetwork)
    assert isinstance(VAETransformer(2, **small()).fit(spectra).net_.module_.encoder, LinearResidual)


def test_input_shape_may_be_an_array():
    X = curved_spectra(40, n_channels=64)
    for shape in (np.array([1, 8, 8]), [1, 8, 8]):
        assert VAETransformer(2, encoder="conv2d", input_shape=shape, **small(max_iter=1)).fit(X).n_iter_ == 1


def test_a_network_of_ones_own_has_other_weights_in_the_decoder(spectra):
    vae = VAETransformer(2, encoder=bottleneck, decoder=bottleneck, **small(max_iter=0)).fit(spectra)
    weights = [net.net.net[2].bias[:4] for net in (vae.net_.module_.encoder, vae.net_.module_.decoder)]
    assert not torch.allclose(*weights)


def test_a_linear_model_has_no_network(spectra):
    vae = VAETransformer(2, **small(hidden_layer_sizes=())).fit(spectra)
    assert vae.net_.module_.encoder.net is None
    z = vae.transform(spectra[:3])
    np.testing.assert_allclose(vae.transform(spectra[:3].mean(0, keepdims=True))[0], z.mean(0), atol=1e-8)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"encoder": "conv2d"}, "input_shape"),
        ({"decoder": "conv2d", "input_shape": (60,)}, "input_shape"),
        ({"encoder": "conv2d", "input_shape": (1, 8, 8)}, "60 features"),
        ({"encoder": "conv2d", "input_shape": (20, 3, 1)}, "4 x 4"),
        ({"encoder": "conv3d"}, "conv1d"),
        ({"encoder": "conv2d", "input_shape": (1, 7.5, 8)}, "input_shape"),
        ({"encoder": lambda n_in, n_out: nn.Linear(n_in, n_out + 1)}, r"encoder=.*\(60, 4\) gives one"),
        ({"decoder": lambda n_in, n_out: nn.Linear(n_in, 1)}, r"decoder=.*\(2, 60\) gives one"),
        ({"encoder": lambda n_in, n_out: nn.Linear(n_in + 1, n_out)}, "encoder="),
        ({"encoder": nn.Linear(60, 4)}, "encoder="),
        ({"decoder": NETWORKS["conv1d"]}, "decoder="),
        ({"decoder": lambda n_in, n_out: None}, "decoder="),
    ],
)
def test_networks_that_cannot_be_are_refused_and_nothing_is_lost(params, message, spectra):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    before = vae.transform(spectra)
    with pytest.raises(ValueError, match=message):
        vae.set_params(**params).fit(spectra)
    assert np.array_equal(vae.transform(spectra), before)


def test_table_is_complete():
    def below(cls):
        return {cls} | {found for sub in cls.__subclasses__() for found in below(sub)}

    ours = {cls for cls in below(Network) if cls.__module__.startswith("skvae.") and not cls.__subclasses__()}
    assert ours == set(NETWORKS.values())
