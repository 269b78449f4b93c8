"""Jacobians of decoders: against differentiating twice backward, in four threads, and their bits in any split."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from skvae._model.build import build_vae
from skvae.networks import ACTIVATIONS, decoder_jacobian, decoder_values
from skvae.networks._jacobian import has_rules, twice_backward


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


def user_defined(*layers):
    """A callable for `decoder`; the layers are copied, as a network may be cast."""
    return lambda n_in, n_out: nn.Sequential(nn.Linear(n_in, 20), *copy.deepcopy(layers), nn.Linear(20, n_out))


NETS = {
    **{name: {"activation": name} for name in ACTIVATIONS},
    "tanh's gelu": {"activation": lambda: nn.GELU("tanh")},
    "linear": {"hidden_layer_sizes": ()},
    "conv1d": {"decoder": "conv1d"},
    "conv2d": {"decoder": "conv2d", "input_shape": (1, 8, 6)},
    "dropout": {"decoder": user_defined(nn.Dropout(), nn.ReLU(inplace=True))},
    "plain": {"init": "random"},
    "heteroscedastic": {"likelihood": "gaussian_heteroscedastic"},
    "an unknown layer": {"decoder": user_defined(Sine())},
    "a norm": {"decoder": user_defined(nn.LayerNorm(20), nn.SiLU())},
}
WITHOUT_RULES = {"an unknown layer", "a norm"}


def decoder(name, d=3, p=48):
    """A decoder of random weights, in evaluation mode."""
    settings = {
        **{"n_components": d, "posterior": "diag", "likelihood": "gaussian_diag", "encoder": "mlp", "decoder": "mlp"},
        **{"hidden_layer_sizes": (32, 24), "activation": "silu", "input_shape": None, "init": "linear"},
        **{"precision": "float32", "mean": np.zeros(p), "scale": np.ones(p), "seed": 0},
        **NETS[name],
    }
    net = build_vae(**settings).decoder.eval()
    generator = torch.Generator().manual_seed(1)
    buffers = (tensor for name, tensor in net.named_buffers() if "start" in name or "unit" in name)
    with torch.no_grad():
        for tensor in (*net.parameters(), *buffers):
            size = 0.3 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
            tensor.copy_(size * torch.randn(tensor.shape, generator=generator))
    return net


def latents(n, d=3, dtype=torch.float64, seed=0):
    """Some beyond three units, where a network adds a constant."""
    return 1.5 * torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETS)
def test_jacobians_are_exact_to_rounding(name):
    net, z = decoder(name).double(), latents(64)
    assert has_rules(net) == (name not in WITHOUT_RULES) and (z.abs() > 3).any()
    values, jacobian = decoder_jacobian(net, z)
    with torch.no_grad():
        plain = net(z)
    torch.testing.assert_close(values, plain, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(jacobian, twice_backward(net, z)[1], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(decoder_values(net, z), plain, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NETS)
def test_a_network_in_single_precision_takes_latents_in_double(name):
    net, z = decoder(name), latents(64)
    (values, jacobian), exact = decoder_jacobian(net, z), decoder_jacobian(copy.deepcopy(net).double(), z)
    assert values.dtype == torch.float64
    torch.testing.assert_close(values, exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(jacobian.double(), exact[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["silu", "conv1d", "dropout", "an unknown layer"])
def test_four_threads_get_what_one_gets(name):
    net, parts = decoder(name), [latents(64, dtype=torch.float32, seed=seed) for seed in range(20)]
    alone = [decoder_jacobian(net, z) for z in parts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda z: decoder_jacobian(net, z), parts))
    for ours, theirs in zip(together, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtypes", [(torch.float32,) * 2, (torch.float32, torch.float64), (torch.float64,) * 2])
@pytest.mark.parametrize("name", [name for name in NETS if name not in WITHOUT_RULES])
def test_a_row_s_bits_do_not_depend_on_the_other_rows(name, dtypes):
    net, z = decoder(name).to(dtypes[0]), latents(256, dtype=dtypes[1])
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    for whole, part in zip(decoder_jacobian(net, z), decoder_jacobian(net, z[order][:128]), strict=True):
        assert torch.equal(whole[order][:128], part)
