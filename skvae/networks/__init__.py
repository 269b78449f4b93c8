"""Kinds of networks. To add one, write a class in a file of its own and add a line to ``NETWORKS``."""

from ._base import ACTIVATIONS, Network, by_columns, draw_weights, fan_in, weighted_layers
from ._conv1d import Conv1d
from ._conv2d import Conv2d
from ._custom import Gated, custom_network
from ._jacobian import decoder_jacobian, decoder_values
from ._linear_residual import LinearResidual, PlainNetwork
from ._mlp import MLP
from ._precision import PRECISIONS, training_products
from ._pullback import has_pullback, with_pullback
from ._span import Span, last_layer_span

NETWORKS: dict[str, type[Network]] = {"mlp": MLP, "conv1d": Conv1d, "conv2d": Conv2d}

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETWORKS",
    "PRECISIONS",
    "Conv1d",
    "Conv2d",
    "Gated",
    "LinearResidual",
    "Network",
    "PlainNetwork",
    "Span",
    "by_columns",
    "custom_network",
    "decoder_jacobian",
    "decoder_values",
    "draw_weights",
    "fan_in",
    "has_pullback",
    "last_layer_span",
    "training_products",
    "weighted_layers",
    "with_pullback",
]
