"""A row's numbers are the same bits however X is cut, and wherever in it the row lies, on one thread of torch.

On several the matrix library may share out the sums of a product by its number of rows: then to rounding.
"""

import numpy as np
import pytest
import torch

from skvae import VAETransformer
from skvae.networks import NETWORKS
from skvae.networks._base import by_columns
from skvae.posteriors import POSTERIORS

from ..conftest import small

METHODS = ("transform", "score_samples", "q_residuals")


def fitted(X, **params):
    """A model whose networks add something."""
    vae = VAETransformer(**small(max_iter=1, refit=False, n_importance_samples=4, **params)).fit(X)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in vae.net_.module_.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=noise))
    return vae


def assert_cut_alike(method, X):
    whole = method(X)
    for size in (1, 30, 33, 64, 100):
        cut = 8 if size == 1 else len(X)
        parts = np.concatenate([method(X[start : min(start + size, cut)]) for start in range(0, cut, size)])
        np.testing.assert_array_equal(parts, whole[:cut], err_msg=f"chunks of {size}")
    order = np.random.RandomState(0).permutation(len(X))
    np.testing.assert_array_equal(method(X[order]), whole[order], err_msg="another order")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "n_features, params",
    [
        (1, {"n_components": 1}),
        (5, {"n_components": 3, "hidden_layer_sizes": (33, 7)}),
        (61, {"n_components": 17, "hidden_layer_sizes": (17,)}),
        (200, {"n_components": 4, "hidden_layer_sizes": (256, 256)}),
        (831, {"n_components": 5, "hidden_layer_sizes": (31,)}),
        *((20, {"n_components": 2, "posterior": posterior}) for posterior in POSTERIORS),
        *((30, {"n_components": 3, "encoder": k, "decoder": k, "input_shape": (1, 5, 6)}) for k in NETWORKS),
    ],
    ids=str,
)
def test_no_bit_depends_on_how_rows_are_cut(n_features, params, dtype):
    X = np.random.RandomState(0).standard_normal((130, n_features)).astype(dtype)
    vae = fitted(X, **params)
    for name in METHODS:
        assert_cut_alike(getattr(vae, name), X)
    assert_cut_alike(vae.inverse_transform, vae.transform(X))


def test_a_complete_row_is_the_same_among_rows_with_gaps():
    X = np.random.RandomState(0).standard_normal((130, 20))
    vae = fitted(X, n_components=3)
    gaps = X.copy()
    gaps[::2, 3:9] = np.nan
    np.testing.assert_array_equal(vae.transform(gaps)[1::2], vae.transform(X)[1::2])
    np.testing.assert_allclose(
        np.concatenate([vae.transform(row[None]) for row in gaps]), vae.transform(gaps), atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_products_by_columns_are_the_same_bits_for_any_multiple_of_64_rows(dtype):
    generator = torch.Generator().manual_seed(0)
    for n_in in (1, 2, 5, 17, 61, 200, 257, 831):
        x = torch.randn(640, n_in, generator=generator, dtype=dtype)
        order = torch.randperm(640, generator=generator)
        for n_out in (1, 3, 8, 33, 256):
            weight = torch.randn(n_out, n_in, generator=generator, dtype=dtype)
            whole = torch.nn.functional.linear(by_columns(x), weight)
            for size in (64, 128, 320):
                parts = [torch.nn.functional.linear(by_columns(part), weight) for part in x[order].split(size)]
                assert torch.equal(torch.cat(parts), whole[order]), (n_in, n_out, size)
