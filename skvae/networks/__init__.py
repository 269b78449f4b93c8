"""Networks, each with a linear path beside it, and the precision of their products."""

from ._linear_path import LinearPath
from ._mlp import ACTIVATIONS, mlp
from ._precision import PRECISIONS, training_products

__all__ = ["ACTIVATIONS", "PRECISIONS", "LinearPath", "mlp", "training_products"]
