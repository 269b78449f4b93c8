r"""A decoder's values and its Jacobian: tangents are carried through its layers by hand.

torch's own forward mode keeps its level in a global variable of the process, so that two threads disturb each other.
Differentiating twice backward is safe, but costs three passes per component. A network of known layers needs neither.
Beside the values x (n, ...) of a layer go their derivatives along each of the d components, as one tensor
(1 + d, n, ...) of dual numbers: [0] is x, [j] is d x / d z_j. A linear layer maps all 1 + d alike, in one product, and
adds its bias to [0] alone. An element-wise layer multiplies [1:] by its slope at [0] (Griewank and Walther, Evaluating
derivatives, 2008, chapter 3). The cost is that of 1 + d passes over the network.

The values of a `LinearResidual`'s linear map are computed in the dtype of z, the network beside it and all derivatives
in the dtype of its weights. Derivatives say where a step leads and what is proposed; a score hangs on the values.
Linear layers keep the values of a column side by side (`by_columns`), so that a row's result has the same bits whatever
the other rows are, where there is a multiple of 32 of them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._base import Dense, by_columns, dtype_of
from ._custom import Gated
from ._linear_residual import CLIP, LinearResidual, PlainNetwork


def decoder_jacobian(decoder: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """decoder(z) and d decoder(z) / d z, exact to rounding, with no gradient of their own.

    A network whose layers are all in `RULES` carries tangents. Any other is differentiated twice backward.

    Parameters
    ----------
    decoder : Module
        (n, d) -> (n, m), in evaluation mode.
    z : Tensor of shape (n, d)

    Returns
    -------
    values : Tensor of shape (n, m)
        In the dtype of z.
    jacobian : Tensor of shape (n, d, m)
        In the dtype of the network's weights, or of z where there is no network. A view of memory in which the rows lie
        side by side.
    """
    with torch.no_grad():
        if not has_rules(decoder):
            return twice_backward(decoder, z)
        values, tangents = with_tangents(decoder, z, z.shape[1])
        return values, tangents.transpose(0, 1)


def decoder_values(decoder: nn.Module, z: Tensor) -> Tensor:
    """decoder(z) (n, m) alone, by the same operations as in `decoder_jacobian`."""
    with torch.no_grad():
        if not has_rules(decoder):
            return decoder(z.to(dtype_of(decoder, z.dtype))).to(z.dtype)
        return with_tangents(decoder, z, 0)[0]


def with_tangents(decoder: Any, z: Tensor, n_tangents: int) -> tuple[Tensor, Tensor]:
    """decoder(z) (n, m) and its derivatives (n_tangents, n, m) along the first components."""
    if type(decoder) is not LinearResidual:
        out = carry(decoder, seeds(z.to(dtype_of(decoder, z.dtype)), n_tangents))
        return out[0].to(z.dtype), out[1:]
    unit, matrix, bias = decoder.linear_path(z.dtype)
    values = bias.repeat(len(z), 1)
    values[:, : len(matrix)].addmm_(by_columns(z), matrix.T)
    slopes = functional.pad(matrix.T, (0, len(unit) - len(matrix)))[:n_tangents, None]  # (n_tangents, 1, m)
    if decoder.net is None:
        return values, slopes.repeat(1, len(z), 1)
    dtype = dtype_of(decoder.net, z.dtype)
    inputs = seeds(z.clamp(-CLIP, CLIP).to(dtype), n_tangents)
    inputs[1:] *= z.abs() <= CLIP
    added = carry(decoder.net, inputs.mul_(decoder.input_scale))
    return values.addcmul_(added[0].to(z.dtype), unit), torch.addcmul(slopes.to(dtype), added[1:], unit.to(dtype))


def seeds(z: Tensor, n_tangents: int) -> Tensor:
    """Duals (1 + n_tangents, n, d), by columns, of latents z (n, d), which stay as they are."""
    duals = z.new_zeros(z.shape[1], 1 + n_tangents, len(z)).movedim(0, 2)
    duals[0] = z
    duals[1:].diagonal(dim1=0, dim2=2).fill_(1)
    return duals


def twice_backward(decoder: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """As `decoder_jacobian`, of any Module: the derivative of the backward pass along each component."""
    (n, d), dtype = z.shape, z.dtype
    z = z.to(dtype_of(decoder, dtype))
    along = torch.eye(d, dtype=z.dtype, device=z.device).repeat_interleave(n, 0)
    values, slopes = torch.autograd.functional.jvp(decoder, z.repeat(d, 1), along)
    return values[:n].to(dtype), slopes.unflatten(0, (d, n)).transpose(0, 1).to(dtype)


def has_rules(net: nn.Module) -> bool:
    """Whether all layers have a rule, and nothing is hooked to them that would change what they do."""
    return all(
        (type(layer) in RULES or (layer is net and type(layer) is LinearResidual))
        and not (layer._forward_hooks or layer._forward_pre_hooks)
        and getattr(layer, "padding_mode", "zeros") == "zeros"
        for layer in net.modules()
    )


def carry(layer: nn.Module, duals: Tensor) -> Tensor:
    """The layer's duals (1 + d, n, ...) from those of its input, whose memory it may use."""
    return RULES[type(layer)](layer, duals)


def _sequential(layer: Any, duals: Tensor) -> Tensor:
    for each in layer:
        duals = carry(each, duals)
    return duals


def _same(layer: Any, duals: Tensor) -> Tensor:
    return duals


def _elementwise(layer: Any, duals: Tensor) -> Tensor:
    """Values y(x), tangents y'(x) dx: the slope of all elements is the gradient of their sum."""
    if len(duals) == 1:
        return layer(duals)
    x = duals[0].detach().requires_grad_()
    with torch.enable_grad():
        y = layer(x.clone())  # it may work in place
        (slope,) = torch.autograd.grad(y.sum(), x)
    duals[1:] *= slope
    duals[0] = y.detach()
    return duals


def _dense(layer: Any, duals: Tensor) -> Tensor:
    out = functional.linear(by_columns(duals.flatten(0, 1)), layer.weight).unflatten(0, duals.shape[:2])
    if layer.bias is not None:
        out[0] += layer.bias
    return out


def _convolution(function: Callable[..., Tensor], *settings: str) -> Callable[[Any, Tensor], Tensor]:
    """The rule of a convolution: `function` without a bias, with these attributes of the layer."""

    def rule(layer: Any, duals: Tensor) -> Tensor:
        given = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", *settings)}
        out = function(duals.flatten(0, 1), layer.weight, **given).unflatten(0, duals.shape[:2])
        if layer.bias is not None:
            out[0] += layer.bias.unflatten(0, (-1, *[1] * (out.ndim - 3)))
        return out

    return rule


def _flatten(layer: Any, duals: Tensor) -> Tensor:
    end = layer.end_dim
    return duals.flatten(layer.start_dim + (layer.start_dim >= 0), end + (end >= 0))


def _unflatten(layer: Any, duals: Tensor) -> Tensor:
    return duals.unflatten(layer.dim + (layer.dim >= 0), layer.unflattened_size)


def _gated(layer: Any, duals: Tensor) -> Tensor:
    return layer.gate * carry(layer.net, duals)


def _plain_network(layer: Any, duals: Tensor) -> Tensor:
    return carry(layer.net, duals)


# What carries duals through each type of layer; exactly this type, as a subclass may do anything.
RULES: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.Sequential: _sequential,
    PlainNetwork: _plain_network,
    Gated: _gated,
    Dense: _dense,
    nn.Linear: _dense,
    nn.Conv1d: _convolution(functional.conv1d),
    nn.Conv2d: _convolution(functional.conv2d),
    nn.ConvTranspose1d: _convolution(functional.conv_transpose1d, "output_padding"),
    nn.ConvTranspose2d: _convolution(functional.conv_transpose2d, "output_padding"),
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    **dict.fromkeys((nn.Identity, nn.Dropout), _same),  # in evaluation mode
    **dict.fromkeys(
        (nn.SiLU, nn.ReLU, nn.GELU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.LeakyReLU, nn.Mish, nn.SELU, nn.CELU),
        _elementwise,
    ),
}
