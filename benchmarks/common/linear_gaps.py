"""What a posterior's bound loses, in nats, where the true posterior is a known Gaussian: closed forms."""

import numpy as np


def correlations(d):
    """T(rho)_ij = rho^|i - j| for many rho, (6001, d, d)."""
    rho = np.tanh(np.linspace(-6, 6, 6001))
    return rho[:, None, None] ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


def rho_gap(p, power):
    """What s T(rho) loses, z rotated: min over rho of 1/2 [d / a log(mean_j (p_j e_j)^a) - sum_j log p_j e_j].

    e_j are T's eigenvalues, the largest beside the smallest p_j. The power a is 1 at PCA's loadings and 1/2 at those
    that are best for this bound: with PCA's axes and noise, but precisions (p_j / s e_j)^(1/2), all at least 1 here.
    """
    products = np.sort(p)[::-1] * np.linalg.eigvalsh(correlations(len(p)))
    return 0.5 * np.min(len(p) / power * np.log((products**power).mean(1)) - np.log(products).sum(1))


def gaps_without_rotation(P):
    """What diag(s) loses (Hadamard's inequality), and s T(rho), for P in the basis it is given in."""
    T, log_det = correlations(len(P)), np.linalg.slogdet(P)[1]
    rho = len(P) * np.log((P * T).mean((1, 2)) * len(P)) - np.linalg.slogdet(T)[1]
    return 0.5 * (np.log(np.diag(P)).sum() - log_det), 0.5 * (rho.min() - log_det)
