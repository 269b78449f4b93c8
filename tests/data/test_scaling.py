"""Centre and scale of columns, in both dtypes and for many rows."""

import numpy as np
import pytest
from sklearn.decomposition import FactorAnalysis

from skvae import VAETransformer
from skvae._data.rows import Rows
from skvae._data.scaling import column_scaling

from ..conftest import small


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [100, 100_000, 10_000_000])
def test_a_spread_that_is_small_beside_the_mean_is_no_rounding(n, dtype):
    """Kelvin: 300 +- 1.4 and 300 +- 0.01, beside columns that are constant, to the last bit or to a unit of it."""
    sign = np.resize(np.array([1, -1], dtype=dtype), n)
    jitter = np.where(sign > 0, dtype(300.1), np.nextafter(dtype(300.1), dtype(0)))
    X = np.column_stack([300 + dtype(1.4) * sign, 300 + dtype(0.01) * sign, np.full(n, dtype(300.1)), jitter])
    mean, scale = column_scaling(Rows(X))
    np.testing.assert_allclose(mean, [300, 300, 300.1, 300.1], rtol=1e-7)
    np.testing.assert_allclose(scale[:2], [1.4, 0.01], rtol=2e-3)  # float32 holds 300.01 to 1.5e-5
    np.testing.assert_allclose(scale[2:], np.sqrt((1.4**2 + 0.01**2) / 2), rtol=1e-5)  # the others' root mean square


def test_float32_scores_as_float64_and_factor_analysis_do():
    r, n = np.random.RandomState(0), 100_000
    X = 300 + r.randn(n, 2) @ r.randn(2, 6) + 0.05 * r.randn(n, 6)
    expected = FactorAnalysis(2).fit(X).score(X[:2000])
    for rows in (X, X.astype(np.float32)):
        vae = VAETransformer(2, **small(max_iter=0, likelihood="gaussian_diag")).fit(rows)
        assert abs(vae.score(rows[:2000]) - expected) < 0.01
