"""`compare`: each score is what the models themselves give on the same splits."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FactorAnalysis, IncrementalPCA, KernelPCA
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skvae import Comparison, VAETransformer, compare
from skvae.displays import ComparisonDisplay

from ..conftest import curved_spectra, small

X = curved_spectra(60, 12)
Y = X[:, 3] + np.random.RandomState(0).standard_normal(60)
FOLDS = KFold(3, shuffle=True, random_state=0)
VAE = VAETransformer(2, **small(max_iter=2))


def test_nats_are_the_models_scores_on_the_same_splits():
    models = {"PCA": PCA(2), "FA": FactorAnalysis(2), "VAE": VAE}
    comparison = compare(X, models, cv=FOLDS)
    assert comparison.models == list(models) and list(comparison.scores) == ["nats", "r2", "seconds"]
    expected = [cross_val_score(model, X, cv=FOLDS) for model in models.values()]
    np.testing.assert_allclose(comparison.scores["nats"], expected)
    assert (comparison.scores["seconds"] > 0).all()


def test_r2_is_of_what_comes_back():
    models = [PCA(2), FactorAnalysis(2), IncrementalPCA(2), KernelPCA(2, fit_inverse_transform=True), VAE]
    scores = compare(X, models, cv=FOLDS).scores["r2"]
    for j, (train, test) in enumerate(FOLDS.split(X)):
        total = np.sum((X[test] - X[train].mean(axis=0)) ** 2)
        for i, model in enumerate(models):
            model.fit(X[train])
            Z = model.transform(X[test])
            is_fa = isinstance(model, FactorAnalysis)
            back = Z @ model.components_ + model.mean_ if is_fa else model.inverse_transform(Z)
            assert scores[i, j] == pytest.approx(1 - np.sum((X[test] - back) ** 2) / total)


def test_pipelines_come_back_through_their_steps_and_have_no_nats_of_x():
    alone = compare(X, {"PCA": PCA(2), "one step": make_pipeline(PCA(2))}, cv=FOLDS).scores
    np.testing.assert_allclose(alone["nats"][0], alone["nats"][1])
    scaled = {"PCA": make_pipeline(StandardScaler(), PCA(2)), "FA": make_pipeline(StandardScaler(), FactorAnalysis(2))}
    scores = compare(X, scaled, cv=FOLDS).scores
    assert np.isnan(scores["nats"]).all()
    train, test = next(FOLDS.split(X))
    scaler, pca = scaled["PCA"].fit(X[train])
    back = scaler.inverse_transform(pca.inverse_transform(scaled["PCA"].transform(X[test])))
    expected = 1 - np.sum((X[test] - back) ** 2) / np.sum((X[test] - X[train].mean(axis=0)) ** 2)
    assert scores["r2"][0, 0] == pytest.approx(expected)
    assert (scores["r2"][1] > 0).all()
    no_way_back = compare(X, [KernelPCA(2)], cv=FOLDS)
    assert np.isnan(no_way_back.scores["nats"]).all() and np.isnan(no_way_back.scores["r2"]).all()


def test_downstream_is_a_prediction_from_components_of_the_training_rows():
    models = {"PCA": PCA(2), "PLS": PLSRegression(2)}
    scores = compare(X, models, Y, cv=FOLDS, predictor=LinearRegression()).scores["downstream"]
    expected = cross_val_score(make_pipeline(PCA(2), LinearRegression()), X, Y, cv=FOLDS)
    np.testing.assert_allclose(scores[0], expected)
    np.testing.assert_allclose(scores[1], cross_val_score(PLSRegression(2), X, Y, cv=FOLDS))  # it is such a prediction


def test_unknown_targets_are_left_out():
    y = Y.copy()
    y[::7] = np.nan
    score = compare(X, [PCA(2)], y, cv=FOLDS).scores["downstream"][0, 0]
    train, test = next(FOLDS.split(X))
    train, test = (part[np.isfinite(y[part])] for part in (train, test))
    pca = PCA(2).fit(X[next(FOLDS.split(X))[0]])
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7))).fit(pca.transform(X[train]), y[train])
    assert score == pytest.approx(r2_score(y[test], ridge.predict(pca.transform(X[test]))))


def test_classes_are_told_apart_in_stratified_folds():
    iris, kind = load_iris(return_X_y=True)
    scores = compare(iris, [PCA(2)], kind.astype(str)).scores["downstream"]  # sorted by class
    assert scores.shape == (1, 5) and scores.min() > 0.8


def test_groups_are_never_cut_and_reach_the_models_that_take_them():
    seen = []

    class Spy(VAETransformer):
        def fit(self, X, y=None, sample_weight=None, *, groups=None, X_val=None):
            seen.append(groups)
            return super().fit(X, groups=groups)

    groups = np.repeat(np.arange(20), 3)
    spy = Spy(2, **small(max_iter=1))
    scores = compare(X, {"VAE": spy, "steps": make_pipeline(StandardScaler(), spy), "PCA": PCA(2)}, groups=groups,
                     cv=GroupKFold(2)).scores  # fmt: skip
    assert len(seen) == 4 and all(set(np.bincount(given)) <= {0, 3} for given in seen)
    np.testing.assert_allclose(scores["nats"][2], cross_val_score(PCA(2), X, groups=groups, cv=GroupKFold(2)))


def test_rows_with_gaps_frames_and_jobs():
    gaps = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
    frame = pd.DataFrame(gaps, columns=[f"{i} nm" for i in range(12)])
    framed = VAETransformer(2, **small(max_iter=2)).set_output(transform="pandas")
    one, two = (compare(frame, [framed], Y, cv=FOLDS, n_jobs=n_jobs).scores for n_jobs in (None, 2))
    for measure in ("nats", "r2", "downstream"):
        assert np.isfinite(one[measure]).all()
        np.testing.assert_allclose(one[measure], two[measure], rtol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        compare(gaps, [PCA(2)], cv=FOLDS)


def test_table_frame_and_display():
    scores = {"nats": np.array([[1.0, 2.0], [np.nan, np.nan]]), "r2": np.array([[0.5, 0.6], [0.7, 0.9]])}
    comparison = Comparison(["PCA", "KernelPCA"], scores)
    lines = str(comparison).splitlines()
    assert lines[0].split()[-1] == "R2" and lines[1].startswith("PCA") and "1.5 ± 0.5" in lines[1]
    assert "±" in lines[2] and lines[2].count("±") == 1
    frame = comparison.frame()
    assert frame.loc["KernelPCA", ("r2", "mean")] == pytest.approx(0.8)
    assert frame.loc["PCA", ("nats", "std")] == 0.5
    display = ComparisonDisplay.from_comparison(comparison)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["PCA"]  # the other has no nats
    of_both = ComparisonDisplay.from_comparison(comparison, "r2")
    np.testing.assert_allclose(of_both.bars_.lines[0].get_xdata(), [0.55, 0.8])
    assert len(of_both.points_.get_offsets()) == 4 and "R2" in of_both.ax_.get_xlabel()
    with pytest.raises(ValueError, match="measure must be one of nats, r2"):
        ComparisonDisplay.from_comparison(comparison, "downstream")
    of_none = ComparisonDisplay.from_comparison(Comparison(["KernelPCA"], {"nats": np.full((1, 2), np.nan)}))
    assert of_none.ax_.get_title() == "No model has this score in all splits"
    plt.close("all")


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ([PCA(1), PCA(2)], {}, "several of the same class"),
        ([], {}, "models is empty"),
        (PCA(2), {}, "models must be a dict of estimators by name"),
        ([PCA], {}, "models must be transformers: instances"),
        ([("PCA", PCA(2))], {}, "models must be transformers: instances"),
        ({"ridge": RidgeCV()}, {}, "models must be transformers"),
        ([PCA(2)], {"y": np.column_stack([Y, Y])}, "y should be a 1d array"),
        ([PCA(2)], {"y": np.where(np.arange(60) < 40, Y, np.nan), "cv": KFold(3)}, "y is NaN in all"),
        ([PCA(2)], {"y": np.where(np.arange(60) == 7, np.inf, Y)}, "y contains infinity"),
    ],
)
def test_what_is_wrong_is_named(models, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        compare(X, models, **options)


def test_imputers_keep_the_units_and_functions_without_inverse_do_not_come_back():
    """R2 of an imputer's pipeline is that of what is measured."""
    gaps = np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)
    steps = {"mean": SimpleImputer(), "near": KNNImputer(), "with indicator": SimpleImputer(add_indicator=True)}
    scores = compare(gaps, {name: make_pipeline(step, PCA(2)) for name, step in steps.items()}, cv=FOLDS).scores["r2"]
    train, test = next(FOLDS.split(X))
    pipeline = make_pipeline(SimpleImputer(), PCA(2)).fit(gaps[train])
    back = pipeline[-1].inverse_transform(pipeline.transform(gaps[test]))
    total = np.nansum((gaps[test] - np.nanmean(gaps[train], axis=0)) ** 2)
    assert scores[0, 0] == pytest.approx(1 - np.nansum((gaps[test] - back) ** 2) / total)
    assert (scores[1] > 0.5).all() and np.isnan(scores[2]).all()
    functions = {"one way": FunctionTransformer(np.arctan), "both ways": FunctionTransformer(np.arcsinh, np.sinh)}
    scores = compare(X, {name: make_pipeline(step, PCA(2)) for name, step in functions.items()}, cv=FOLDS).scores["r2"]
    assert np.isnan(scores[0]).all() and np.isfinite(scores[1]).all()


def test_a_search_is_its_best_estimator():
    models = {"PCA": PCA(2), "FA": FactorAnalysis(2), "steps": make_pipeline(StandardScaler(), PCA(2))}
    names = {"PCA": "n_components", "FA": "n_components", "steps": "pca__n_components"}
    searches = {name: GridSearchCV(model, {names[name]: [2]}, cv=2) for name, model in models.items()}
    found, alone = compare(X, searches, cv=FOLDS).scores, compare(X, models, cv=FOLDS).scores
    for measure in ("nats", "r2"):
        np.testing.assert_allclose(found[measure], alone[measure])
    assert np.isnan(found["nats"][2]).all() and np.isfinite(found["r2"]).all()


def test_folds_are_of_whole_groups_and_a_frame_may_hold_the_target():
    groups, frame = np.repeat(np.arange(20), 3), pd.DataFrame(X).astype("Float64")
    ridge = {"groups": groups, "predictor": Ridge()}  # RidgeCV of scikit-learn 1.6 makes 1e-2 of a difference of 1e-16
    by_default = compare(frame, [PCA(2)], pd.DataFrame({"y": Y}), **ridge).scores
    given = compare(X, [PCA(2)], Y, cv=GroupKFold(5), **ridge).scores
    for measure in ("nats", "r2", "downstream"):
        np.testing.assert_allclose(by_default[measure], given[measure])
