"""Arrays through a fitted model, a block of rows at a time, in the dtype of the arrays."""

import copy

import numpy as np
import torch

from ._batches import blocks, rows_per_block
from .objectives import importance_bound


class Inference:
    """A fitted VAE as functions from arrays to arrays.

    Parameters
    ----------
    module : VAE
    dtype : {np.float32, np.float64}
        Of arrays and of the computation.
    """

    def __init__(self, module, dtype):
        self.dtype = torch.float64 if dtype == np.float64 else torch.float32
        self.module = module if self.dtype == torch.float32 else copy.deepcopy(module).double()
        self.device = module.shift.device

    @torch.no_grad()
    def _map(self, function, X, n_values):
        """Stack function(block of X) for blocks with `n_values` numbers a row."""
        out = None
        for rows in blocks(len(X), rows_per_block(n_values)):
            block = torch.from_numpy(np.array(X[rows], order="C")).to(self.device)
            result = function(block).cpu().numpy()
            out = np.empty((len(X), *result.shape[1:]), dtype=result.dtype) if out is None else out
            out[rows] = result
        return out

    def _encode(self, X):
        return self.module.encode(self.module.standardise(X))

    def transform(self, X):
        """Posterior means (n, d)."""
        return self._map(lambda x: self._encode(x).mean, X, X.shape[1])

    def covariance(self, X):
        """Posterior covariances (n, d, d)."""
        d = self.module.n_components
        return self._map(lambda x: self._encode(x).covariance(), X, X.shape[1] + d * d)

    def inverse_transform(self, Z):
        """Means (n, p) of p(x | z)."""
        module = self.module
        mean = lambda z: module.restore(module.likelihood.mean(module.decoder(z)))  # noqa: E731
        return self._map(mean, Z, len(module.shift))

    def score_samples(self, X, n_draws, seed):
        """Importance-weighted bounds (n,) on log p(x) in nats.

        All rows share the noise of the draws, so that a row's score depends on no other row.
        """
        generator = torch.Generator().manual_seed(seed)
        eps = torch.randn(n_draws, 1, self.module.n_components, generator=generator, dtype=torch.float64)
        eps = eps.to(self.device, self.dtype)

        def bound(x):
            return importance_bound(*self.module.importance_terms(self.module.standardise(x), eps))

        return self._map(bound, X, n_draws * X.shape[1])

    def sample(self, n_samples, seed):
        """Rows (n_samples, p) drawn from the model."""
        module = self.module
        generator = torch.Generator(self.device).manual_seed(seed)

        def draw(z):
            return module.restore(module.likelihood.sample(module.decoder(z), generator))

        shape = n_samples, module.n_components
        z = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self._map(draw, z.cpu().numpy(), len(module.shift))
