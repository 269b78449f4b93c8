"""From the names of the parts to a VAE."""

import torch

from ._module import VAE
from .likelihoods import LIKELIHOODS
from .networks import LinearPath, mlp
from .posteriors import POSTERIORS


def lookup(table, option):
    """The class that an option names, or the option itself where it is one."""
    return table[option] if isinstance(option, str) else option


def build_vae(
    n_features,
    n_components,
    posterior,
    likelihood,
    hidden_layer_sizes,
    activation,
    zero_last,
    precision,
    shift,
    scale,
    seed,
):
    """Return a VAE whose linear path is zero and whose networks are drawn from `seed`.

    Parameters
    ----------
    n_features, n_components : int
    posterior, likelihood : str or class
    hidden_layer_sizes : sequence of int
    activation : str or callable
    zero_last : bool
        Whether the networks' last layers start at zero.
    precision : {"float32", "tf32", "bf16"}
    shift, scale : ndarray of shape (n_features,)
    seed : int
    """
    posterior, likelihood = lookup(POSTERIORS, posterior), lookup(LIKELIHOODS, likelihood)
    shift, scale = torch.tensor(shift), torch.tensor(scale)  # copies: the arrays may be read-only
    generator = torch.Generator().manual_seed(seed)

    def network(n_in, n_out, n_means):
        net = mlp(n_in, n_out, hidden_layer_sizes, activation, generator, zero_last)
        return LinearPath(net, n_in, n_out, n_means, precision)

    return VAE(
        network(n_features, posterior.n_raw(n_components), n_components),
        network(n_components, likelihood.n_raw(n_features), n_features),
        posterior,
        likelihood(scale),
        shift,
        scale,
        n_components,
    )
