"""Moments of rows that come in parts, which are all that a linear start needs of the rows of many calls."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .._data.arrays import to_numpy
from .._data.rows import UnevenRows, blocks, rows_per_block, values_and_errors, with_nan
from .._data.weights import effective_n_rows
from .exponential_family import most_rows
from .scatter import Scatter


@dataclass(frozen=True)
class Moments:
    """The number of rows, their mean, and the sums of products of their deviations from it, in X's units.

    Sums of parts are merged as Chan, Golub and LeVeque have it (Algorithms for computing the sample variance, 1983,
    eq. 1.5).
    """

    n: NDArray[np.float64]  # (p,), the number of rows in which each column was measured
    mean: NDArray[np.float64]  # (p,)
    products: NDArray[np.float64]  # (p, p), or (p,): of each column with itself alone
    sample: NDArray[np.float64] | None = None  # (m, p), some of the rows, for a start that needs more than moments

    @classmethod
    def of(cls, data, module, with_products, with_sample=False):
        """Moments of weighted rows.

        With products, the values of a row are those that the module's linear model expects without errors, and the
        covariance that the errors leave is added: the expectation step of EM (Cappe and Moulines, Online
        expectation-maximization algorithm, 2009). A sample has the rows in proportion to their weights.
        """
        weight = np.ones(len(data)) if data.weight is None else data.weight
        weight = weight * (effective_n_rows(len(data), data.weight) / weight.sum())
        rows = UnevenRows(data.rows) if data.is_uneven else data.rows
        n_values = data.rows.shape[1] * (1 + (with_products and data.is_uneven) * module.n_components)
        total = None
        device = module.shift.device
        for block in blocks(len(data), rows_per_block(n_values, device)):
            x = rows[block].to(device).double()
            w = torch.from_numpy(weight[block]).to(x)
            sums = of_block(x, w, module) if with_products else of_columns(with_nan(x), w)
            part = cls(*map(to_numpy, sums))
            total = part if total is None else total + part
        if with_sample and total is not None:
            size = min(len(data), most_rows(data.rows.shape[1]))
            drawn = np.random.RandomState(0).choice(len(data), size, replace=False, p=weight / weight.sum())
            total = replace(total, sample=data.rows.array(np.sort(drawn)).astype(np.float64))
        return total

    @np.errstate(over="ignore", invalid="ignore")  # `scaling_of` refuses what is too large
    def __add__(self, other):
        n = self.n + other.n
        share, apart = other.n / np.where(n > 0, n, 1.0), other.mean - self.mean
        between = self.n * share * (apart**2 if self.products.ndim == 1 else np.outer(apart, apart))
        return Moments(
            n, self.mean + apart * share, self.products + other.products + between, self._merged_sample(other)
        )

    def _merged_sample(self, other):
        """Rows of both samples, in proportion to the numbers of rows that they stand for."""
        if self.sample is None or other.sample is None:
            return None
        size = min(most_rows(self.sample.shape[1]), len(self.sample) + len(other.sample))
        n_other = round(size * other.n_rows / (self.n_rows + other.n_rows))
        n_other = min(max(n_other, size - len(self.sample)), len(other.sample))
        rng = np.random.RandomState(0)
        parts = (self.sample, size - n_other), (other.sample, n_other)
        return np.concatenate([rows[np.sort(rng.permutation(len(rows))[:k])] for rows, k in parts])

    @property
    def n_rows(self):
        return float(self.n.max())

    @property
    def variance(self):
        """Of each column (p,)."""
        return (self.products if self.products.ndim == 1 else self.products.diagonal()) / self.n

    def scatter(self, scale):
        """The covariance of the columns in units of `scale` (p,), a Tensor."""
        scale = scale.cpu()
        return Scatter(torch.from_numpy(self.products / self.n) / (scale[:, None] * scale))


def of_columns(x, w):
    """Numbers of measured values, means and sums of squares of rows x (b, p), which may have NaN, of weights w."""
    n = w @ (~x.isnan()).double()
    mean = (w @ x.nan_to_num()) / torch.where(n > 0, n, 1.0)
    return n, mean, w @ (x - mean).nan_to_num_().square_()


def of_block(x, w, module):
    """Number, mean and sums of products of rows x (b, p) or (b, 2, p) of weights w."""
    within = 0.0
    if x.ndim == 3:
        values, errors = values_and_errors(module.standardise(x))
        given = module.linear_conditional(values, errors)
        x = module.restore(module.linear_values(torch.stack([values, errors], dim=1)))
        spread = (w.sqrt()[:, None, None] * given.spread(module.fill_loadings) * module.scale).flatten(0, 1)
        noise = (w @ (1 - given.share)) * module.fill_noise.double() * module.scale.square()
        within = spread.T @ spread + noise.diag()
    n = w.sum().expand_as(x[0])
    mean = w @ x / n
    deviation = x - mean
    return n, mean, (w[:, None] * deviation).T @ deviation + within
