"""From the parameters that decide the architecture to a `VAEModule`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..likelihoods import LIKELIHOODS
from ..networks import (
    NETWORKS,
    Gated,
    LinearResidual,
    PlainNetwork,
    custom_network,
    draw_weights,
    fan_in,
    weighted_layers,
)
from ..posteriors import POSTERIORS
from .module import VAEModule
from .torch_defaults import float32_by_default

HEAD_GAIN = 0.1  # of an encoder's covariance outputs, so that posteriors start near their family's identity


def lookup(table, option):
    """The class that an option names, or the option itself where it is a class."""
    return table[option] if isinstance(option, str) else option


@float32_by_default()
def build_vae(
    *,
    n_components,
    posterior,
    likelihood,
    encoder,
    decoder,
    input_shape,
    hidden_layer_sizes,
    activation,
    init,
    precision,
    mean,
    scale,
    seed,
):
    """Return a `VAEModule` whose linear maps are zero and whose networks are drawn from `seed`.

    Parameters
    ----------
    n_components, posterior, likelihood, encoder, decoder, input_shape, hidden_layer_sizes, activation, precision
        As `VAETransformer` has them.
    init : {"linear", "random"}
        "linear": networks have a linear map beside them. Where the likelihood has a linear model to start at, the
        networks then start by adding nothing to it.
    mean, scale : ndarray of shape (n_features,)
        Of X's columns.
    seed : int
    """
    n_features = len(mean)
    posterior, likelihood = lookup(POSTERIORS, posterior), lookup(LIKELIHOODS, likelihood)
    mean, scale = torch.tensor(mean, device="cpu"), torch.tensor(scale, device="cpu")  # copies: they may be read-only
    scale = likelihood.units(scale)
    likelihood = likelihood(mean, scale)
    if not likelihood.standardises:
        mean, scale = torch.zeros_like(mean), torch.ones_like(scale)
    has_linear_map = init == "linear"
    builder = NetworkBuilder(
        n_features=n_features,
        hidden_layer_sizes=tuple(hidden_layer_sizes),
        activation=activation,
        input_shape=input_shape,
        precision=precision,
        has_linear_map=has_linear_map,
        starts_linear=has_linear_map and likelihood.has_linear_model(),
        generator=torch.Generator().manual_seed(seed),
    )
    vae = VAEModule(
        builder.network("encoder", encoder, n_features, posterior.n_raw(n_components), n_components),
        builder.network("decoder", decoder, n_components, likelihood.n_raw(n_features), n_features),
        posterior,
        likelihood,
        mean,
        scale,
        n_components,
    )
    if has_linear_map and likelihood.linear_noise is None:
        vae.decoder.start_bias, vae.decoder.unit = (start.float() for start in likelihood.init_without_linear_model())
    return vae


@dataclass(frozen=True)
class NetworkBuilder:
    """Makes the encoder's and the decoder's network, in this order, from one generator of random weights."""

    n_features: int
    hidden_layer_sizes: tuple
    activation: str | Callable
    input_shape: Sequence | None
    precision: str
    has_linear_map: bool  # beside the networks
    starts_linear: bool  # whether the networks start by adding nothing to it
    generator: torch.Generator

    def network(self, role, option, n_in, n_out, n_means):
        """The "encoder" or "decoder" of an option, from n_in to n_out numbers, of which the first n_means are means."""
        if isinstance(option, str):
            return self._named(role, NETWORKS[option], n_in, n_out, n_means)
        own_seed = int(torch.randint(2**31, (), generator=self.generator))
        net = custom_network(option, n_in, n_out, own_seed, role)
        if self.starts_linear:
            net = Gated(net, n_out)
        if not self.has_linear_map:
            return PlainNetwork(net, self.precision)
        return LinearResidual(net, n_in, n_out, n_means, precision=self.precision)

    def _named(self, role, kind, n_in, n_out, n_means):
        network = kind(self.n_features, self.hidden_layer_sizes, self.activation, self.input_shape)
        net = network.encoder(n_out) if role == "encoder" else network.decoder(n_in, n_out)
        layers = weighted_layers(net)
        gain: float | torch.Tensor = 0.0 if self.starts_linear else 1.0
        if role == "encoder":
            gain = gain * torch.where(torch.arange(n_out) < n_means, 1.0, HEAD_GAIN)[:, None]
        if not self.has_linear_map:
            draw_weights(net, self.generator, None, gain)
            return PlainNetwork(net, self.precision)
        input_scale = fan_in(layers[0]) ** -0.5
        layers[-1].bias = None  # the linear map has one
        if len(layers) == 1:  # one layer is what the linear map is
            return LinearResidual(None, n_in, n_out, n_means, input_scale, self.precision)
        draw_weights(net, self.generator, 2.0, gain)
        return LinearResidual(net, n_in, n_out, n_means, input_scale, self.precision)
