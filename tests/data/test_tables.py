"""Every kind of table that X may come as: the numbers of the plain array, or an error that names what is wrong."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array

from skvae import VAETransformer

from ..conftest import curved_spectra, small

WHOLE = np.clip(np.round(curved_spectra(40, n_channels=6) / 20), 0, 100)  # which every dtype holds exactly
GAPS = np.where(np.arange(WHOLE.size).reshape(WHOLE.shape) % 11 == 3, np.nan, WHOLE)
DTYPES = ["float16", "float64", ">f8", ">f4", "longdouble", "int8", "int16", "int32", "int64", "uint8", "uint64", "O"]


def read_only(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def mixed(X):
    """A frame of float32 and integer columns."""
    return pd.DataFrame({str(i): X[:, i].astype(np.float32 if i % 2 else np.int64) for i in range(X.shape[1])})


def ml_dtype(name):
    return lambda X: X.astype(getattr(pytest.importorskip("ml_dtypes"), name))


def arrow(X):
    pytest.importorskip("pyarrow")
    return pd.DataFrame(X).astype("double[pyarrow]")


def arrow_table(X):
    return pytest.importorskip("pyarrow").table({str(i): X[:, i] for i in range(X.shape[1])})


def with_na(X):
    """An array of objects, NA among them."""
    return np.where(np.isnan(X), pd.NA, X.astype(object))


def dask(X):
    return pytest.importorskip("dask.array").from_array(X, chunks=(7, 6))


def tensor(dtype=torch.float64, **options):
    return lambda X: torch.tensor(X, dtype=dtype, **options)


SAME = {
    **{dtype: (lambda X, dtype=dtype: X.astype(dtype)) for dtype in DTYPES},
    "numpy's bfloat16": ml_dtype("bfloat16"),
    "tensor": tensor(),
    "tensor of bfloat16": tensor(torch.bfloat16),
    "tensor of float16": tensor(torch.float16),
    "tensor of integers": tensor(torch.int32),
    "tensor with a gradient": tensor(requires_grad=True),
    "numbers as text": lambda X: X.astype(str).astype(object),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "every second row and column": lambda X: np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2],
    "read-only": read_only,
    "list": lambda X: X.tolist(),
    "frame": pd.DataFrame,
    "frame of mixed dtypes": mixed,
    "frame of Int64": lambda X: pd.DataFrame(X).astype("Int64"),
    "frame of Float32": lambda X: pd.DataFrame(X).astype("Float32"),
    "frame of pyarrow": arrow,
    "frame of categories that are numbers": lambda X: pd.DataFrame(X).astype("category"),
    "polars": pl.DataFrame,
    "polars of integers": lambda X: pl.DataFrame(X.astype(int)),
    "dask": dask,
    "list of tables": lambda X: [X[:7], pd.DataFrame(X[7:9]), X[9:]],
    "list of polars' tables": lambda X: [pl.DataFrame(X[:7]), pl.DataFrame(X[7:])],
    "lazy frame": pl.LazyFrame,
    "Arrow's table": arrow_table,
    "Arrow's batch": lambda X: arrow_table(X).to_batches()[0],
    "masked array, nothing masked": np.ma.masked_array,
}
SAME_WITH_GAPS = {
    "float16": lambda X: X.astype(np.float16),
    "numpy's bfloat16": ml_dtype("bfloat16"),
    "tensor of bfloat16": tensor(torch.bfloat16),
    "object with None": lambda X: np.where(np.isnan(X), None, X.astype(object)),
    "list with None": lambda X: np.where(np.isnan(X), None, X.astype(object)).tolist(),
    "object with NA": with_na,
    "list with NA": lambda X: with_na(X).tolist(),
    "frame of objects with NA": lambda X: pd.DataFrame(with_na(X)),
    "list of tables with NA": lambda X: [pd.DataFrame(X[:7]).astype("Int64"), pd.DataFrame(with_na(X[7:]))],
    "lazy frame with null": lambda X: pl.LazyFrame(X).fill_nan(None),
    "Arrow's table": arrow_table,
    "list of masked rows": lambda X: list(np.ma.masked_array(np.nan_to_num(X), np.isnan(X))),
    "list of rows, some masked": lambda X: [np.ma.masked_invalid(row) if np.isnan(row).any() else row for row in X],
    "Fortran order": np.asfortranarray,
    "frame": pd.DataFrame,
    "frame of Float64 with NA": lambda X: pd.DataFrame(X).astype("Float64"),
    "frame of Int64 with NA": lambda X: pd.DataFrame(X).astype("Int64"),
    "frame of one Int64 with NA": lambda X: pd.DataFrame(X).astype({2: "Int64"}),
    "polars with null": lambda X: pl.DataFrame(X).fill_nan(None),
    "polars of integers with null": lambda X: pl.DataFrame(X).fill_nan(None).cast(pl.Int64),
    "dask": dask,
    "list of tables": lambda X: [X[:7], X[7:]],
    "masked array": np.ma.masked_invalid,
    "masked array of integers": lambda X: np.ma.masked_array(np.nan_to_num(X).astype(int), np.isnan(X)),
}


def results(X):
    vae = VAETransformer(2, **small(max_iter=2)).fit(X)
    outputs = vae.transform(X), vae.score_samples(X), vae.impute(X), vae.q_residuals(X)
    return [*map(np.asarray, outputs), vae.components_, vae.explained_variance_, np.asarray(vae.q_residuals_limit())]


@pytest.fixture(scope="module")
def plain():
    return {name: results(X) for name, X in (("whole", WHOLE), ("gaps", GAPS))}


@pytest.mark.parametrize("name, gaps", [*((name, False) for name in SAME), *((name, True) for name in SAME_WITH_GAPS)])
def test_the_numbers_are_the_plain_array_s(name, gaps, plain):
    """Bit for bit; and X is left as it was."""
    make, base = (SAME_WITH_GAPS, GAPS) if gaps else (SAME, WHOLE)
    X, copy = make[name](base), make[name](base)
    for ours, theirs in zip(results(X), plain["gaps" if gaps else "whole"], strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_array_equal(ours, theirs)
    detached = [table.detach().float() if isinstance(table, torch.Tensor) else table for table in (X, copy)]
    assert str(detached[0]) == str(detached[1])


def test_float32_stays_float32():
    X = WHOLE.astype(np.float32)
    expected = results(X)
    for rows in (torch.tensor(X), pd.DataFrame(X), np.asfortranarray(X), np.ma.masked_array(X)):
        for ours, theirs in zip(results(rows), expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    assert expected[0].dtype == np.float32


def test_booleans():
    X = WHOLE > 30
    frame, gaps = pd.DataFrame(X).astype("boolean"), np.where(np.isnan(GAPS), np.nan, X)
    for rows, plain in ((X, X.astype(float)), (frame, X.astype(float)), (frame.mask(np.isnan(GAPS)), gaps)):
        for ours, theirs in zip(results(rows), results(plain), strict=True):
            np.testing.assert_array_equal(ours, theirs)


NAMES = np.array(list("abcdef"), dtype=object)
FRAMES = {
    "pandas": pd.DataFrame,
    "polars": lambda X, columns: pl.DataFrame(X, schema=list(columns)),
    "lazy": lambda X, columns: pl.LazyFrame(X, schema=list(columns)),
}


@pytest.mark.parametrize("blocks", [list, iter])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_blocks_that_are_frames_have_names_as_one_frame_has(frame, blocks):
    """The same names to the estimator, and the same refusal where they come in another order."""
    parts = [frame(WHOLE[:20], columns=NAMES), frame(WHOLE[20:], columns=NAMES)]
    reordered = [parts[0], frame(WHOLE[20:, ::-1], columns=NAMES[::-1])]
    all_reordered = [frame(WHOLE[rows, ::-1], columns=NAMES[::-1]) for rows in (slice(20), slice(20, None))]
    vae = VAETransformer(2, **small(max_iter=0)).fit(blocks(parts))
    np.testing.assert_array_equal(vae.feature_names_in_, NAMES)
    np.testing.assert_array_equal(vae.transform(blocks(parts)), vae.transform(frame(WHOLE, columns=NAMES)))
    calls = VAETransformer(2, **small(max_iter=0)).fit, VAETransformer(2, **small()).partial_fit, vae.transform
    for call in (*calls, vae.partial_fit, vae.score):
        with pytest.raises(ValueError, match=r"block 1 of shape .* with the columns of the first"):
            call(blocks(reordered))
    for call in (vae.partial_fit, vae.transform):
        with pytest.raises(ValueError, match="should match those that were passed during fit"):
            call(blocks(all_reordered))
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            call(blocks([WHOLE[:20], WHOLE[20:]]))


@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_files(mode, order, tmp_path, plain):
    np.save(tmp_path / "X.npy", np.asarray(WHOLE, order=order))
    X = np.load(tmp_path / "X.npy", mmap_mode=mode)
    for ours, theirs in zip(results(X), plain["whole"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(X, WHOLE)


def test_latents_come_as_many_kinds():
    vae = VAETransformer(2, **small(max_iter=1)).fit(WHOLE)
    Z = vae.transform(WHOLE)
    for latents in (torch.tensor(Z, requires_grad=True), Z.tolist(), np.asfortranarray(Z), pl.DataFrame(Z)):
        np.testing.assert_array_equal(vae.inverse_transform(latents), vae.inverse_transform(Z))


WRONG = {
    "words": (np.full((5, 2), "a", dtype=object), "'a'"),
    "a frame with words": (pd.DataFrame({"number": [1.0, 2.0], "word": "x"}), "'x'"),
    "categories": (pd.DataFrame({"a": list("abcd") * 10}).astype("category"), "'a'"),
    "polars' categories": (pl.DataFrame({"a": ["x", "y"] * 20}), "'x'"),
    "np.matrix": (np.asmatrix(WHOLE), "matrix"),
    "structured": (np.zeros(5, dtype=[("a", float), ("b", float)]), "dtype"),
    "complex": (WHOLE + 1j, "[Cc]omplex"),
    "a complex tensor": (torch.tensor(WHOLE) + 1j, "[Cc]omplex"),
    "dates": (WHOLE.astype("M8[s]"), "dates"),
    "durations": (WHOLE.astype("m8[s]"), "dates"),
    "a frame of dates": (pd.DataFrame({"t": pd.date_range("2020", periods=9), "x": np.arange(9)}), "dates"),
    "polars' dates": (pl.DataFrame({"t": pd.date_range("2020", periods=9)}), "dates"),
    "sparse": (csr_array(WHOLE), "[Ss]parse"),
    "pandas' sparse": (pd.DataFrame(WHOLE).astype(pd.SparseDtype(float, 0.0)), "[Ss]parse"),
    "a sparse tensor": (torch.tensor(WHOLE).to_sparse(), "[Ss]parse"),
    "a number": (3.0, "2D"),
    "a row": (WHOLE[0], "2D"),
    "a series": (pd.Series(WHOLE[0]), "2-dim"),
    "images": (WHOLE.reshape(40, 2, 3), "dim 3"),
    "ragged": ([[1, 2], [3]], "inhomogeneous"),
    "nothing": (None, "2D"),
    "rows from a generator": ((row for row in WHOLE), "iterable of blocks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_table_of_numbers_is_refused(name):
    X, message = WRONG[name]
    vae = VAETransformer(2, **small(max_iter=0)).fit(WHOLE)
    for call in (VAETransformer(2, **small(max_iter=0)).fit, vae.transform):
        with pytest.raises((ValueError, TypeError), match=message):
            call(X)
