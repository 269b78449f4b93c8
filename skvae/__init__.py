"""A variational autoencoder for people who use PCA."""

from ._io.load import load
from ._io.onnx import register_onnx, to_onnx
from ._io.version import __version__
from ._meta_estimators.comparison import Comparison, compare
from ._meta_estimators.outlier_detector import VAEOutlierDetector
from ._meta_estimators.search_cv import VAESearchCV
from ._vae import VAETransformer

__all__ = [
    "Comparison",
    "VAEOutlierDetector",
    "VAESearchCV",
    "VAETransformer",
    "__version__",
    "compare",
    "load",
    "register_onnx",
    "to_onnx",
]
