"""Convolutions over images."""

import math
from collections.abc import Callable, Sequence

from torch import nn

from ._convolution import Convolution


class Conv2d(Convolution):
    """Two convolutions with 64 and 128 filters of 4 x 4 and stride 2, over rows that are images of `input_shape`.

    References
    ----------
    The convolutional VAE of Ferdowsi et al., rho-VAE, arXiv:1909.06236, section 4.

    Examples
    --------
    >>> import torch
    >>> from skvae.networks import Conv2d
    >>> network = Conv2d(n_features=64, hidden_layer_sizes=(16,), activation="silu", input_shape=(1, 8, 8))
    >>> network.encoder(n_out=4)(torch.zeros(5, 64)).shape
    torch.Size([5, 4])
    """

    layer, transposed = nn.Conv2d, nn.ConvTranspose2d
    filters = (64, 128)
    kernel, stride, padding = 4, 2, 1
    input_shape: tuple[int, ...]

    def __init__(
        self,
        n_features: int,
        hidden_layer_sizes: Sequence[int],
        activation: str | Callable[[], nn.Module],
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(n_features, hidden_layer_sizes, activation, input_shape)
        if input_shape is None or len(input_shape) != 3 or any(int(n) != n for n in input_shape):
            raise ValueError(f"'conv2d' needs input_shape=(channels, height, width) of integers, not {input_shape!r}.")
        self.input_shape = tuple(int(n) for n in input_shape)
        if math.prod(self.input_shape) != n_features:
            raise ValueError(
                f"input_shape={self.input_shape} has {math.prod(self.input_shape)} values, but X has "
                f"{n_features} features with measured values."
            )
        if min(self.input_shape[1:]) < self.stride ** len(self.filters):
            raise ValueError(f"'conv2d' needs images of at least 4 x 4, but input_shape={self.input_shape}.")

    def shape(self) -> tuple[int, ...]:
        return self.input_shape
