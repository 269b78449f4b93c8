"""Networks, each with a linear path beside it."""

from ._linear_path import LinearPath
from ._mlp import ACTIVATIONS, mlp

__all__ = ["ACTIVATIONS", "LinearPath", "mlp"]
