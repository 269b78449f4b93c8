"""A network's outputs in training, and what takes their gradient back to its inputs and weights, by hand.

autograd notes each operation and visits it again, which takes as long as the operations of a small network themselves.
Here each type of layer has a rule for its values and for their pullback, the product of a gradient with the layer's
Jacobian (Griewank and Walther, Evaluating derivatives, 2008, chapter 3).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._base import Dense
from ._linear_residual import CLIP, LinearResidual, PlainNetwork
from ._precision import exact_products

Add = Callable[[Tensor, Tensor], None]
Pullback = Callable[[Tensor, Add], Any]
Rule = Callable[[Any, Tensor, bool], tuple[Tensor, Pullback]]
kernels = torch.ops.aten


def has_pullback(net: nn.Module) -> bool:
    """Whether all layers have a rule, and none overwrites its input."""
    return all(type(layer) in RULES and not getattr(layer, "inplace", False) for layer in net.modules())


def with_pullback(layer: nn.Module, x: Tensor, needs_x: bool) -> tuple[Tensor, Pullback]:
    """layer(x) in training, and the function that takes their gradient back, both without autograd.

    Parameters
    ----------
    layer : Module
        For which `has_pullback`.
    x : Tensor of shape (n, n_in)
    needs_x : bool
        Whether the gradient of x is wanted.

    Returns
    -------
    y : Tensor of shape (n, n_out)
    pullback : callable
        (gradient of y, add) -> gradient of x, or None if it is not wanted. For each parameter it calls
        add(parameter, gradient).
    """
    return RULES[type(layer)](layer, x, needs_x)


def _sequential(layer: Any, x: Tensor, needs_x: bool) -> tuple[Tensor, Pullback]:
    pullbacks: list[Pullback] = []
    for each in layer:
        x, pullback = with_pullback(each, x, needs_x or bool(pullbacks))
        pullbacks.append(pullback)

    def pullback_of_all(grad: Tensor, add: Add) -> Tensor | None:
        for pullback in reversed(pullbacks):
            grad = pullback(grad, add)
        return grad

    return x, pullback_of_all


def _dense(layer: Any, x: Tensor, needs_x: bool) -> tuple[Tensor, Pullback]:
    weight, bias = layer.weight, layer.bias

    def pullback(grad: Tensor, add: Add) -> Tensor | None:
        add(weight, grad.T @ x)
        if bias is not None:
            add(bias, grad.sum(0))
        return grad @ weight if needs_x else None

    return functional.linear(x, weight, bias), pullback


def _elementwise(slope: Callable[[Any, Tensor, Tensor, Tensor], Tensor]) -> Rule:
    """The rule of an activation, given (layer, gradient, x, y) -> gradient times y'(x), a kernel of torch's own."""

    def rule(layer: Any, x: Tensor, needs_x: bool) -> tuple[Tensor, Pullback]:
        y = layer(x)
        return y, lambda grad, add: slope(layer, grad, x, y)

    return rule


def _plain_network(layer: PlainNetwork, x: Tensor, needs_x: bool) -> tuple[Tensor, Pullback]:
    return with_pullback(layer.net, x, needs_x)


def _linear_residual(layer: LinearResidual, x: Tensor, needs_x: bool) -> tuple[Tensor, Pullback]:
    weight, bias, n_linear, pullback_of_net = layer.weight, layer.bias, len(layer.weight), None
    unit, matrix, y = layer.linear_path(x.dtype)
    if layer.net is None:
        y = y.repeat(len(x), 1)
    else:
        added, pullback_of_net = with_pullback(layer.net, x.clamp(-CLIP, CLIP).mul_(layer.input_scale), needs_x)
        y = torch.addcmul(y, unit, added)
    with exact_products(layer.precision):
        y.narrow(1, 0, n_linear).addmm_(x, matrix.T)

    def pullback(grad: Tensor, add: Add) -> Tensor | None:
        to_added, linear = grad * unit, grad.narrow(1, 0, n_linear)
        add(bias, to_added.sum(0))
        add(weight, to_added.narrow(1, 0, n_linear).T @ x)
        to_clipped = None if pullback_of_net is None else pullback_of_net(to_added, add)
        if not needs_x:
            return None
        if to_clipped is None:
            return linear @ matrix
        return (to_clipped * layer.input_scale).masked_fill_(x.abs() > CLIP, 0).addmm_(linear, matrix)

    return y, pullback


# The rule of each type of layer; exactly this type, as a subclass may do anything.
RULES: dict[type[nn.Module], Rule] = {
    LinearResidual: _linear_residual,
    PlainNetwork: _plain_network,
    nn.Sequential: _sequential,
    Dense: _dense,
    nn.Linear: _dense,
    nn.Identity: _elementwise(lambda layer, grad, x, y: grad),
    nn.ReLU: _elementwise(lambda layer, grad, x, y: kernels.threshold_backward(grad, y, 0)),
    nn.SiLU: _elementwise(lambda layer, grad, x, y: kernels.silu_backward(grad, x)),
    nn.Tanh: _elementwise(lambda layer, grad, x, y: kernels.tanh_backward(grad, y)),
    nn.Sigmoid: _elementwise(lambda layer, grad, x, y: kernels.sigmoid_backward(grad, y)),
    nn.GELU: _elementwise(lambda layer, grad, x, y: kernels.gelu_backward(grad, x, approximate=layer.approximate)),
    nn.ELU: _elementwise(lambda layer, grad, x, y: kernels.elu_backward(grad, layer.alpha, 1, 1, False, x)),
    nn.Softplus: _elementwise(
        lambda layer, grad, x, y: kernels.softplus_backward(grad, x, layer.beta, layer.threshold)
    ),
}
