"""Multilayer perceptron."""

from torch import nn

from ._linear_path import linear

ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


def mlp(n_in, n_out, hidden_layer_sizes, activation, generator, zero_last=True):
    """Return a perceptron, or None where there is no hidden layer.

    Weights are normal with variance 2 / fan-in (He et al., 2015), those of the first layer with variance
    2, as its inputs come divided by the root of their number. Biases are zero, and so is the last layer
    where `zero_last` is True, so that the network adds nothing at the start.
    """
    if not len(hidden_layer_sizes):
        return None
    sizes = [n_in, *hidden_layer_sizes, n_out]
    layers = []
    for i in range(len(sizes) - 1):
        last = i == len(sizes) - 2
        layer = linear(sizes[i], sizes[i + 1], bias=not last)  # the linear path beside it has a bias
        variance = 2.0 if i == 0 else 2 / sizes[i]
        nn.init.normal_(layer.weight, std=variance**0.5, generator=generator)
        if not last:
            nn.init.zeros_(layer.bias)
        layers += [layer, ACTIVATIONS.get(activation, activation)()]
    layers.pop()  # no activation after the last layer
    if zero_last:
        nn.init.zeros_(layer.weight)
    return nn.Sequential(*layers)
