"""`groups`, `X_val` and a splitter as `validation_fraction`, alone and through what scikit-learn puts around them."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit, PredefinedSplit, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAESearchCV, VAETransformer, load

from .conftest import curved_spectra, small

SETTINGS = small(max_iter=3, refit=False)


@pytest.fixture(scope="module")
def scans():
    """Four scans of each of 30 samples, shuffled, that scatter so much that nobody can tell; and the samples."""
    rng = np.random.RandomState(0)
    samples = rng.permutation(np.repeat(np.arange(30), 4))
    X = curved_spectra(30, 20)
    return X[samples] + X.std(0) * rng.standard_normal((120, 20)), samples


def held_out(vae, X, **given):
    """Places of the rows that a fit holds out."""
    seen = {}

    class Spy(VAETransformer):
        def _hold(self, X, result, *args, **kwargs):
            seen["places"] = result.data.held_out
            super()._hold(X, result, *args, **kwargs)

    fitted = Spy(**vae.get_params()).fit(X, **given)
    return seen["places"], fitted


def same(a, b, X):
    """Whether two fitted models have equal weights, limits and history."""
    assert [row.get("valid_score") for row in a.history_] == [row.get("valid_score") for row in b.history_]
    assert a.q_residuals_limit() == b.q_residuals_limit()
    return np.array_equal(a.transform(X), b.transform(X)) and a.score(X) == b.score(X)


@pytest.mark.parametrize("options", [{"max_iter": 0}, {"validation_fraction": None}])
def test_groups_where_no_rows_are_held_out(scans, options):
    X, samples = scans
    vae = VAETransformer(2, **{**SETTINGS, **options}).fit(X, groups=samples)
    assert vae.q_residuals_limit() > 0


def test_groups_of_any_kind_are_never_cut(scans):
    X, samples = scans
    labels = np.array([f"sample {i}" for i in samples], dtype=object)
    for fraction in (0.1, 0.3):
        vae = VAETransformer(2, **{**SETTINGS, "validation_fraction": fraction})
        places, fitted = held_out(vae, X, groups=samples)
        assert not set(samples[places]) & set(np.delete(samples, places))
        assert len(set(samples[places])) == np.ceil(30 * fraction)
        for other in (labels, pd.Series(labels, dtype="category"), samples.tolist(), 7 * samples - 100):
            assert same(held_out(vae, X, groups=other)[1], fitted, X)


def test_limits_count_groups(scans):
    """Of d = 2 components and n groups: d (n^2 - 1) / (n (n - d)) F(level; d, n - d)."""
    from scipy.stats import f

    X, samples = scans
    for given, n in ({"groups": samples}, 30), ({}, 120):
        limit = VAETransformer(2, **SETTINGS).fit(X, **given).hotelling_t2_limit(0.9)
        assert limit == pytest.approx(2 * (n**2 - 1) / (n * (n - 2)) * f.ppf(0.9, 2, n - 2))


def test_rows_of_weight_zero_leave_their_groups(scans):
    X, samples = scans
    kept = samples < 25
    a = VAETransformer(2, **SETTINGS).fit(X, sample_weight=kept.astype(float), groups=samples)
    b = VAETransformer(2, **SETTINGS).fit(X[kept], groups=samples[kept])
    assert same(a, b, X)


def test_x_val_replaces_the_held_out_rows(scans):
    X, _ = scans
    train, valid = X[:90], X[90:]
    places, vae = held_out(VAETransformer(2, **SETTINGS), train, X_val=valid)
    assert places is None
    fixed = PredefinedSplit(np.repeat([-1, 0], [90, 30]))  # the same rows, by a splitter of all
    by_split = VAETransformer(2, **{**SETTINGS, "validation_fraction": fixed}).fit(X)
    assert vae.history_[-1]["valid_score"] == pytest.approx(by_split.history_[-1]["valid_score"], abs=0.5)
    np.testing.assert_allclose(vae.mean_, train.mean(0))
    again = VAETransformer(2, **{**SETTINGS, "validation_fraction": None}).fit(train, X_val=valid)
    assert same(vae, again, X)
    other = VAETransformer(2, **SETTINGS).fit(train, X_val=valid + 3 * X.std(0))
    assert other.history_[0]["valid_score"] < vae.history_[0]["valid_score"] - 1


@pytest.mark.parametrize("gaps", [False, True])
def test_x_val_may_have_gaps_where_x_has_none(scans, gaps):
    X, _ = scans
    valid = X[90:].copy()
    valid[::3, 2:5] = np.nan
    valid[0] = np.nan if gaps else valid[0]
    vae = VAETransformer(2, **SETTINGS).fit(X[:90], X_val=valid)
    assert np.isfinite(vae.history_[-1]["valid_score"]) and np.isfinite(vae.score(X))


def test_a_splitter_chooses_the_rows(scans):
    X, samples = scans
    y = np.arange(120) % 3
    for splitter in (GroupKFold(5), GroupShuffleSplit(1, test_size=0.2, random_state=0)):
        vae = VAETransformer(2, **{**SETTINGS, "validation_fraction": splitter})
        places, _ = held_out(vae, X, groups=samples)
        np.testing.assert_array_equal(places, np.sort(next(splitter.split(X, y, samples))[1]))
    stratified = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
    vae = VAETransformer(2, **{**SETTINGS, "validation_fraction": stratified})
    places, _ = held_out(vae, X, y=y)
    assert np.bincount(y[places]).tolist() == [10, 10, 10]


def test_a_model_with_a_splitter_is_saved_with_a_description_of_it(scans, tmp_path):
    X, samples = scans
    splitter = GroupKFold(5)
    vae = VAETransformer(2, **{**SETTINGS, "validation_fraction": splitter}).fit(X, groups=samples)
    vae.save(tmp_path / "vae")
    again = load(tmp_path / "vae", validation_fraction=splitter)
    np.testing.assert_array_equal(again.transform(X), vae.transform(X))


WRONG = {
    "too few labels": ({"groups": [0, 1]}, "groups has 2 labels, but X has 120 rows"),
    "one label": ({"groups": np.zeros(120)}, "groups has one label"),
    "a label of NaN": ({"groups": np.where(np.arange(120), 1.0, np.nan)}, "groups must have a label for each row"),
    "fewer columns": ({"X_val": np.zeros((5, 19))}, "X_val is not as X is.*19 features"),
    "infinity": ({"X_val": np.full((5, 20), np.inf)}, "X_val is not as X is.*infinity"),
    "nothing measured": ({"X_val": np.full((5, 20), np.nan)}, "X_val has no row"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(scans, case):
    given, message = WRONG[case]
    vae = VAETransformer(2, **SETTINGS)
    with pytest.raises(ValueError, match=message):
        vae.fit(scans[0], **given)
    assert not hasattr(vae, "net_")


def test_columns_of_x_val_are_those_of_x(scans):
    X = pd.DataFrame(scans[0]).add_prefix("c")
    with pytest.raises(ValueError, match=r"X_val is not as X is.*column 0 is 'c19' in X_val, but 'c0' in X"):
        VAETransformer(2, **SETTINGS).fit(X, X_val=X[X.columns[::-1]])
    assert VAETransformer(2, **SETTINGS).fit(X, X_val=X[:30]).feature_names_in_[0] == "c0"


def test_early_stopping_needs_validation_rows(scans):
    vae = VAETransformer(2, **{**SETTINGS, "early_stopping": True, "validation_fraction": None})
    with pytest.raises(ValueError, match="early_stopping=True needs validation rows"):
        vae.fit(scans[0])
    assert vae.fit(scans[0], X_val=scans[0]).n_iter_ > 0


def test_a_splitter_that_holds_out_nothing_is_refused(scans):
    vae = VAETransformer(2, **{**SETTINGS, "validation_fraction": PredefinedSplit(np.full(120, -1))})
    with pytest.raises(ValueError, match="holds out 0 of the 120 rows"):
        vae.fit(scans[0])


@pytest.mark.parametrize("what", ["groups", "X_val"])
def test_a_checkpoint_belongs_to_its_groups_and_its_x_val(scans, tmp_path, what):
    X, samples = scans
    given = {"groups": (samples, samples[::-1].copy()), "X_val": (X[:30], X[30:60])}[what]

    class Stop(Exception):
        pass

    from skorch.callbacks import Callback

    class Stopping(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise Stop

    settings = {**SETTINGS, "checkpoint": tmp_path / "checkpoint"}
    with pytest.raises(Stop):
        VAETransformer(2, **settings, callbacks=[Stopping()]).fit(X, **{what: given[0]})
    whole = VAETransformer(2, **SETTINGS).fit(X, **{what: given[0]})
    with pytest.raises(ValueError, match="the rows"):
        VAETransformer(2, **settings).fit(X, **{what: given[1]})
    settings["checkpoint_every"] = 2
    assert whole.n_iter_ == 3


def test_through_a_pipeline(scans):
    """Steps before transform X_val, and groups go on by metadata routing."""
    X, samples = scans
    scaler = StandardScaler().fit(X)
    alone = VAETransformer(2, **SETTINGS).fit(scaler.transform(X), X_val=scaler.transform(X[:30]), groups=samples)
    with sklearn.config_context(enable_metadata_routing=True):
        vae = VAETransformer(2, **SETTINGS).set_fit_request(X_val=True, groups=True)
        pipeline = make_pipeline(StandardScaler(), vae)
        pipeline.set_params(transform_input=["X_val"]).fit(X, X_val=X[:30], groups=samples)
    assert same(pipeline[-1], alone, scaler.transform(X))


@pytest.mark.parametrize("Search", [GridSearchCV, VAESearchCV])
def test_through_a_search(scans, Search):
    """Groups reach the splitter of the search and, sliced, the models; X_val reaches each model whole."""
    X, samples = scans
    grid = {"n_components": [1, 2]}
    valid = curved_spectra(25, 20, seed=1)
    with sklearn.config_context(enable_metadata_routing=True):
        vae = VAETransformer(**SETTINGS).set_fit_request(groups=True, X_val=True)
        search = Search(vae, grid, cv=GroupKFold(3)).fit(X, groups=samples, X_val=valid)
    scores = search.cv_results_["split1_test_score"]
    train, test = list(GroupKFold(3).split(X, groups=samples))[1]
    for k, score in zip([1, 2], scores, strict=True):
        alone = VAETransformer(k, **SETTINGS).fit(X[train], groups=samples[train], X_val=valid)
        assert score == alone.score(X[test])


def test_a_splitter_in_a_search_is_trained_together(scans):
    X, _ = scans
    splitter = GroupShuffleSplit(1, test_size=0.2, random_state=0)
    settings = {**SETTINGS, "validation_fraction": StratifiedShuffleSplit(1, test_size=0.2, random_state=0)}
    y = np.arange(120) % 2
    grid = {"beta": [1.0, 2.0], "random_state": [0]}
    together = VAESearchCV(VAETransformer(2, **settings), grid, cv=2).fit(X, y)
    alone = GridSearchCV(VAETransformer(2, **settings), grid, cv=2).fit(X, y)
    assert together.n_trained_together_ == 4
    np.testing.assert_allclose(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-3, atol=1e-2
    )
    with pytest.raises(ValueError, match="groups"):
        VAETransformer(2, **{**SETTINGS, "validation_fraction": splitter}).fit(X)


def test_partial_fit_holds_nothing_out(scans):
    with pytest.raises(TypeError, match="groups"):
        VAETransformer(2, **SETTINGS).partial_fit(scans[0], groups=scans[1])
