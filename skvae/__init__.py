"""A variational autoencoder for people who use PCA."""

from ._transformer import VAETransformer
from ._version import __version__

__all__ = ["VAETransformer", "__version__"]
