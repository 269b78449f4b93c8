r"""Rows with missing values: what a linear model says of them, the encoder's input, and the posterior it is given.

In the linear-Gaussian model u = W z + m + e, z ~ N(0, I), e ~ N(0, Psi), Psi diagonal, let S be the measured features
of a row. Then z given u_S has precision P_S = I + W_S^T Psi_S^-1 W_S and mean P_S^-1 W_S^T Psi_S^-1 (u_S - m_S) (Little
and Rubin, Statistical analysis with missing data, 2020, section 11.3). `MissingValueConditional` computes this. The
encoder sees a row whose gaps are filled (`refine_fill`), and its posterior is then made as wide as a row with gaps asks
for: `WidenedPosterior` where the linear model is known, else `TemperedPosterior`.
"""

import torch
from torch import Tensor

from ..posteriors import Posterior


class MissingValueConditional:
    """z given the measured values of each row.

    Parameters
    ----------
    u : Tensor of shape (n, p)
        NaN where a value was not measured.
    loadings : Tensor of shape (p, d)
    mean, noise_variance : Tensor of shape (p,)

    Attributes
    ----------
    measured : bool Tensor of shape (n, p)
    mean : Tensor of shape (n, d)
        E[z | u_S].
    factor : Tensor of shape (n, d, d)
        Lower, of P_S = factor factor^T.
    """

    def __init__(self, u, loadings, mean, noise_variance):
        W, self.dtype = loadings.double(), u.dtype
        weighted = W / noise_variance.double().unsqueeze(1)
        self.measured = ~u.isnan()
        residual = torch.where(self.measured, u - mean, 0.0).double()
        eye = torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
        pairs = (weighted.unsqueeze(2) * W.unsqueeze(1)).flatten(1)  # (p, d * d)
        precision = eye + (self.measured.double() @ pairs).unflatten(1, eye.shape)  # (n, d, d), P_S
        self._complete = eye + W.T @ weighted  # (d, d), P of a complete row
        self.factor = torch.linalg.cholesky(precision)
        self.mean = self._solve((residual @ weighted).unsqueeze(-1)).squeeze(-1).to(self.dtype)

    def _solve(self, right):
        return torch.cholesky_solve(right, self.factor)

    def fill(self, u, values):
        """u (n, p) with `values`, which broadcast to it, where a value is missing."""
        return torch.where(self.measured, u, values)

    def spread(self, loadings):
        """R (n, d, p): R^T R is the covariance of the values W z that are missing, without their noise."""
        right = loadings.double().T.expand(len(self.factor), -1, -1)
        return torch.linalg.solve_triangular(self.factor, right, upper=False) * ~self.measured.unsqueeze(1)

    def newton_step(self, change):
        """P_S^-1 P change, for a change (n, d) of z that takes the filled values for measured ones.

        If the gaps were filled from z and the encoder answers z + change, filling and encoding agree at
        z + P_S^-1 P change. This is exact in the linear model, where gaps slow the plain iteration by the factor
        I - P^-1 P_S.
        """
        return self._solve((change.double() @ self._complete).unsqueeze(-1)).squeeze(-1).to(self.dtype)

    def widening(self):
        """G (n, d, d), upper triangular, with G P^-1 G^T = P_S^-1: from a complete row's posterior to this row's."""
        complete = torch.linalg.cholesky(self._complete)
        right = complete.T.expand_as(self.factor)
        return torch.linalg.solve_triangular(self.factor.mT, right, upper=True).to(self.dtype)


def refine_fill(conditional, u, n_steps, encode_mean, decode):
    """Values (n, p) for the gaps of u: the decoder's, for a z that the encoder confirms when it sees them there.

    Newton's steps lead there from the linear model's answer. Each step is halved until log p(u_S, z) rises.

    Parameters
    ----------
    conditional : MissingValueConditional
    u : Tensor of shape (n, p)
    n_steps : int
    encode_mean : callable
        Complete rows (n, p) -> posterior means (n, d).
    decode : callable
        z (n, d) -> log p(u_S | z), shape (n,), and E[u | z], shape (n, p).
    """

    def log_joint_and_values(z):
        log_likelihood, values = decode(z)
        return log_likelihood - 0.5 * z.square().sum(-1), values

    z = conditional.mean
    step_length = torch.ones_like(z[:, :1])
    log_joint, values = log_joint_and_values(z)
    for _ in range(n_steps):
        step = conditional.newton_step(encode_mean(conditional.fill(u, values)) - z)
        trial = z + step_length * step
        trial_log_joint, trial_values = log_joint_and_values(trial)
        is_better = (trial_log_joint > log_joint).unsqueeze(1)
        z, values = torch.where(is_better, trial, z), torch.where(is_better, trial_values, values)
        log_joint = torch.maximum(trial_log_joint, log_joint)
        step_length = torch.where(is_better, 1.0, step_length / 2)
    return values


class WidenedPosterior(Posterior):
    r"""N(mean, G L L^T G^T), for a complete row's posterior N(mean, L L^T) of any family and a matrix G per row.

    Parameters
    ----------
    complete : Posterior
    widening : Tensor of shape (n, d, d)
        G, upper triangular with a positive diagonal.
    """

    def __init__(self, complete: Posterior, widening: Tensor) -> None:
        self.complete, self.mean, self.widening = complete, complete.mean, widening

    def scale(self, eps: Tensor) -> Tensor:
        return (self.widening @ self.complete.scale(eps).unsqueeze(-1)).squeeze(-1)

    def whiten(self, delta: Tensor) -> Tensor:
        delta = torch.linalg.solve_triangular(self.widening, delta.unsqueeze(-1), upper=True)
        return self.complete.whiten(delta.squeeze(-1))

    def log_det(self) -> Tensor:
        return self.complete.log_det() + 2 * self.widening.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self) -> Tensor:
        return self.covariance().diagonal(dim1=-2, dim2=-1)


class TemperedPosterior(Posterior):
    r"""N(mean, P^-1), P = I + s (C^-1 - I), for a complete row's posterior N(mean, C) and a share s per row.

    What a row tells of z beyond the prior is taken to be spread evenly over its values, of which the share s is
    measured. This serves where no linear model says what each missing value would have told.

    Parameters
    ----------
    complete : Posterior
    measured_share : Tensor of shape (n,)
    """

    def __init__(self, complete: Posterior, measured_share: Tensor) -> None:
        self.complete, self.mean = complete, complete.mean
        self.has_values = (measured_share > 0).unsqueeze(-1)  # a row without values has P = I
        L, s = complete.matrix().double(), measured_share.double()[:, None, None]
        eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
        # P = L^-T [(1 - s) L^T L + s I] L^-1: however narrow the posterior is, nothing is inverted
        inner = torch.where(s > 0, (1 - s) * (L.mT @ L) + s * eye, eye)
        factor, failed = torch.linalg.cholesky_ex(inner)  # does not raise where a training that diverges meets NaN
        self.factor = factor.masked_fill(failed.bool()[:, None, None], torch.nan).to(self.mean.dtype)

    def scale(self, eps: Tensor) -> Tensor:
        eps = torch.linalg.solve_triangular(self.factor.mT, eps.unsqueeze(-1), upper=True).squeeze(-1)
        return torch.where(self.has_values, self.complete.scale(eps), eps)

    def whiten(self, delta: Tensor) -> Tensor:
        delta = torch.where(self.has_values, self.complete.whiten(delta), delta)
        return (self.factor.mT @ delta.unsqueeze(-1)).squeeze(-1)

    def log_det(self) -> Tensor:
        complete = torch.where(self.has_values.squeeze(-1), self.complete.log_det(), 0.0)
        return complete - 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def variance(self) -> Tensor:
        return self.covariance().diagonal(dim1=-2, dim2=-1)
