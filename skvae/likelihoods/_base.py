"""What every likelihood p(x | z) provides."""

import numpy as np
import torch
from torch import nn

# Least noise variance of a Gaussian, as a share of the feature's variance. log p is unbounded as a
# variance goes to 0, which it can: constant or duplicated columns, Heywood cases of factor analysis.
NOISE_FLOOR = 1e-6


class Likelihood(nn.Module):
    """Density of a row given the decoder's output, in the units of the network's data u.

    Parameters
    ----------
    mean, scale : Tensor of shape (n_features,), float64
        Means of X's columns and their `units`.

    Attributes
    ----------
    standardises : bool, class attribute
        Whether u = (x - mean) / scale. Otherwise u is x.
    linear_noise : {"feature", "isotropic", "unit"} or None, class attribute
        The linear-Gaussian model whose closed-form optimum training starts from: factor analysis,
        probabilistic PCA, or PCA with noise variance one in X's units. None: there is no such optimum, and
        the decoder starts at `plain_start`.
    """

    standardises = False
    linear_noise = None

    def __init__(self, mean, scale):
        super().__init__()
        self.column_mean, self.column_scale = mean, scale

    @staticmethod
    def n_raw(n_features):
        """How many numbers the decoder emits a row. By convention the first n_features are the mean's."""
        return n_features

    @staticmethod
    def check(X):
        """Raise ValueError unless the values of the array X that are not NaN lie in the support."""

    @staticmethod
    def units(scale):
        """X's units per unit of u (n_features,), where X's columns have standard deviations `scale` (n_features,).

        Raises
        ------
        ValueError
            If the likelihood cannot be computed for such columns.
        """
        return scale

    def inputs(self, u):
        """What the encoder sees of the rows u."""
        return u

    def log_density(self, raw, u):
        """log p(u_k | z) of each feature in nats, for raw (..., n_raw) and u broadcasting to (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks log_density, which training and rows with NaN need.")

    def log_prob(self, raw, u):
        """log p(u | z) in nats, shape (...): the sum of `log_density`, which a subclass may know a faster way to."""
        return self.log_density(raw, u).sum(-1)

    def mean(self, raw):
        """E[u | z], shape (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks mean, which inverse_transform needs.")

    def variance(self, raw):
        """Var[u | z], shape (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks variance, which standard deviations of x need.")

    def sample(self, raw, generator):
        """One draw of u | z from each row of raw, shape (..., n_features)."""
        raise NotImplementedError(f"{type(self).__name__} lacks sample.")

    def start(self, variance):
        """Take the linear optimum's noise ``variance`` (n_features,), in units of u.

        Returns the constants of the decoder's outputs after the mean's, shape (n_raw - n_features,).
        """
        return variance.new_empty(0)

    def plain_start(self):
        """Where the decoder starts if there is no linear optimum: the outputs at which E[x | z] is X's column mean
        for every z, and the size of a change of them that matters; both of shape (n_raw,). By default 0 and 1.
        """
        n_raw = self.n_raw(len(self.column_mean))
        return torch.zeros(n_raw), torch.ones(n_raw)

    def constant_variance(self):
        """Noise variance (n_features,) or (), in units of u, or None where it is not one number a feature."""
        return None


def check_range(X, likelihood, low, high):
    """Raise ValueError unless the values of the array X that are not NaN lie in [low, high]."""
    least, most = np.fmin.reduce(X, axis=None), np.fmax.reduce(X, axis=None)
    if least < low or most > high:
        raise ValueError(
            f"likelihood={likelihood!r} takes X in [{low:g}, {high:g}], but X ranges from {least:g} to {most:g}."
        )


def standard_normal_like(mean, generator):
    return torch.empty_like(mean).normal_(generator=generator)
