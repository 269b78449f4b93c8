"""Convolutions along the features: neighbouring wavelengths of a spectrum."""

from torch import nn

from ._convolution import Convolution


class Conv1d(Convolution):
    """Two convolutions along the features, with 16 and 32 filters of length 9 and stride 4, for rows of any length.

    Examples
    --------
    >>> import torch
    >>> from skvae.networks import Conv1d
    >>> network = Conv1d(n_features=64, hidden_layer_sizes=(16,), activation="silu")
    >>> network.encoder(n_out=4)(torch.zeros(5, 64)).shape
    torch.Size([5, 4])
    """

    layer, transposed = nn.Conv1d, nn.ConvTranspose1d
    filters = (16, 32)
    kernel, stride, padding = 9, 4, 4  # padding is kernel // 2, kernel odd: L becomes ceil(L / stride), at least 1

    def shape(self) -> tuple[int, ...]:
        return 1, self.n_features
