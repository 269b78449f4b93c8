"""What every kind of network provides, and how its weights are drawn."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


class Network:
    """A kind of network: its encoder and its decoder, each a Module from rows to rows.

    Layers with weights are made by `blank`, so that no global generator is used; `draw_weights` fills them.

    Parameters
    ----------
    n_features : int
    hidden_layer_sizes : sequence of int
        Widths of the dense layers.
    activation : str or callable
        A key of `ACTIVATIONS`, or a callable that returns a Module.
    input_shape : sequence of int or None
        Shape of a row, for the kinds that need it.

    Raises
    ------
    ValueError
        If rows have a shape that this kind does not take.
    """

    def __init__(
        self,
        n_features: int,
        hidden_layer_sizes: Sequence[int],
        activation: str | Callable[[], nn.Module],
        input_shape: Sequence[int] | None = None,
    ) -> None:
        self.n_features = n_features
        self.hidden_layer_sizes = tuple(hidden_layer_sizes)
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.input_shape = input_shape

    def encoder(self, n_out: int) -> nn.Module:
        """Module (n, n_features) -> (n, n_out)."""
        raise NotImplementedError

    def decoder(self, n_in: int, n_out: int) -> nn.Module:
        """Module (n, n_in) -> (n, n_out), n_out a multiple of n_features."""
        raise NotImplementedError

    def dense(self, *sizes: int) -> list[nn.Module]:
        """List of linear layers of these sizes with an activation between each two."""
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [blank(Dense, n_in, n_out), self.activation()]
        return layers[:-1]


class Dense(nn.Linear):
    """A linear layer; outside of training its input lies `by_columns`."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self.training else by_columns(input))


def by_columns(x: Tensor) -> Tensor:
    """x (n, p) with the rows' values of a column side by side.

    A row's product with a matrix then is the same bits, on one thread, whatever the other rows are, wherever among
    them it lies and however many they are, as long as that is a multiple of 64: each has a lane of its own in the
    vectors that are added up. Row after row, the bits depend on how a row is aligned, and on the kernel for so many.
    """
    return x.T.contiguous().T


def blank(layer: type[nn.Module], *sizes: int, **settings: int | tuple[int, ...]) -> nn.Module:
    """A layer whose weights are memory as it comes; on the meta device, where shapes are asked for, not even that."""
    return skip_init(layer, *sizes, device="meta" if torch.empty(0).is_meta else "cpu", **settings)


def weighted_layers(net: nn.Module) -> list[Any]:  # a Module's attributes are Tensor or Module to torch's types
    """The dense and convolutional layers of a network, first to last."""
    return [layer for layer in net.modules() if getattr(getattr(layer, "weight", None), "ndim", 0) > 1]


def fan_in(layer: Any) -> float:
    """How many inputs meet in one output."""
    if getattr(layer, "transposed", False):  # an output sees every stride-th weight of the kernel
        return layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    return layer.weight[0].numel()


def draw_weights(
    net: nn.Module,
    generator: torch.Generator,
    first_variance: float | None = None,
    last_gain: float | Tensor = 1.0,
) -> None:
    """Draw a network's weights: normal with variance 2 / fan-in (He et al., 2015), biases zero.

    Parameters
    ----------
    net : Module
    generator : torch.Generator
    first_variance : float or None, default=None
        Of the first layer's weights, where its inputs come scaled. None: as the others'.
    last_gain : float or Tensor of shape (n_out, 1), default=1.0
        Factor of the last layer's weights.
    """
    layers = weighted_layers(net)
    if layers[0].weight.is_meta:
        return
    for layer in layers:
        variance = first_variance if first_variance and layer is layers[0] else 2 / fan_in(layer)
        nn.init.normal_(layer.weight, std=variance**0.5, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layers[-1].weight.mul_(last_gain)
