r"""What a linear-Gaussian model says of the values that a row lacks.

u = W z + m + e, z ~ N(0, I), e ~ N(0, Psi), Psi diagonal. With S the measured features of a row, z given u_S has
precision P_S = I + W_S^T Psi_S^-1 W_S and mean P_S^-1 W_S^T Psi_S^-1 (u_S - m_S) (Little and Rubin, Statistical
analysis with missing data, 2020, section 11.3).
"""

import torch


class Conditional:
    """z given the measured values of each row, and what they leave open.

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
        self._whole = eye + W.T @ weighted  # P, of a row without gaps
        self.factor = torch.linalg.cholesky(precision)
        self.mean = self._solve((residual @ weighted).unsqueeze(-1)).squeeze(-1).to(self.dtype)

    def _solve(self, right):
        return torch.cholesky_solve(right, self.factor)

    def fill(self, u, values):
        """u (n, p) with `values`, broadcasting to it, in its gaps."""
        return torch.where(self.measured, u, values)

    def newton(self, change):
        """P_S^-1 P change, for a change (n, d) of z that takes the values in the gaps for measured.

        If those were filled from z and the encoder answers z + change, the two agree at z + P_S^-1 P change: exactly
        in the linear model, where gaps slow the plain iteration by the factor I - P^-1 P_S.
        """
        return self._solve((change.double() @ self._whole).unsqueeze(-1)).squeeze(-1).to(self.dtype)

    def widening(self):
        """G (n, d, d), upper triangular, with G P^-1 G^T = P_S^-1: from the posterior of a whole row to this one's."""
        whole = torch.linalg.cholesky(self._whole)
        return torch.linalg.solve_triangular(self.factor.mT, whole.T.expand_as(self.factor), upper=True).to(self.dtype)
