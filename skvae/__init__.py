"""A variational autoencoder for people who use PCA."""

from ._loading import load
from ._onnx import register_onnx, to_onnx
from ._search import VAESearchCV
from ._transformer import VAETransformer
from ._version import __version__

__all__ = ["VAESearchCV", "VAETransformer", "__version__", "load", "register_onnx", "to_onnx"]
