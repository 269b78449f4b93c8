"""The p x p covariance of the columns, which is not formed where there are fewer rows than columns."""

import torch

from .._data.rows import blocks, rows_per_block, values_and_errors
from .eigenvectors import largest_eigenvectors

LARGE = 4_000_000  # numbers: iterations with fewer take less time on the CPU than a GPU takes to answer


class Scatter:
    """The p x p covariance of the columns: dense or, if there are fewer rows than columns, as the centred rows.

    It lies on the CPU or, where it has as many as `LARGE` numbers, on the device of the rows that it is computed from.
    """

    def __init__(self, dense=None, rows=None):
        self.dense, self.rows = dense, rows

    @classmethod
    def of(cls, u, weight=None, is_wrapped=False):
        """Compute it from rows u with weights (n,), in one pass over blocks. Values with errors count as `expected`.

        If `is_wrapped`, rows are `wrapped`, so that neither values nor rows that lie far out have much weight.
        """
        values = (lambda rows: wrapped(expected(rows))) if is_wrapped else expected
        n, p = u.shape[0], u.shape[-1]
        device = u.device if min(n, p) * p >= LARGE else torch.device("cpu")
        total_weight = n if weight is None else weight.double().sum().item()
        if n < p:
            rows = values(u[:].to(device).double())
            if weight is None:
                return cls(rows=(rows - rows.mean(0)) / n**0.5)
            normalized_weight = weight.to(device).double() / total_weight
            return cls(rows=(rows - normalized_weight @ rows) * normalized_weight.sqrt().unsqueeze(1))
        dense, total = (torch.zeros(shape, dtype=torch.float64, device=u.device) for shape in ((p, p), p))
        for block in blocks(n, rows_per_block(p, u.device)):
            rows = values(u[block].double())
            weighted = rows if weight is None else weight[block].double().unsqueeze(1) * rows
            dense.addmm_(rows.T, weighted)
            total += weighted.sum(0)
        mean = total / total_weight
        return cls((dense / total_weight - torch.outer(mean, mean)).to(device))

    @property
    def device(self):
        return (self.rows if self.dense is None else self.dense).device

    def weighted(self, weight):
        """The covariance of the columns times `weight` (p,)."""
        if self.dense is None:
            return Scatter(rows=self.rows * weight)
        return Scatter(weight[:, None] * self.dense * weight)

    def __matmul__(self, right):
        return self.rows.T @ (self.rows @ right) if self.dense is None else self.dense @ right

    def diagonal(self):
        return self.rows.square().sum(0) if self.dense is None else self.dense.diagonal().clamp(min=0)

    def top(self, k):
        """The largest k eigenvalues, descending, and their eigenvectors as columns (p, k).

        If there are fewer than k rows or columns, the further eigenvalues and their vectors are 0.
        """
        matrix = self.rows @ self.rows.T if self.dense is None else self.dense
        values, vectors = largest_eigenvectors(matrix, min(k, len(matrix)))
        values = values.clamp(min=0)
        if self.dense is None:
            vectors = torch.where(values > 1e-14 * values[0], self.rows.T @ vectors / values.sqrt(), 0)
        missing = k - len(values)
        return torch.nn.functional.pad(values, (0, missing)), torch.nn.functional.pad(vectors, (0, missing))


def expected(u):
    """What the values (n, p) of rows u (n, p) or (n, 2, p) are expected to be without their errors.

    They have mean 0 and variance 1. A missing value counts as 0.
    """
    values, errors = values_and_errors(u)
    return values if errors is None else values / (1 + errors)


def wrapped(rows):
    """Rows (n, p) of values of size 1, with values cut at 2 and then with lengths cut at sqrt(p).

    (Raymaekers and Rousseeuw, Fast robust correlation for high-dimensional data, 2021; Locantore et al., Robust
    principal component analysis for functional data, 1999.)
    """
    rows = rows.clamp(-2, 2)
    return rows / (rows.square().mean(1, keepdim=True).sqrt()).clamp(min=1)
