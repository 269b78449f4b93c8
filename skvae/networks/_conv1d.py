"""Convolutions along the features: neighbouring wavelengths of a spectrum."""

from torch import nn

from ._convolution import Convolution


class Conv1d(Convolution):
    """Two convolutions along the features, of 16 and 32 filters 9 long at stride 4, for rows of any length."""

    layer, transposed = nn.Conv1d, nn.ConvTranspose1d
    filters = (16, 32)
    kernel, stride, padding = 9, 4, 4  # odd, and half of it rounded down: ceil(L / stride), at least 1

    def shape(self) -> tuple[int, ...]:
        return 1, self.n_features
