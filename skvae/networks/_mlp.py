"""Multilayer perceptron."""

from torch import nn

from ._base import Network


class MLP(Network):
    """Dense layers of the widths `hidden_layer_sizes`, in this order in the encoder and in the decoder.

    Examples
    --------
    >>> import torch
    >>> from skvae.networks import MLP
    >>> network = MLP(n_features=64, hidden_layer_sizes=(16,), activation="silu")
    >>> network.encoder(n_out=4)(torch.zeros(5, 64)).shape
    torch.Size([5, 4])
    """

    def encoder(self, n_out: int) -> nn.Module:
        return self.decoder(self.n_features, n_out)

    def decoder(self, n_in: int, n_out: int) -> nn.Module:
        return nn.Sequential(*self.dense(n_in, *self.hidden_layer_sizes, n_out))
