"""`VAEOutlierDetector`: scikit-learn's checks, and that its scores and limits are the model's own."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skvae import VAEOutlierDetector, VAETransformer

from ..conftest import curved_spectra, small

STATISTICS = ("density", "q", "t2")
MODEL = VAETransformer(1, **small(max_iter=2, hidden_layer_sizes=(8,)))


@parametrize_with_checks([VAEOutlierDetector(MODEL, statistic=statistic) for statistic in STATISTICS])
def test_estimator_check(estimator, check):
    check(estimator)


def test_the_checks_of_outlier_detectors_are_among_them():
    names = {check.func.__name__ for _, check in estimator_checks_generator(VAEOutlierDetector(MODEL))}
    assert {"check_outliers_train", "check_outliers_fit_predict", "check_outlier_contamination"} <= names


@pytest.fixture(scope="module")
def rows():
    """Training rows, and new ones of which every second has a spike."""
    new = curved_spectra(100, seed=1)
    new[::2, 20] += 200
    return curved_spectra(200), new


@pytest.mark.parametrize("statistic", STATISTICS)
def test_scores_and_limits_are_the_model_s(rows, statistic):
    X, new = rows
    vae = VAETransformer(2, **small())
    detector = VAEOutlierDetector(vae, statistic=statistic).fit(X)
    vae.fit(X)
    ours = {"density": vae.score_samples, "q": vae.q_residuals, "t2": vae.hotelling_t2}[statistic](new)
    ours = ours if statistic == "density" else -ours
    np.testing.assert_array_equal(detector.score_samples(new), ours)
    limits = {"q": vae.q_residuals_limit, "t2": vae.hotelling_t2_limit}
    offset = -limits[statistic](0.95) if statistic in limits else np.quantile(vae.score_samples(X), 0.05)
    assert detector.offset_ == pytest.approx(offset)
    np.testing.assert_array_equal(detector.predict(new), np.where(ours >= offset, 1, -1))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("contamination", [0.05, 0.2, 0.5])
def test_contamination_is_the_share_of_outliers_in_training(rows, statistic, contamination):
    labels = VAEOutlierDetector(MODEL, statistic=statistic, contamination=contamination).fit_predict(rows[0])
    assert np.mean(labels == -1) == contamination


def test_spikes_are_found(rows):
    X, new = rows
    for statistic in ("density", "q"):
        detector = VAEOutlierDetector(VAETransformer(8, **small()), statistic=statistic).fit(X)
        assert roc_auc_score(np.arange(100) % 2, detector.decision_function(new)) > 0.95


def test_the_model_given_is_not_fitted_and_its_parameters_are_reached(rows):
    X, _ = rows
    detector = VAEOutlierDetector(MODEL, statistic="q").fit(X, groups=np.arange(200) // 2)
    assert not hasattr(MODEL, "net_") and detector.estimator_._report["n_validation_groups"] > 0
    grid = {"estimator__n_components": [1, 3], "statistic": ["density", "q"]}
    labels = np.where(np.arange(200) % 10 == 0, -1, 1)
    search = GridSearchCV(detector, grid, scoring="accuracy", cv=2).fit(X, labels)
    assert search.best_estimator_.n_features_in_ == 60
    assert VAEOutlierDetector().fit(X[:30]).estimator_.n_components_ == 2


def test_frames_gaps_pipelines_and_pickles(rows):
    frame = pd.DataFrame(rows[0], columns=[f"{i} nm" for i in range(60)])
    frame.iloc[::3, 4] = np.nan
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), VAEOutlierDetector(MODEL)).fit(frame)
    detector = pipeline[-1]
    assert list(detector.feature_names_in_) == list(frame)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(frame), pipeline.predict(frame))
    detector.fit(rows[0])
    assert not hasattr(detector, "feature_names_in_")


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_known"])
def test_known_errors_count_in_the_share_of_outliers_and_in_scores(rows, statistic, likelihood):
    X, errors = rows[0], np.random.RandomState(0).uniform(10, 60, rows[0].shape)
    vae = VAETransformer(2, likelihood=likelihood, **small(max_iter=2))
    detector = VAEOutlierDetector(vae, statistic=statistic, contamination=0.1)
    labels = detector.fit_predict(X, X_std=errors)
    assert np.mean(labels == -1) == 0.1
    np.testing.assert_array_equal(labels, detector.predict(X, errors))
    vae.fit(X, X_std=errors)
    method = {"density": vae.score_samples, "q": vae.q_residuals, "t2": vae.hotelling_t2}[statistic]
    np.testing.assert_array_equal(np.abs(detector.score_samples(X, errors)), np.abs(method(X, errors)))


def test_blocks_of_rows_are_read_once(rows):
    X, detector = rows[0], VAEOutlierDetector(MODEL, contamination=0.1)
    expected = detector.fit_predict(X)
    np.testing.assert_array_equal(detector.fit_predict(iter([X[:120], X[120:]])), expected)
    np.testing.assert_array_equal(detector.fit(iter([X[:120], X[120:]])).predict(X), expected)


@pytest.mark.parametrize(
    "options",
    [{"statistic": "spe"}, {"contamination": 0.6}, {"contamination": 0.0}, {"estimator": StandardScaler()}],
)
def test_what_is_wrong_is_named(rows, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        VAEOutlierDetector(**options).fit(rows[0])
