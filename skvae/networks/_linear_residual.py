"""Wrappers of a network: alone, or with a linear path beside it."""

import torch
from torch import Tensor, nn

from ._base import by_columns, dtype_of
from ._precision import exact_products, network_products

CLIP = 3.0


class PlainNetwork(nn.Module):
    """x -> net(x), as in a plain VAE, computed in the dtype of the network's weights.

    Parameters
    ----------
    net : Module
    precision : {"float32", "tf32", "bf16"}, default="float32"
        Precision of the matrix products in training.
    """

    def __init__(self, net: nn.Module, precision: str = "float32") -> None:
        super().__init__()
        self.net = net
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        with network_products(self.precision if self.training else "float32", x.device.type):
            return self.net(x.to(dtype_of(self.net, x.dtype))).to(x.dtype)


class LinearResidual(nn.Module):
    """x -> b0 + unit * (b + net(clip(x) * input_scale)), plus (W0 + unit * W) x for the first n_linear outputs.

    The first n_linear outputs are the means. The others, of the posterior and of the noise, have no linear path,
    as they are constant in a linear model. W0 and b0 are the linear start; W and b start at 0, as does the
    network's last layer. `unit` is the size of a change that matters in each output: the noise's standard
    deviation for a decoder, the posterior's for an encoder. Adam moves all weights at the same pace, so without
    `unit` one step would move the outputs by many standard deviations of a small noise. An input scale of one over
    the square root of the first layer's fan-in does the same for inputs that are many and similar, as in spectra.
    The network's input is clipped at three units (standard deviations of a standardised feature, or of z under the
    prior). Beyond, where training rows are few, the network adds a constant and the model is linear, as PCA is.

    The linear path is computed in the dtype of x, the network in that of its weights: what it adds is a few units.

    Parameters
    ----------
    net : Module or None
        None for a linear model.
    n_in, n_out, n_linear : int
    input_scale : float, default=1.0
    precision : {"float32", "tf32", "bf16"}, default="float32"
        Precision of the network's matrix products in training. The network adds a few units, so that bf16's
        relative error of 2^-9 is small against the noise. The linear path stays in float32.
    """

    in_place = True  # torch.func has no batched form of the product in place
    start_weight: Tensor
    start_bias: Tensor
    unit: Tensor

    def __init__(
        self,
        net: nn.Module | None,
        n_in: int,
        n_out: int,
        n_linear: int,
        input_scale: float = 1.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.register_buffer("start_weight", torch.zeros(n_linear, n_in))
        self.register_buffer("start_bias", torch.zeros(n_out))
        self.register_buffer("unit", torch.ones(n_out))
        self.weight = nn.Parameter(torch.zeros(n_linear, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.net = net
        self.input_scale = input_scale
        self.precision = precision

    def linear_path(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """unit (n_out,), the matrix (n_linear, n_in) and the bias (n_out,), computed in this dtype."""
        numbers: list[Tensor] = [self.unit, self.start_weight, self.weight, self.start_bias, self.bias]
        if dtype != self.weight.dtype:
            numbers = [each.to(dtype) for each in numbers]
        unit, start_weight, weight, start_bias, bias = numbers
        matrix = torch.addcmul(start_weight, unit.narrow(0, 0, len(weight)).unsqueeze(1), weight)
        return unit, matrix, torch.addcmul(start_bias, unit, bias)

    def forward(self, x: Tensor) -> Tensor:
        precision = self.precision if self.training else "float32"
        x = x if self.training else by_columns(x)
        unit, matrix, y = self.linear_path(x.dtype)
        if self.net is None:
            y = y.repeat(x.shape[0], 1)  # the export to ONNX would take len(x) for a constant
        else:
            with network_products(precision, x.device.type):
                added = self.net(x.to(dtype_of(self.net, x.dtype)).clamp(-CLIP, CLIP).mul_(self.input_scale))
            y = torch.addcmul(y, unit, added.to(x.dtype))
        with exact_products(precision):
            n_linear = len(matrix)
            if y.shape[1] == n_linear:
                return torch.addmm(y, x, matrix.T)
            if not self.in_place:
                return torch.cat([torch.addmm(y[:, :n_linear], x, matrix.T), y[:, n_linear:]], dim=1)
            y.narrow(1, 0, n_linear).addmm_(x, matrix.T)  # without a copy of the other outputs
            return y
