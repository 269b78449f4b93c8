"""Leverages against fits that leave rows out."""

import numpy as np
import pytest
import torch

from skvae._linear.leverage import leverages


def least_squares(z, x, w):
    """Fitted values of x (n,) by z (n, d) and an intercept, as a function of other z."""
    design = np.column_stack([z, np.ones(len(z))])
    root = np.sqrt(w)[:, None]
    beta = np.linalg.lstsq(root * design, root[:, 0] * x, rcond=None)[0]
    return lambda other: np.column_stack([other, np.ones(len(other))]) @ beta


@pytest.mark.parametrize("is_weighted", [False, True])
def test_residuals_of_rows_left_out(is_weighted):
    rng = np.random.RandomState(0)
    z, x = rng.randn(12, 2), rng.randn(12)
    w = rng.uniform(1, 3, 12) if is_weighted else np.ones(12)
    h = leverages(torch.from_numpy(z), torch.from_numpy(w) if is_weighted else None).numpy()
    residual = x - least_squares(z, x, w)(z)
    for i in range(12):
        rest = np.arange(12) != i
        left_out = x[i] - least_squares(z[rest], x[rest], w[rest])(z[i : i + 1])[0]
        assert left_out == pytest.approx(residual[i] / (1 - w[i] * h[i]))


def test_copies_are_left_out_together():
    """Where a group's rows have equal latents, their mean residual grows by 1 / (1 - h), h the group's leverage."""
    rng = np.random.RandomState(1)
    groups = np.repeat(np.arange(6), 3)
    z, x = rng.randn(6, 2)[groups], rng.randn(18)
    h = leverages(torch.from_numpy(z), groups=torch.from_numpy(groups)).numpy()
    residual = x - least_squares(z, x, np.ones(18))(z)
    for group in range(6):
        own, rest = groups == group, groups != group
        left_out = x[own] - least_squares(z[rest], x[rest], np.ones(15))(z[own])
        assert left_out.mean() == pytest.approx(residual[own].mean() / (1 - h[own][0]))
