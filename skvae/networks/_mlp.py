"""Multilayer perceptron."""

from torch import nn

from ._base import Network


class MLP(Network):
    """Dense layers of the widths `hidden_layer_sizes`, in this order in the encoder and in the decoder."""

    def encoder(self, n_out: int) -> nn.Module:
        return self.decoder(self.n_features, n_out)

    def decoder(self, n_in: int, n_out: int) -> nn.Module:
        return nn.Sequential(*self.dense(n_in, *self.hidden_layer_sizes, n_out))
