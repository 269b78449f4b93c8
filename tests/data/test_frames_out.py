"""What `set_output` asks for: frames of rows with the labels of the training rows' columns and the index of X."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer, load

from ..conftest import curved_spectra, small

X = curved_spectra(40, 8)
GAPS = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
LABELS = {
    "strings": [f"{i} nm" for i in range(900, 908)],
    "floats": 900 + 0.5 * np.arange(8),
    "integers": range(900, 908),
}


def outputs(vae, rows):
    """Results that have a value for each column, and the frame whose index they take."""
    yield from ((result, rows) for result in (*vae.reconstruct(rows, return_std=True), vae.reconstruct(rows)))
    yield from ((result, rows) for result in (*vae.impute(rows, return_std=True), vae.impute(rows)))
    yield vae.inverse_transform(vae.transform(rows)), rows
    yield vae.sample(3, random_state=0), None


@pytest.mark.parametrize("labels", LABELS)
def test_pandas(labels):
    frame = pd.DataFrame(GAPS, columns=LABELS[labels], index=[f"soil {i}" for i in range(40)])
    vae = VAETransformer(2, **small()).fit(frame)
    plain = list(outputs(vae, frame))
    vae.set_output(transform="pandas")
    for (result, like), (expected, _) in zip(outputs(vae, frame), plain, strict=True):
        assert isinstance(result, pd.DataFrame) and isinstance(expected, np.ndarray)
        assert list(result.columns) == list(frame.columns)
        assert list(result.index) == (list(range(3)) if like is None else list(like.index))
        np.testing.assert_array_equal(result, expected)
    assert not vae.impute(frame).isna().any(axis=None)


@pytest.mark.parametrize(
    ("labels", "expected"), [("strings", LABELS["strings"]), ("none", [f"x{i}" for i in range(8)])]
)
def test_polars(labels, expected):
    frame = pl.DataFrame(X, schema=expected, orient="row") if labels == "strings" else X
    vae = VAETransformer(2, **small()).fit(frame).set_output(transform="polars")
    for result, _ in outputs(vae, frame):
        assert isinstance(result, pl.DataFrame) and result.columns == expected


def test_numbers_are_names_in_polars():
    vae = VAETransformer(2, **small()).fit(pd.DataFrame(X, columns=LABELS["floats"])).set_output(transform="polars")
    assert vae.sample(2).columns == ["900", "900.5", "901", "901.5", "902", "902.5", "903", "903.5"]


def test_what_all_estimators_are_asked_for():
    vae = VAETransformer(2, **small()).fit(pd.DataFrame(X, columns=LABELS["strings"]))
    with config_context(transform_output="pandas"):
        assert list(vae.sample(2).columns) == LABELS["strings"]
    assert isinstance(vae.sample(2), np.ndarray)


def test_a_pipeline_s_inverse_takes_them():
    frame = pd.DataFrame(X, columns=LABELS["strings"])
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, **small())).set_output(transform="pandas").fit(frame)
    back = pipeline.inverse_transform(pipeline.transform(frame))
    expected = pipeline[0].inverse_transform(pipeline[1].inverse_transform(pipeline.transform(frame)))
    np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize("labels", ["floats", "integers"])
def test_numbers_that_label_columns_are_kept(labels, tmp_path):
    vae = VAETransformer(2, **small()).fit(pd.DataFrame(X, columns=LABELS[labels]))
    assert not hasattr(vae, "feature_names_in_")
    vae.save(tmp_path / "vae")
    for same in (vae, load(tmp_path / "vae", device="cpu"), vae.partial_fit(X)):
        np.testing.assert_array_equal(same.wavelengths_, LABELS[labels])
    assert not hasattr(vae.fit(X), "wavelengths_")
