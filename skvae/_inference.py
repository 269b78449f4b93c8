"""Arrays through a fitted model, a block of rows at a time, in the dtype of the arrays."""

import copy

import numpy as np
import torch

from ._arrays import array_of
from ._rows import blocks, rows_of, rows_per_block
from .objectives import importance_bound

N_REFILLS = 8
LANES = 64  # of whose multiples a block has rows, so that a row's result does not depend on the others: `by_columns`


def finite(numbers):
    """The array or tensor as it is: no number leaves that its dtype has no room for.

    Raises
    ------
    ValueError
        If one is infinite or NaN.
    """
    if not (torch if isinstance(numbers, torch.Tensor) else np).isfinite(numbers).all():
        raise ValueError(
            f"Numbers exceed the range of {numbers.dtype}: X is too large for it or too far from the training rows, or "
            "these were trained on with too large a learning_rate_init."
        )
    return numbers


def squared_residuals(x, reconstruction):
    """Of each row (n, p): p times the mean over its measured values, float64."""
    n_measured = (~x.isnan()).sum(1).clamp(min=1)
    return (x.double() - reconstruction).square().nansum(1) * x.shape[1] / n_measured


class Inference:
    """A fitted VAE as functions from rows to arrays of their kind, its components as the user sees them.

    Rows X and Z are Rows, ndarrays or tensors.

    Parameters
    ----------
    module : VAE
    dtype : {np.float32, np.float64}
        Of arrays and of the computation.
    gaps : bool, default=False
        Whether the rows to come have NaN.
    """

    def __init__(self, module, dtype, gaps=False):
        self.dtype = torch.float64 if dtype == np.float64 else torch.float32
        self.module = copy.copy(module) if self.dtype == torch.float32 else copy.deepcopy(module).double()
        self.module.gaps, self.module.n_refills = gaps, N_REFILLS
        self.n_values = len(module.shift) + gaps * 4 * module.n_components**2  # that a row takes to encode
        self.device = module.shift.device

    def _results(self, function, X, n_values):
        """The slices of X and function(block of X), for blocks with `n_values` numbers a row.

        Blocks are filled up to a multiple of `LANES` rows, unless so many would take over 4 times what a block does.
        """
        size = rows_per_block(n_values)
        lanes = LANES if 4 * size >= LANES else 1
        for rows in blocks(len(X), -(-size // lanes) * lanes):
            block = X[rows].to(self.device)
            n = len(block)
            if n % lanes:
                block = torch.cat([block, block[:1].expand(-n % lanes, -1)])
            yield rows, finite(function(block)[:n])

    @torch.no_grad()
    def _map(self, function, X, n_values):
        """Stack function(block of X), as an array of X's kind."""
        out, X = None, rows_of(X)
        for rows, result in self._results(function, X, n_values):
            if out is None:
                out = result.new_empty((len(X), *result.shape[1:]), device=X[:0].device)
            out[rows] = result
        return X.like(out)

    def _encode(self, x):
        return self.module.encode(self.module.standardise(x))

    def transform(self, X):
        """Posterior means (n, d)."""
        return self._map(self.module.transform, X, self.n_values)

    def covariance(self, X):
        """Posterior covariances (n, d, d)."""
        arranged, d = self.module.arranged, self.module.n_components
        return self._map(lambda x: arranged(arranged(self._encode(x).covariance()).mT), X, self.n_values + d * d)

    def kl_of_components(self, X):
        """KL(q_j || N(0, 1)) of each component (n, d), nats."""
        order = self.module.order
        return self._map(lambda x: self._encode(x).kl_of_components()[..., order], X, self.n_values)

    def inverse_transform(self, Z):
        """Means (n, p) of p(x | z)."""
        return self._map(self.module.inverse_transform, Z, len(self.module.shift))

    def _jacobian(self, z):
        """d E[x | z] / d z (n, d, p), along each component, by twice backward: forward mode is not safe in threads."""
        n, d = z.shape
        along = torch.eye(d, dtype=z.dtype, device=z.device).repeat_interleave(n, 0)
        _, slopes = torch.autograd.functional.jvp(self.module.inverse_transform, z.repeat(d, 1), along)
        return slopes.unflatten(0, (d, n)).transpose(0, 1)

    def jacobian(self, Z):
        """d E[x | z] / d z (n, d, p), in X's units."""
        return self._map(self._jacobian, Z, 2 * Z.shape[1] * len(self.module.shift))

    @torch.no_grad()
    def mean_jacobian(self, Z, weight):
        """Means over the rows of d E[x | z] / d z (d, p) and of its squared length (d,), for weights of sum 1."""
        mean, square = 0.0, 0.0
        for rows, result in self._results(self._jacobian, rows_of(Z), 2 * Z.shape[1] * len(self.module.shift)):
            result = array_of(result)
            mean = mean + np.einsum("n, ndp -> dp", weight[rows], result)
            square = square + np.einsum("n, ndp, ndp -> d", weight[rows], result, result)
        return mean, square

    def noise(self, n, seed, matched=False):
        """Standard normal draws (n, d); matched: their mean is exactly 0 and, of more than d, their covariance I."""
        d = self.module.n_components
        eps = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if matched:
            eps = eps - eps.mean(0)
            if n > d:
                eps = torch.linalg.solve_triangular(torch.linalg.cholesky(eps.T @ eps / n), eps.T, upper=False).T
        return eps.to(self.device, self.dtype)

    def score_samples(self, X, n_draws, seed):
        """Importance-weighted bounds (n,) on log p(x) in nats.

        All rows share the noise of the draws, so that a row's score depends on no other row.
        """
        eps = self.noise(n_draws, seed).unsqueeze(1)

        def bound(x):
            return importance_bound(*self.module.importance_terms(self.module.standardise(x), eps))

        return self._map(bound, X, n_draws * self.n_values)

    def predictive(self, X, n_draws, seed, weighted, with_std=True):
        """Mean and, if asked for, standard deviation (n, 1 or 2, p) of p(x' | z) over draws of z given x.

        The draws are q(z | x)'s; weighted, by p(x, z) / q(z | x), they stand for the model's own posterior.
        """
        module, eps = self.module, self.noise(n_draws, seed, matched=True).unsqueeze(1)

        def moments(x):
            u = module.standardise(x)
            q = module.encode(u)
            z = q.rsample(eps)  # (K, n, d)
            raw = module.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
            share = torch.full(z.shape[:2], 1 / n_draws, dtype=z.dtype, device=z.device)
            if weighted:
                worth = module.log_likelihood(raw, u) + q.log_prior_ratio(z, eps)
                share = worth.clamp(min=torch.finfo(worth.dtype).min).softmax(0)  # all may be -inf, far from the data
            mean = module.likelihood.mean(raw)
            expected = torch.einsum("kn, knp -> np", share, mean)
            results = [module.restore(expected)]
            if with_std:
                variance = module.likelihood.variance(raw) + (mean - expected).square()
                spread = torch.einsum("kn, knp -> np", share, variance)
                results.append(spread.sqrt() * module.scale.to(spread.dtype))
            return torch.stack(results, dim=1)

        return self._map(moments, X, n_draws * self.n_values)

    @torch.no_grad()
    def feature_covariance(self, n_draws, seed):
        """Cov[E[x | z]] + E[Var[x | z]] (p, p), over matched draws of z: exact where E[x | z] is linear."""
        module = self.module
        p, z = len(module.shift), self.noise(n_draws, seed, matched=True)
        second, total, noise = np.zeros((p, p)), np.zeros(p), np.zeros(p)
        for rows in blocks(n_draws, rows_per_block(p)):
            raw = module.decoder(z[rows])
            mean = module.likelihood.mean(raw).cpu().double().numpy()
            second += mean.T @ mean
            total += mean.sum(0)
            noise += module.likelihood.variance(raw).sum(0).cpu().double().numpy()
        scale = module.scale.cpu().double().numpy()
        covariance = (second - np.outer(total, total) / n_draws + np.diag(noise)) / n_draws
        return scale[:, None] * covariance * scale

    def squared_residuals(self, X):
        """Squared distances (n,) of rows from their reconstructions, float64."""
        module = self.module
        return self._map(
            lambda x: squared_residuals(x, module.inverse_transform(module.transform(x))), X, self.n_values
        )

    def sample(self, n_samples, seed):
        """Rows (n_samples, p) drawn from the model."""
        module = self.module
        generator = torch.Generator(self.device).manual_seed(seed)

        def draw(z):
            return module.restore(module.likelihood.sample(module.decoder(z), generator))

        shape = n_samples, module.n_components
        z = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self._map(draw, z.cpu(), len(module.shift))
