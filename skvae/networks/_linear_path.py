"""The linear path that runs beside any network."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import skip_init

CLIP = 3.0


def linear(n_in, n_out, bias=True):
    """A linear layer whose weights are left for its owner to set, so that no global generator is used."""
    return skip_init(nn.Linear, n_in, n_out, bias=bias)


class LinearPath(nn.Module):
    """x -> W0 x + b0 + unit * (W x + b + net(clip(x) / sqrt(n_in))).

    W0 and b0 are where training starts; W and b start at 0, as does a network's last layer. `unit` is
    the size of a change that matters in each output: the noise's standard deviation for a decoder,
    the posterior's for an encoder. Adam moves all weights at one pace, so without it one step would
    move the outputs by many standard deviations of a small noise. The division by sqrt(n_in) does the
    same for the many, much alike inputs that spectra are. The clip is at three units (standard
    deviations, of a standardised feature or of z under the prior): beyond, where training rows are few,
    the network adds a constant and the model is linear, as PCA is.

    Parameters
    ----------
    net : Module or None
        None for a linear model.
    n_in, n_out : int
    """

    def __init__(self, net, n_in, n_out):
        super().__init__()
        self.register_buffer("start_weight", torch.zeros(n_out, n_in))
        self.register_buffer("start_bias", torch.zeros(n_out))
        self.register_buffer("unit", torch.ones(n_out))
        self.linear = linear(n_in, n_out)
        self.net = net
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def affine(self):
        """Weight (n_out, n_in) and bias (n_out,) of the linear path as it stands."""
        return (
            torch.addcmul(self.start_weight, self.unit[:, None], self.linear.weight),
            torch.addcmul(self.start_bias, self.unit, self.linear.bias),
        )

    def forward(self, x):
        y = functional.linear(x, *self.affine())
        if self.net is None:
            return y
        return torch.addcmul(y, self.unit, self.net(x.clamp(-CLIP, CLIP) * x.shape[-1] ** -0.5))
