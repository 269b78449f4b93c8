r"""Rows whose values have precisions of their own: the encoder's input, and the posterior it is given.

In the linear-Gaussian model u = W z + m + e, z ~ N(0, I), e ~ N(0, Psi), let value j of row i be measured with an error
of variance s_ij^2 beside e. Its precision is w_ij = 1 / (Psi_j + s_ij^2): 0 where it is missing, which is an infinite
error. Then z given u_i has precision P_i = I + W^T diag(w_i) W and mean P_i^-1 W^T diag(w_i) (u_i - m) (Little and
Rubin, Statistical analysis with missing data, 2020, section 11.3; Bovy, Hogg and Roweis, Extreme deconvolution, 2011).
`LinearConditional` computes this. The encoder sees the row as it would be without errors (`refined_values`): the value
t_ij = f_ij + r_ij (u_ij - f_ij), f the decoder's mean and r_ij = Psi_j w_ij, which is 1 where there is no error and 0
where there is no value. Its posterior is then made as wide as the row's errors ask for: `WidenedPosterior` where the
linear model is known, else `TemperedPosterior`.
"""

import torch
from torch import Tensor

from ..posteriors import Posterior

LEAST_LEFT = 1e-14  # of a precision beside those of other directions of z, before rounding takes all of it


class LinearConditional:
    """z given the values of each row.

    Parameters
    ----------
    values : Tensor of shape (n, p)
    errors : Tensor of shape (n, p)
        Variances of their errors, infinite where a value, which may be any number, was not measured.
    loadings : Tensor of shape (p, d)
    mean, noise : Tensor of shape (p,)
    reference : Tensor of shape (p,) or None, default=None
        The noise of the row that the encoder sees; None: `noise`.

    Attributes
    ----------
    precision, share : Tensor of shape (n, p)
        w_ij, and r_ij: the precision as a share of that in the row that the encoder sees.
    mean : Tensor of shape (n, d)
        E[z | u_i].
    factor : Tensor of shape (n, d, d)
        Lower, of P_i = factor factor^T.

    Raises
    ------
    ValueError
        If a value's precision is so large that those of the others are lost in its rounding.
    """

    def __init__(self, values, errors, loadings, mean, noise, reference=None):
        W, self.dtype = loadings.double(), values.dtype
        reference = (noise if reference is None else reference).double()
        variance = noise.double() + errors.double()
        self.precision, self.share = 1 / variance, (reference / variance).to(self.dtype)
        eye = torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
        pairs = (W.unsqueeze(2) * W.unsqueeze(1)).flatten(1)  # (p, d * d)
        self._of_encoder = eye + W.T @ (W / reference.unsqueeze(1))  # (d, d), P of the row that the encoder sees
        precision = eye + (self.precision @ pairs).unflatten(1, eye.shape)
        self.factor, failed = torch.linalg.cholesky_ex(precision)
        left, whole = (matrix.diagonal(dim1=1, dim2=2) for matrix in (self.factor, precision))
        if failed.any() or (left.square() < LEAST_LEFT * whole).any():
            raise ValueError(
                "Known errors (X_std) are so small, beside others or beside what the rows differ by, that double "
                "precision cannot tell what the other values say: raise the least of them."
            )
        weighted = self.precision * (values.double() - mean)
        self.mean = self._solve((weighted @ W).unsqueeze(-1)).squeeze(-1).to(self.dtype)

    def _solve(self, right):
        return torch.cholesky_solve(right, self.factor)

    def without_errors(self, values, expected):
        """t (n, p), the values as they would be without errors, for what is `expected` of them."""
        return torch.lerp(expected, values, self.share)

    def spread(self, loadings):
        """R (n, d, p): R^T R is the covariance of what the errors leave open of W z."""
        right = loadings.double().T.expand(len(self.factor), -1, -1)
        return torch.linalg.solve_triangular(self.factor, right, upper=False) * (1 - self.share.double()).unsqueeze(1)

    def newton_step(self, change):
        """P_i^-1 P change, for a change (n, d) of z that takes the row without errors for measured.

        If that row was made from z and the encoder answers z + change, both agree at z + P_i^-1 P change. This is exact
        in the linear model, where errors slow the plain iteration by the factor I - P^-1 P_i.
        """
        return self._solve((change.double() @ self._of_encoder).unsqueeze(-1)).squeeze(-1).to(self.dtype)

    def widening(self):
        """G (n, d, d), upper triangular, G P^-1 G^T = P_i^-1: from the posterior of the encoder's row to this row's."""
        whole = torch.linalg.cholesky(self._of_encoder)
        right = whole.T.expand_as(self.factor)
        return torch.linalg.solve_triangular(self.factor.mT, right, upper=True).to(self.dtype)

    def stretch(self, least):
        """T (n, d, d), lower triangular, T (I - P_i^-1) T^T = I - P^-1: the covariances of posterior means over rows.

        Both are raised by `least`, so that a row that says nothing is not stretched without limit.
        """
        eye = torch.eye(self.factor.shape[-1], dtype=self.factor.dtype, device=self.factor.device)
        whole = torch.linalg.cholesky((1 + least) * eye - torch.linalg.inv(self._of_encoder))
        spread = torch.linalg.cholesky((1 + least) * eye - torch.cholesky_inverse(self.factor))
        return torch.linalg.solve_triangular(spread, whole.expand_as(spread), upper=False, left=False)


def refined_values(conditional, u, n_steps, encode_mean, decode):
    """The values (n, p) of rows without their errors, for a z that the encoder confirms when it sees them.

    Newton's steps lead there from the linear model's answer. Each step is halved until log p(u, z) rises.

    Parameters
    ----------
    conditional : LinearConditional
    u : Tensor of shape (n, p)
    n_steps : int
    encode_mean : callable
        Rows without errors (n, p) -> posterior means (n, d).
    decode : callable
        z (n, d) -> log p(u | z), shape (n,), and E[u | z], shape (n, p).
    """

    def log_joint_and_values(z):
        log_likelihood, expected = decode(z)
        return log_likelihood - 0.5 * z.square().sum(-1), conditional.without_errors(u, expected)

    z = conditional.mean
    step_length = torch.ones_like(z[:, :1])
    log_joint, values = log_joint_and_values(z)
    for _ in range(n_steps):
        step = conditional.newton_step(encode_mean(values) - z)
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

    What a row tells of z beyond the prior is taken to be spread evenly over its values, of whose precision the share s
    is left. This serves where no linear model says what each value tells.

    Parameters
    ----------
    complete : Posterior
    share_left : Tensor of shape (n,)
    """

    def __init__(self, complete: Posterior, share_left: Tensor) -> None:
        self.complete, self.mean = complete, complete.mean
        self.has_values = (share_left > 0).unsqueeze(-1)  # a row without values has P = I
        L, s = complete.matrix().double(), share_left.double()[:, None, None]
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
