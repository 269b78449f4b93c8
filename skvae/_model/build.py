"""From the parameters that decide the architecture to a `VAEModule`."""

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
    generator = torch.Generator().manual_seed(seed)
    has_linear_map = init == "linear"
    starts_linear = has_linear_map and likelihood.has_linear_model()

    def named_network(role, kind, n_in, n_out, n_means):
        network = kind(n_features, tuple(hidden_layer_sizes), activation, input_shape)
        net = network.encoder(n_out) if role == "encoder" else network.decoder(n_in, n_out)
        layers = weighted_layers(net)
        gain: float | torch.Tensor = 0.0 if starts_linear else 1.0
        if role == "encoder":
            gain = gain * torch.where(torch.arange(n_out) < n_means, 1.0, HEAD_GAIN)[:, None]
        if not has_linear_map:
            draw_weights(net, generator, None, gain)
            return PlainNetwork(net, precision)
        input_scale = fan_in(layers[0]) ** -0.5
        layers[-1].bias = None  # the linear map has one
        if len(layers) == 1:  # one layer is what the linear map is
            return LinearResidual(None, n_in, n_out, n_means, input_scale, precision)
        draw_weights(net, generator, 2.0, gain)
        return LinearResidual(net, n_in, n_out, n_means, input_scale, precision)

    def network(role, option, n_in, n_out, n_means):
        if isinstance(option, str):
            return named_network(role, NETWORKS[option], n_in, n_out, n_means)
        own_seed = int(torch.randint(2**31, (), generator=generator))
        net = custom_network(option, n_in, n_out, own_seed, role)
        if starts_linear:
            net = Gated(net, n_out)
        if not has_linear_map:
            return PlainNetwork(net, precision)
        return LinearResidual(net, n_in, n_out, n_means, precision=precision)

    vae = VAEModule(
        network("encoder", encoder, n_features, posterior.n_raw(n_components), n_components),
        network("decoder", decoder, n_components, likelihood.n_raw(n_features), n_features),
        posterior,
        likelihood,
        mean,
        scale,
        n_components,
    )
    if has_linear_map and likelihood.linear_noise is None:
        vae.decoder.start_bias, vae.decoder.unit = (start.float() for start in likelihood.init_without_linear_model())
    return vae
