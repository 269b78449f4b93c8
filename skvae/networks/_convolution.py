"""Convolutions with strides, and transposed convolutions that restore their shapes exactly."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import nn

from ._base import Network, blank


class Convolution(Network):
    """Convolutions, then dense layers of the widths `hidden_layer_sizes`; the decoder is the mirror image.

    A subclass defines the axes. An axis of length L becomes (L + 2 padding - kernel) // stride + 1 long. The
    transposed convolution restores any L exactly, with the output padding that this rounding asks for.

    Attributes
    ----------
    layer, transposed : class
    filters : tuple of int
        Number of filters of each convolution.
    kernel, stride, padding : int
    """

    layer: ClassVar[type[nn.Module]]
    transposed: ClassVar[type[nn.Module]]
    filters: ClassVar[tuple[int, ...]]
    kernel: ClassVar[int]
    stride: ClassVar[int]
    padding: ClassVar[int]

    def shape(self) -> tuple[int, ...]:
        """(channels, *lengths) of a row."""
        raise NotImplementedError

    def lengths(self) -> list[Sequence[int]]:
        """Lengths of the axes before the first convolution and after each."""
        lengths: list[Sequence[int]] = [self.shape()[1:]]
        for _ in self.filters:
            lengths.append([(n + 2 * self.padding - self.kernel) // self.stride + 1 for n in lengths[-1]])
        return lengths

    def settings(self) -> dict[str, int]:
        return {"kernel_size": self.kernel, "stride": self.stride, "padding": self.padding}

    def encoder(self, n_out: int) -> nn.Module:
        channels = self.shape()[0]
        layers: list[nn.Module] = [nn.Unflatten(1, self.shape())]
        for n_in, n_filters in pairwise((channels, *self.filters)):
            layers += [blank(self.layer, n_in, n_filters, **self.settings()), self.activation()]
        flat = self.filters[-1] * math.prod(self.lengths()[-1])
        return nn.Sequential(*layers, nn.Flatten(), *self.dense(flat, *self.hidden_layer_sizes, n_out))

    def decoder(self, n_in: int, n_out: int) -> nn.Module:
        channels = self.shape()[0] * (n_out // self.n_features)  # a likelihood may need several numbers per feature
        lengths = self.lengths()
        filters = (*self.filters[::-1], channels)
        flat = filters[0] * math.prod(lengths[-1])
        layers = self.dense(n_in, *self.hidden_layer_sizes[::-1], flat)
        layers.append(nn.Unflatten(1, (filters[0], *lengths[-1])))
        for i, pair in enumerate(pairwise(filters)):
            short, long = lengths[-1 - i], lengths[-2 - i]
            least = [(n - 1) * self.stride - 2 * self.padding + self.kernel for n in short]
            padding = tuple(n - m for n, m in zip(long, least, strict=True))
            layers += [
                self.activation(),
                blank(self.transposed, *pair, output_padding=padding, **self.settings()),
            ]
        return nn.Sequential(*layers, nn.Flatten())
