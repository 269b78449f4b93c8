r"""A decoder as it is seen through the span of its last layer.

A decoder whose last layer is linear gives f(z) = b + B g(z), with a column of B (p, m) for each component and for each
neuron before that layer. Under weights w of the p outputs, with the QR decomposition diag(w)^1/2 B = Q R and
y = diag(w)^1/2 (x - b),

    sum_j w_j (x_j - f_j(z))^2 = |y|^2 - |Q^T y|^2 + |Q^T y - R g(z)|^2.

Where m is less than p, as of most spectra, R g is a decoder of m outputs that says all that the p say of z.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._base import Dense, blank, by_columns
from ._jacobian import dtype_of, has_rules
from ._linear_residual import LinearResidual


class Span(NamedTuple):
    decoder: nn.Module  # (n, d) -> (n, m)
    bias: Tensor  # (p,)
    root: Tensor  # (p,), of the weights
    basis: Tensor  # (p, m), orthonormal

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Q^T y (n, m) of rows x (n, p), and what they have outside the span, |y|^2 - |Q^T y|^2 (n,)."""
        y = (x - self.bias) * self.root
        inside = by_columns(y) @ self.basis
        return inside, (y.square().sum(-1) - inside.square().sum(-1)).clamp(min=0)


def last_layer_span(decoder: Any, weight: Tensor) -> Span | None:
    """The span of a decoder's last layer under weights (p,) > 0 of its outputs; None if it has none of less than p."""
    net = getattr(decoder, "net", None)
    if type(decoder) is not LinearResidual or not isinstance(net, nn.Sequential) or not has_rules(decoder):
        return None
    last: Any = net[-1]
    p, d = decoder.weight.shape
    if type(last) not in (Dense, nn.Linear) or last.out_features != p or d + last.in_features >= p:
        return None
    with torch.no_grad():
        unit, matrix, bias = decoder.linear_path(weight.dtype)
        if last.bias is not None:
            bias = torch.addcmul(bias, unit, last.bias.to(weight.dtype))
        root = weight.sqrt()
        columns = torch.cat([matrix, unit[:, None] * last.weight.to(weight.dtype)], dim=1)
        basis, upper = torch.linalg.qr(root[:, None] * columns)
        seen: Any = blank(Dense, last.in_features, len(upper), bias=False)
        seen.to(weight.device, dtype_of(net, weight.dtype)).weight.copy_(upper[:, d:])
        narrow = LinearResidual(nn.Sequential(*list(net)[:-1], seen), d, len(upper), len(upper), decoder.input_scale)
        narrow.to(weight.device).start_weight = upper[:, :d]
        return Span(narrow, bias, root, basis)
