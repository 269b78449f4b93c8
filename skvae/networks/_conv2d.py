"""Convolutions over images."""

import math

from torch import nn

from ._convolution import Convolution


class Conv2d(Convolution):
    """Two convolutions of 64 and 128 filters of 4 x 4 at stride 2, over rows that are images of `input_shape`.

    References
    ----------
    The convolutional VAE of Ferdowsi et al., rho-VAE, arXiv:1909.06236, section 4.
    """

    layer, transposed = nn.Conv2d, nn.ConvTranspose2d
    filters = (64, 128)
    kernel, stride, padding = 4, 2, 1

    def __init__(self, n_features, hidden_layer_sizes, activation, input_shape=None):
        super().__init__(n_features, hidden_layer_sizes, activation, input_shape)
        if input_shape is None or len(input_shape) != 3:
            raise ValueError(f"'conv2d' needs input_shape=(channels, height, width), not {input_shape!r}.")
        if math.prod(input_shape) != n_features:
            raise ValueError(
                f"input_shape={tuple(input_shape)} has {math.prod(input_shape)} values, but X {n_features} features."
            )
        if min(input_shape[1:]) < self.stride ** len(self.filters):
            raise ValueError(f"'conv2d' needs images of 4 x 4 at least, but input_shape={tuple(input_shape)}.")

    def shape(self):
        return tuple(self.input_shape)
