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
    """A kind of network, with an encoder and a decoder that are Modules from rows to rows.

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

    Examples
    --------
    >>> import torch
    >>> from skvae.networks import Network
    >>> class Straight(Network):  # one dense layer
    ...     def encoder(self, n_out):
    ...         return self.decoder(self.n_features, n_out)
    ...
    ...     def decoder(self, n_in, n_out):
    ...         return torch.nn.Sequential(*self.dense(n_in, n_out))
    >>> Straight(64, (), "silu").encoder(4)(torch.zeros(5, 64)).shape
    torch.Size([5, 4])
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
        """Linear layers of these sizes, with an activation between consecutive layers."""
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [blank(Dense, n_in, n_out), self.activation()]
        return layers[:-1]


class Dense(nn.Linear):
    """A linear layer whose input is laid out `by_columns`, except in training."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self.training else by_columns(input))


def by_columns(x: Tensor) -> Tensor:
    """x (n, p), laid out column by column in memory.

    On one thread, a row's product with a matrix is then the same to the bit, whatever the other rows are, wherever the
    row lies among them and however many there are, as long as their number is a multiple of 32: each row has a lane of
    its own in the vectors that are added. If x were laid out row by row, the bits would depend on the alignment of the
    row and on the kernel that is chosen for the number of rows.
    """
    return x.T.contiguous().T


def dtype_of(net: nn.Module, default: torch.dtype) -> torch.dtype:
    """The dtype of a network's weights, if it has any."""
    weight = next(net.parameters(), None)
    return default if weight is None else weight.dtype


def blank(layer: type[nn.Module], *sizes: int, **settings: int | tuple[int, ...]) -> nn.Module:
    """A layer with uninitialised weights; on the meta device, where only shapes are needed, without any memory."""
    return skip_init(layer, *sizes, device="meta" if torch.empty(0).is_meta else "cpu", **settings)


def weighted_layers(net: nn.Module) -> list[Any]:  # torch types a Module's attributes as Tensor or Module
    """The dense and convolutional layers of a network, first to last."""
    return [layer for layer in net.modules() if getattr(getattr(layer, "weight", None), "ndim", 0) > 1]


def fan_in(layer: Any) -> float:
    """The number of inputs of which an output is the sum."""
    if getattr(layer, "transposed", False):  # an output sees every stride-th weight of the kernel
        return layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    return layer.weight[0].numel()


def draw_weights(
    net: nn.Module,
    generator: torch.Generator,
    first_variance: float | None = None,
    last_gain: float | Tensor = 1.0,
) -> None:
    """Draw a network's weights from a normal with variance 2 / fan-in (He et al., 2015), and set biases to zero.

    Parameters
    ----------
    net : Module
    generator : torch.Generator
    first_variance : float or None, default=None
        Variance of the first layer's weights, if its inputs are scaled. None draws them like the other layers' weights.
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
