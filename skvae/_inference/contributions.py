"""What each channel contributes to a row's T2 and Q: which channels make it odd."""

import numpy as np
import torch

NODES = (16, 64, 256)  # of the quadrature; a row that needs no more takes no more
PRECISION = 1e-3  # of a row's T2, to which the quadrature gives its sum
N_STEPS = 30  # to the row that a line begins at
ROUNDING = 1e-12  # a T2 that is none


class ScoreDistance:
    """Hotelling's T2 of rows as a function that has slopes: |(z(x) - m) R|^2, with R R^T = S^-1.

    Parameters
    ----------
    module : VAEModule
        In double precision.
    statistics : ScoreStatistics
    """

    def __init__(self, module, statistics):
        self.module = module
        device = module.shift.device
        self.centre, self.root = (torch.from_numpy(values).to(device) for values in statistics.whitening())

    def whitened(self, z):
        """Scores (n, r) of posterior means z (n, d), whose squared lengths are T2."""
        return (z - self.centre) @ self.root

    def scores(self, x):
        """Whitened scores (n, r) of complete rows x (n, p)."""
        return self.whitened(self.module.transform(x))

    def t2(self, x):
        """T2 (n,) of complete rows x (n, p)."""
        return self.scores(x).square().sum(1)

    def slopes(self, x):
        """d T2 / d x (n, p)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.t2(x).sum(), x)[0]

    def nearest_row_without(self, x):
        """From a row x (p,), the mean of all rows, to one near it whose T2 is 0.

        Gauss-Newton steps of least length, in units of the channels' scales, are halved until T2 falls. A linear model
        has z = m at the mean already, a curved one only near it.
        """
        scale = self.module.scale
        length, t2 = 1.0, self.t2(x[None]).item()
        for _ in range(N_STEPS):
            if t2 <= ROUNDING:
                break
            jacobian = torch.autograd.functional.jacobian(lambda row: self.scores(row[None])[0], x)  # (r, p)
            step = scale * (torch.linalg.pinv(jacobian * scale) @ self.scores(x[None])[0])
            trial = x - length * step
            trial_t2 = self.t2(trial[None]).item()
            x, t2, length = (trial, trial_t2, 1.0) if trial_t2 < t2 else (x, t2, length / 2)
        return x

    def contributions(self, x, origin, z):
        """The integrals of (x_j - origin_j) d T2 / d x_j (n, p) along lines from one row (p,) to rows x (n, p).

        They sum to the difference of T2 between the ends (integrated gradients: Sundararajan, Taly and Yan, Axiomatic
        attribution for deep networks, 2017). As networks have edges, which a quadrature is slow at, and as T2 is that
        of posterior means z (n, d) which allow for the errors of a row's values, what it gives is multiplied by what
        makes them sum to it.
        """
        result, left = torch.empty_like(x), torch.arange(len(x), device=x.device)
        goal = self.t2(x) - self.t2(origin[None])
        for n_nodes in NODES:
            change, mean_slope = x[left] - origin, 0.0
            for node, weight in zip(*np.polynomial.legendre.leggauss(n_nodes), strict=True):
                mean_slope = mean_slope + 0.5 * weight * self.slopes(origin + 0.5 * (1 + node) * change)
            result[left] = change * mean_slope
            left = left[(result[left].sum(1) - goal[left]).abs() > PRECISION * goal[left]]
            if not len(left):
                break
        total, t2 = result.sum(1), self.whitened(z).square().sum(1)
        return result * torch.where(total == 0, 1.0, t2 / total).unsqueeze(1)


def q_contributions(values, reconstruction, share=None):
    """sign(e) e^2 of residuals e of rows (n, p), in their `share` and times p / the number of measured values.

    Their absolute values sum to `squared_residuals`.
    """
    residual, n_measured = values.double() - reconstruction, values.shape[1]
    squares = residual * residual.abs()
    if share is not None:
        squares, n_measured = share * squares, (share > 0).sum(1, keepdim=True).clamp(min=1)
    return squares * values.shape[1] / n_measured
