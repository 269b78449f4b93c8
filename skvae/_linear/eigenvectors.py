"""The largest eigenvalues of a symmetric matrix."""

import math

import torch

LARGE = 1000  # columns; with fewer, the whole decomposition takes little time
EXTRA = 8  # vectors in a block beyond those that are asked for
DEPTH = 4  # blocks in a basis


def largest_eigenvectors(matrix, k):
    """The largest k eigenvalues, descending, and their eigenvectors as columns, to float64's rounding.

    Few eigenvectors of a large matrix are found by the Rayleigh-Ritz method in a block Krylov space, [Q, A Q,
    A^2 Q, ...], which is restarted from its best vectors until A v - lambda v is at the level of rounding. A block
    wider than k also finds equal eigenvalues. Small matrices, and those with many eigenvalues close together, for
    which the method would take long, are decomposed as a whole.

    Parameters
    ----------
    matrix : Tensor of shape (p, p), float64
        Symmetric and positive semi-definite.
    k : int
        At most p.

    Returns
    -------
    values : Tensor of shape (k,)
    vectors : Tensor of shape (p, k)

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th edition, section 10.3.6 (block Lanczos).
    """
    p = len(matrix)
    if p >= LARGE and 16 * (k + EXTRA) <= p:
        q = torch.randn(p, k + EXTRA, dtype=matrix.dtype, generator=torch.Generator().manual_seed(0)).to(matrix.device)
        error = torch.inf
        for left in reversed(range(p // (3 * q.shape[1]))):  # these steps take less time than the whole decomposition
            values, q, residuals = rayleigh_ritz(matrix, q)
            goal, before, error = 1e-14 * values[0].item(), error, residuals[:k].max().item()
            if error <= goal:
                return values[:k], q[:, :k]
            if not math.log(before / error) * left > math.log(error / goal):
                break  # at this rate, the steps that are left will not reach the goal
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0)[:k], vectors.flip(1)[:, :k]


def rayleigh_ritz(matrix, q):
    """Eigenvalues, eigenvectors and residuals, as many as q has columns, the largest eigenvalue first."""
    basis = torch.linalg.qr(q).Q
    images = matrix @ basis
    for _ in range(DEPTH - 1):
        new = images[:, -q.shape[1] :]
        for _ in range(2):  # to orthogonalise twice is enough (Parlett)
            new = torch.linalg.qr(new - basis @ (basis.T @ new)).Q
        basis, images = torch.cat([basis, new], dim=1), torch.cat([images, matrix @ new], dim=1)
    values, turn = torch.linalg.eigh(basis.T @ images)
    values, turn = values.flip(0)[: q.shape[1]], turn.flip(1)[:, : q.shape[1]]
    vectors = basis @ turn
    return values, vectors, torch.linalg.vector_norm(images @ turn - vectors * values, dim=0)
