"""A column without a measured value: the model is that of the other columns, and results keep its place."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, KFold
from skorch.callbacks import Callback

from skvae import VAESearchCV, VAETransformer, load

from .conftest import PLAIN_LIKELIHOODS, curved_spectra, in_support, small

UNKNOWN = [2, 7]  # columns
WARNING = "no value was measured"
P = 12
OF_ROWS = ("transform", "posterior_covariance", "score_samples", "hotelling_t2", "q_residuals")
OF_COMPONENTS = ("explained_variance_", "explained_variance_ratio_", "kl_per_component_", "n_active_components_")


def rows(n=120, likelihood="gaussian", dtype=np.float64):
    return in_support(likelihood, curved_spectra(n, P)).astype(dtype)


def emptied(X):
    X = X.copy()
    X[:, UNKNOWN] = np.nan
    return X


def without(X):
    return np.delete(X, UNKNOWN, axis=-1)


def fitted(X, *args, method="fit", **params):
    """A model of X, which must warn, and the one of X without the columns, which must not."""
    ours, theirs = (VAETransformer(2, **{**small(max_iter=3), **params}) for _ in range(2))
    with pytest.warns(UserWarning, match=f"{WARNING} .*: 2, 7"):
        getattr(ours, method)(emptied(X), *args)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=WARNING)
        getattr(theirs, method)(without(X), *args)
    return ours, theirs


def assert_same(ours, theirs, X):
    """That both say the same of X to the bit, whatever its values in the unknown columns are, and NaN of these."""
    same, Z = np.testing.assert_array_equal, theirs.transform(without(X))
    wild = X.copy()
    wild[:, UNKNOWN] = X.max()
    for given in (X, emptied(X), wild):
        for name in OF_ROWS:
            same(getattr(ours, name)(given), getattr(theirs, name)(without(X)))
        for one, other in zip(ours.reconstruct(given, True), theirs.reconstruct(without(X), True), strict=True):
            same(without(one), other)
            assert np.isnan(one[:, UNKNOWN]).all()
    for name in ("hotelling_t2_limit", "q_residuals_limit"):
        same(getattr(ours, name)(), getattr(theirs, name)())
    for name in OF_COMPONENTS:
        same(getattr(ours, name), getattr(theirs, name))
    pairs = [
        (ours.inverse_transform(Z), theirs.inverse_transform(Z)),
        (ours.sample(5, random_state=0), theirs.sample(5, random_state=0)),
        (ours.loadings(X[:9]), theirs.loadings(without(X[:9]))),
        (ours.components_, theirs.components_),
        (ours.mean_, theirs.mean_),
    ]
    if np.ndim(theirs.noise_variance_):
        pairs.append((ours.noise_variance_, theirs.noise_variance_))
    else:
        assert ours.noise_variance_ == theirs.noise_variance_
    for one, other in pairs:
        assert one.shape == (*other.shape[:-1], X.shape[1]) and one.dtype == other.dtype
        same(without(one), other)
        assert np.isnan(one[..., UNKNOWN]).all()
    covariance = ours.get_covariance()
    same(np.delete(without(covariance), UNKNOWN, axis=0), theirs.get_covariance())
    assert np.isnan(covariance[UNKNOWN]).all() and np.isnan(covariance[:, UNKNOWN]).all()
    assert ours.n_features_in_ == X.shape[1] and len(ours.get_feature_names_out()) == 2


@pytest.mark.parametrize("likelihood", PLAIN_LIKELIHOODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_model_is_that_of_the_other_columns(likelihood, dtype):
    X = rows(likelihood=likelihood, dtype=dtype)
    assert_same(*fitted(X, likelihood=likelihood), X)


def test_other_gaps_stay_gaps():
    X = rows()
    X[::3, 4] = np.nan
    assert_same(*fitted(X), X)


def test_imputation_keeps_what_was_measured_and_invents_nothing():
    X = rows()
    ours, theirs = fitted(X)
    gaps = X[:6].copy()
    gaps[:2, 2], gaps[1:4, 5] = np.nan, np.nan  # an unknown column, and a known one
    filled, std = ours.impute(gaps, return_std=True)
    expected, expected_std = theirs.impute(without(gaps), return_std=True)
    np.testing.assert_array_equal(without(filled), expected)
    np.testing.assert_array_equal(without(std), expected_std)
    np.testing.assert_array_equal(filled[:, UNKNOWN], gaps[:, UNKNOWN])
    np.testing.assert_array_equal(std[:, UNKNOWN], np.where(np.isnan(gaps[:, UNKNOWN]), np.nan, 0))


def test_a_row_with_values_in_unknown_columns_alone_has_none():
    X = rows()
    ours, _ = fitted(X)
    row = np.full((1, P), np.nan)
    row[0, UNKNOWN] = 1e30
    with pytest.warns(UserWarning, match="1 of 1 rows of X no value"):
        np.testing.assert_allclose(ours.score_samples(row), 0, atol=1e-4)


def test_rows_of_weight_zero_measure_nothing():
    X, weight = rows(), np.ones(120)
    weight[::5] = 0
    ours, theirs = (VAETransformer(2, **small(max_iter=3)) for _ in range(2))
    with pytest.warns(UserWarning, match=f"{WARNING} .*: 2, 7"):
        ours.fit(np.where(weight[:, None] > 0, emptied(X), X), sample_weight=weight)
    assert_same(ours, theirs.fit(without(X), sample_weight=weight), X)


def test_validation_rows_of_their_own_lack_the_columns_too():
    X, X_val = rows(), rows(200)[120:]
    ours, theirs = (VAETransformer(2, **small(max_iter=3)) for _ in range(2))
    only = np.full((1, P), np.nan)
    only[0, UNKNOWN] = 1.0  # counts for no row
    with pytest.warns(UserWarning, match=WARNING):
        ours.fit(emptied(X), X_val=np.concatenate([X_val, only]))
    assert_same(ours, theirs.fit(without(X), X_val=without(X_val)), X)


def test_calls_of_partial_fit_go_on_without_the_columns():
    """Also where they are measured later, and where the start is taken anew."""
    ours, theirs = fitted(rows(40), method="partial_fit")
    for seed in range(1, 4):
        X = curved_spectra(60, P, seed)
        with pytest.warns(UserWarning, match=WARNING):
            ours.partial_fit(X)
        assert_same(ours, theirs.partial_fit(without(X)), X)


def test_a_warm_start_goes_on_without_the_columns_and_a_new_fit_does_not():
    X = rows()
    ours, theirs = fitted(X, warm_start=True)
    with pytest.warns(UserWarning, match=WARNING):
        ours.fit(X)
    assert_same(ours, theirs.fit(without(X)), X)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=WARNING)
        ours.set_params(warm_start=False).fit(X)
    assert np.isfinite(ours.mean_).all() and np.isfinite(ours.reconstruct(X)).all()


def test_copies_and_files_are_the_same_model(tmp_path):
    X = rows()
    frame = pd.DataFrame(X, columns=[f"{i} nm" for i in range(P)])
    ours = VAETransformer(2, **small(max_iter=2)).partial_fit(frame.assign(**{"2 nm": np.nan, "7 nm": np.nan}))
    ours.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        for name in ("mean_", "components_", "noise_variance_"):
            np.testing.assert_array_equal(getattr(other, name), getattr(ours, name))
        np.testing.assert_array_equal(other.reconstruct(frame), ours.reconstruct(frame))
        other.partial_fit(frame)
        other.save(tmp_path / "other")


def test_a_file_is_refused_where_arrays_know_different_columns(tmp_path):
    ours, _ = fitted(rows())
    for name in ("mean_", "components_"):
        changed = copy.deepcopy(ours)
        getattr(changed, name)[..., 2] = 0.0
        with pytest.raises(ValueError, match=r"mean_ and components_ are not of the same columns|mean_ should be"):
            changed.save(tmp_path / "model")


def test_checkpoints_hold_the_model_of_the_other_columns(tmp_path):
    X, is_stopped = rows(), []

    class StopsOnce(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) > 3 and not is_stopped:
                is_stopped.append(True)
                raise RuntimeError("stopped")

        def __repr__(self):
            return "StopsOnce()"

    ours = VAETransformer(2, **small(max_iter=6), checkpoint=tmp_path / "checkpoint", callbacks=[StopsOnce()])
    with pytest.raises(RuntimeError, match="stopped"):
        ours.fit(emptied(X))
    assert (tmp_path / "checkpoint").exists()
    ours.fit(emptied(X))
    assert_same(ours, VAETransformer(2, **small(max_iter=6)).fit(without(X)), X)


@pytest.mark.parametrize("search", [GridSearchCV, VAESearchCV])
def test_a_fold_of_a_search_may_lack_a_column(search):
    X = rows()
    X[:60, 2] = np.nan
    grid, folds = {"beta": [1.0, 2.0]}, KFold(2)
    found = search(VAETransformer(2, **small(max_iter=2)), grid, cv=folds, error_score="raise").fit(X)
    for i, beta in enumerate(grid["beta"]):
        for fold, (train, test) in enumerate(folds.split(X)):
            alone = VAETransformer(2, **small(max_iter=2), beta=beta).fit(X[train])
            assert found.cv_results_[f"split{fold}_test_score"][i] == pytest.approx(alone.score(X[test]), rel=1e-4)
    if search is VAESearchCV:
        assert found.n_trained_together_ == 4  # of the columns that there are, no value is missing


def test_mapped_files(tmp_path):
    X = rows(likelihood="bernoulli", dtype=np.float32)
    np.save(tmp_path / "X.npy", emptied(X))
    with config_context(working_memory=0), pytest.warns(UserWarning, match=WARNING):
        mapped = VAETransformer(2, likelihood="bernoulli", **small(max_iter=3))
        mapped.fit(np.load(tmp_path / "X.npy", mmap_mode="r"))
        assert np.isfinite(mapped.score(X)) and np.isnan(mapped.mean_[UNKNOWN]).all()


def test_tensors():
    pytest.importorskip("sklearn", minversion="1.9")  # before, tensors need a further package
    X = rows(likelihood="bernoulli", dtype=np.float32)
    ours, _ = fitted(X, likelihood="bernoulli")
    with config_context(array_api_dispatch=True), pytest.warns(UserWarning, match=WARNING):
        tensors = VAETransformer(2, likelihood="bernoulli", **small(max_iter=3)).fit(torch.from_numpy(emptied(X)))
        np.testing.assert_array_equal(tensors.mean_.numpy(), ours.mean_)
        np.testing.assert_array_equal(tensors.impute(torch.from_numpy(X)).numpy(), X)
        np.testing.assert_array_equal(tensors.score_samples(torch.from_numpy(X)).numpy(), ours.score_samples(X))


def test_other_remarks_have_the_columns_numbers_in_x():
    X = rows()
    X[:, 4] = 1.0
    with pytest.warns(UserWarning, match="constant in the training rows, counted from 0: 4"):
        ours, _ = fitted(X)
    assert "warned: X has columns of which no value was measured" in ours.summary()


def test_images_need_a_value_in_every_pixel():
    X = curved_spectra(60, 16)
    X[:, 5] = np.nan
    vae = VAETransformer(2, encoder="conv2d", decoder="conv2d", input_shape=(1, 4, 4), **small())
    with pytest.raises(ValueError, match=r"input_shape=\(1, 4, 4\) has 16 values, but X has 15 features with measured"):
        vae.fit(X)


def test_rows_without_any_value_are_refused():
    with pytest.raises(ValueError, match="X has 0 rows with a value that is not NaN"):
        VAETransformer(2, **small()).fit(np.full((9, P), np.nan))
