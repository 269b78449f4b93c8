"""
A posterior of your own
=======================

A family of posteriors is one class: how many numbers the encoder gives for a row, and how the scale matrix L of
N(mean, L L^T) acts. Here the errors of all components share one direction, v.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from skvae import VAETransformer
from skvae.posteriors import Posterior


class SharedPosterior(Posterior):
    """Covariance S^(1/2) (I + v v^T) S^(1/2), S = diag(s); g = 1 + |v|^2 is the determinant of I + v v^T."""

    def __init__(self, raw, n_components):
        self.mean, self.log_s, v = raw.chunk(3, dim=-1)
        self.v = v + 0.3  # v and -v are the same, so that training would never leave 0
        self.std = torch.exp(0.5 * self.log_s)
        self.g = 1 + self.v.square().sum(dim=-1, keepdim=True)

    @staticmethod
    def n_raw(n_components):
        return 3 * n_components

    def scale(self, eps):  # L eps
        along = (self.v * eps).sum(dim=-1, keepdim=True)
        return self.std * (eps + self.v * along / (1 + self.g.sqrt()))

    def whiten(self, delta):  # L^-1 delta
        along = (self.v * delta / self.std).sum(dim=-1, keepdim=True)
        return delta / self.std - self.v * along / (self.g.sqrt() + self.g)

    def log_det(self):  # log det L L^T
        return self.log_s.sum(dim=-1) + self.g.log().squeeze(-1)

    def variance(self):  # of each component, the diagonal of L L^T
        return self.log_s.exp() * (1 + self.v.square())


# %%
# Counts of two overlapping bands: a spectrum says little about which of the two is the higher.

rng, x = np.random.default_rng(0), np.linspace(0, 10, 100)
places, heights = np.array([4.5, 5.5]) + rng.normal(0, 0.5, (2000, 2)), rng.gamma(4, 10, (2000, 2))
X = rng.poisson(5 + np.sum(heights[..., None] * np.exp(-0.5 * ((x - places[..., None]) / 0.6) ** 2), axis=1))
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for axis, (name, posterior) in zip(axes, {"shared": SharedPosterior, "full": "full"}.items(), strict=True):
    vae = VAETransformer(4, posterior=posterior, likelihood="poisson", random_state=0).fit(X[:1500])
    covariance = vae.posterior_covariance(X[1500:])
    std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    correlation = np.abs(covariance / std[:, :, None] / std[:, None, :]).mean(axis=0)
    image = axis.imshow(correlation, vmin=0, vmax=1, cmap="Blues")
    axis.set(title=f"{name}: {vae.score(X[1500:]):.1f} nats per row", xlabel="component", xticks=range(4))
figure.colorbar(image, ax=axes, label="posterior |correlation|, mean of rows")
plt.show()
