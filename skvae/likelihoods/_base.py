"""What every likelihood p(x | z) provides."""

import torch
from torch import nn

# Least noise variance of a Gaussian, as a share of the feature's variance. log p is unbounded as a
# variance goes to 0, which it can: constant or duplicated columns, Heywood cases of factor analysis.
NOISE_FLOOR = 1e-6


class Likelihood(nn.Module):
    """Density of a row given the decoder's output, in the units of the network's data u.

    Parameters
    ----------
    scale : Tensor of shape (n_features,), float64
        X's units per unit of u = (x - shift) / scale. All ones where `standardises` is False.

    Attributes
    ----------
    standardises : bool, class attribute
        Whether X is centred and scaled before it meets the network.
    linear_noise : {"feature", "isotropic", "unit"} or None, class attribute
        The linear-Gaussian model whose closed-form optimum training starts from: factor analysis,
        probabilistic PCA, or PCA with noise variance one in X's units. None: there is no such optimum.
    """

    standardises = False
    linear_noise = None

    def __init__(self, scale):
        super().__init__()

    @staticmethod
    def n_raw(n_features):
        """How many numbers the decoder emits a row. By convention the first n_features are the mean's."""
        return n_features

    @staticmethod
    def check(X):
        """Raise ValueError unless the rows of the array X lie in the support."""

    def log_prob(self, raw, u):
        """log p(u | z) in nats, shape (...), for raw (..., n_raw) and u broadcasting to (..., n_features)."""
        raise NotImplementedError

    def mean(self, raw):
        """E[u | z], shape (..., n_features)."""
        raise NotImplementedError

    def sample(self, raw, generator):
        """One draw of u | z from each row of raw, shape (..., n_features)."""
        raise NotImplementedError

    def start(self, variance):
        """Take the linear optimum's noise ``variance`` (n_features,), in units of u.

        Returns the constants of the decoder's outputs after the mean's, shape (n_raw - n_features,).
        """
        return variance.new_empty(0)

    def constant_variance(self):
        """Noise variance (n_features,) or (), in units of u, or None where it is not one number a feature."""
        return None


def standard_normal_like(mean, generator):
    return torch.empty_like(mean).normal_(generator=generator)
