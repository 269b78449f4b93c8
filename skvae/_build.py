"""From the names of the parts to a VAE."""

import torch

from ._module import VAE
from .likelihoods import LIKELIHOODS
from .networks import NETWORKS, Alone, Gated, LinearPath, custom_network, draw_weights, fan_in, weighted_layers
from .posteriors import POSTERIORS

HEAD = 0.1  # gain of an encoder's covariance outputs, so that posteriors start near their family's identity


def lookup(table, option):
    """The class that an option names, or the option itself where it is one."""
    return table[option] if isinstance(option, str) else option


def build_vae(
    n_features,
    n_components,
    posterior,
    likelihood,
    encoder,
    decoder,
    hidden_layer_sizes,
    activation,
    input_shape,
    linear,
    precision,
    mean,
    scale,
    seed,
):
    """Return a VAE whose linear path is zero and whose networks are drawn from `seed`.

    Parameters
    ----------
    n_features, n_components : int
    posterior, likelihood : str or class
    encoder, decoder : str or callable
    hidden_layer_sizes : sequence of int
    activation : str or callable
    input_shape : sequence of int or None
    linear : bool
        Whether networks have a linear path beside them. Where the likelihood has a linear optimum, they then
        start by adding nothing to it.
    precision : {"float32", "tf32", "bf16"}
    mean, scale : ndarray of shape (n_features,)
        Of X's columns.
    seed : int
    """
    posterior, likelihood = lookup(POSTERIORS, posterior), lookup(LIKELIHOODS, likelihood)
    mean, scale = torch.tensor(mean, device="cpu"), torch.tensor(scale, device="cpu")  # copies: they may be read-only
    scale = likelihood.units(scale)
    likelihood = likelihood(mean, scale)
    if not likelihood.standardises:
        mean, scale = torch.zeros_like(mean), torch.ones_like(scale)
    generator = torch.Generator().manual_seed(seed)
    zero_last = linear and likelihood.linear_noise is not None

    def network(role, option, n_in, n_out, n_means):
        input_scale = 1.0
        if isinstance(option, str):
            kind = NETWORKS[option](n_features, hidden_layer_sizes, activation, input_shape)
            net = kind.encoder(n_out) if role == "encoder" else kind.decoder(n_in, n_out)
            layers = weighted_layers(net)
            if linear:
                input_scale = fan_in(layers[0]) ** -0.5
                layers[-1].bias = None  # the linear path has one
                if len(layers) == 1:  # one layer is what the linear path is
                    return LinearPath(None, n_in, n_out, n_means, input_scale, precision)
            gain: float | torch.Tensor = 0.0 if zero_last else 1.0
            if role == "encoder":
                gain = gain * torch.where(torch.arange(n_out) < n_means, 1.0, HEAD)[:, None]
            draw_weights(net, generator, 2.0 if linear else None, gain)
        else:
            own_seed = int(torch.randint(2**31, (), generator=generator))
            net = custom_network(option, n_in, n_out, own_seed, role)
            net = Gated(net, n_out) if zero_last else net
        if linear:
            return LinearPath(net, n_in, n_out, n_means, input_scale, precision)
        return Alone(net, precision)

    vae = VAE(
        network("encoder", encoder, n_features, posterior.n_raw(n_components), n_components),
        network("decoder", decoder, n_components, likelihood.n_raw(n_features), n_features),
        posterior,
        likelihood,
        mean,
        scale,
        n_components,
    )
    if linear and likelihood.linear_noise is None:
        vae.decoder.start_bias, vae.decoder.unit = (start.float() for start in likelihood.plain_start())
    return vae
