"""VAESearchCV: GridSearchCV's results, from models that were trained side by side."""

import pickle
from collections import deque
from unittest.mock import patch

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.model_selection._validation import _fit_and_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skvae import VAESearchCV, VAETransformer
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._meta_estimators.search_cv import Handover, Plan, StackedFit, train_side_by_side
from skvae._training.fit import fit_model, phases
from skvae._training.stacked_fit import train_stacked
from skvae.networks import NETWORKS
from skvae.posteriors import POSTERIORS

from ..conftest import PLAIN_LIKELIHOODS, curved_spectra, in_support, small

BASE = small(max_iter=4, n_iter_no_change=2)


def both(estimator, grid, X, y=None, fit_params=None, **options):
    """The search alone by alone and side by side; their results agree to float32's rounding."""
    alone, together = (Search(estimator, grid, **options) for Search in (GridSearchCV, VAESearchCV))
    for search in (alone, together):
        search.fit(X, y, **(fit_params or {}))
    assert together.cv_results_["params"] == alone.cv_results_["params"]
    assert set(together.cv_results_) == set(alone.cv_results_)
    for name, ours in together.cv_results_.items():
        if "score" in name and "time" not in name and "rank" not in name:
            theirs = alone.cv_results_[name]
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * X.shape[1], err_msg=name)
    assert (together.cv_results_["mean_fit_time"] > 0).all()
    return alone, together


KINDS = [{"posterior": name} for name in POSTERIORS]
KINDS += [{"likelihood": name} for name in PLAIN_LIKELIHOODS]
KINDS += [{"encoder": name, "decoder": name, "input_shape": (1, 6, 8)} for name in NETWORKS]
KINDS += [
    {"objective": "iwae", "n_draws": 3},
    {"n_draws": 2, "weight_decay": 0.0},
    {"init": "random", "activation": "tanh"},
    {"validation_fraction": None},
    {"early_stopping": True},
    {"refit": False, "kl_warmup": 3},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_net_becomes_what_it_would_alone(kind):
    """Its epochs, its losses and its weights to rounding, beside nets of other rows, betas, rates and patience."""
    X = in_support(kind.get("likelihood", "gaussian"), curved_spectra(90, 48))
    params = [
        VAETransformer(2, **{**BASE, "max_iter": 6, **kind, **own})
        for own in (
            {"random_state": 0},
            {"random_state": 1, "beta": 4.0, "learning_rate_init": 3e-3},
            {"random_state": 2, "max_iter": 3, "weight_decay": 0.3},
            {"random_state": 3, "n_iter_no_change": 1, "tol": 1.0},
        )
    ]
    rows = [Rows(X), Rows(X[3:]), Rows(X[:80]), Rows(X[::-1].copy())]  # the last batches differ
    fits = [(p, FitData(r), p.random_state) for p, r in zip(params, rows, strict=True)]
    alone = [fit_model(*fit) for fit in fits]
    together = [StackedFit(Plan(None), None, phases(*fit), 0) for fit in fits]
    train_side_by_side(together)
    for result, fit in zip(alone, together, strict=True):
        net, selection, held_out = result.net, result.selection, result.data.held_out
        our_net, our_selection, ours_held_out = fit.result.net, fit.result.selection, fit.result.data.held_out
        assert our_selection.best_epoch_ == selection.best_epoch_
        np.testing.assert_array_equal(ours_held_out, held_out)
        for theirs, ours in zip(selection.history, our_selection.history, strict=True):
            assert set(ours) == set(theirs)
            for name in set(theirs) - {"dur"}:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-2), name
        for (name, theirs), ours in zip(net.module_.named_parameters(), our_net.module_.parameters(), strict=True):
            np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-2, atol=2e-4, err_msg=name)


def test_the_results_are_grid_search_s():
    X = curved_spectra(100, 20)
    grid = {"n_components": [1, 3], "beta": [1.0, 4.0], "learning_rate_init": [1e-3, 5e-3], "random_state": [0, 1]}
    alone, together = both(VAETransformer(**BASE), grid, X, cv=3, return_train_score=True)
    assert together.n_trained_together_ == 16 * 3
    assert together.best_params_ == alone.best_params_
    np.testing.assert_array_equal(together.transform(X), alone.transform(X))  # the best is fitted to all of X alone
    assert together.n_splits_ == 3 and together.n_features_in_ == 20 and together.refit_time_ > 0


def test_models_that_cannot_be_trained_together_keep_their_place():
    X = curved_spectra(80, 12)
    pipeline = Pipeline([("scale", StandardScaler()), ("model", VAETransformer(2, **BASE, validation_fraction=None))])
    grid = [
        {"model__beta": [1.0, 2.0]},
        {"model": [PCA(2)], "scale": ["passthrough", StandardScaler()]},
        {"model__objective": ["info", "elbo"], "model__free_bits": [0.0, 0.1]},
        {"model__posterior": ["full"], "scale": ["passthrough"]},
    ]
    _, together = both(pipeline, grid, X, cv=2)
    assert together.n_trained_together_ == 2 * (2 + 1 + 1)
    scores = together.cv_results_["mean_test_score"]
    in_processes = clone(together).set_params(n_jobs=2).fit(X)  # the trained nets are sent there
    np.testing.assert_array_equal(in_processes.cv_results_["mean_test_score"], scores)
    assert not (scores == GridSearchCV(pipeline, grid, cv=2).fit(X).cv_results_["mean_test_score"])[[0, 1]].all()
    assert all(type(params) is dict for params in together.cv_results_["params"])


def test_a_fit_gets_its_own_fold_s_net_by_a_private_attribute_and_keeps_nothing_of_it():
    """The attribute survives the pickle that goes to a worker, and is gone when the fit is done."""
    X = curved_spectra(80, 12)
    vae, sent = VAETransformer(2, **BASE), []

    def spied(estimator, *args, **kwargs):
        sent.append(pickle.loads(pickle.dumps(estimator)))
        return _fit_and_score(estimator, *args, **kwargs)

    with patch("sklearn.model_selection._search._fit_and_score", spied):
        search = VAESearchCV(vae, {"beta": [1.0, 2.0, 4.0]}, cv=2).fit(X)
    assert search.n_trained_together_ == 6 and len({estimator._trained_fit.key for estimator in sent}) == 6
    betas = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    for beta, estimator in zip(betas, sent, strict=True):
        assert f"('beta', '{beta}')" in estimator._trained_fit.key[0]
        assert not {"_trained_fit", "_handover"} & set(estimator.get_params())
    for fitted in (search.best_estimator_, search.estimator, clone(search.best_estimator_), vae):
        assert not {"_trained_fit", "_handover"} & set(vars(fitted))


def test_steps_before_may_differ_and_fail():
    """Nets of other widths are other stacks; a step that fails is the candidate's failure."""
    X, y = curved_spectra(80, 12), np.tile([0, 1], 40)
    pipeline = Pipeline([("select", SelectKBest(k=5)), ("model", VAETransformer(2, **BASE))])
    _, together = both(pipeline, {"select__k": [5, 8], "model__beta": [1.0, 2.0]}, X, y, cv=2)
    assert together.n_trained_together_ == 8
    broken = FunctionTransformer(unfit)
    grid = [{"select": [SelectKBest(k=5)]}, {"select": [broken], "model__beta": [1.0, 2.0]}]
    for n_jobs in (1, 2):
        with pytest.warns(FitFailedWarning, match="out of order"):
            search = VAESearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(X, y)
        assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True, True]


def unfit(X):
    raise RuntimeError("out of order")


def test_a_handover_that_is_sent_away_is_empty():
    """Another thread may pickle it, with the search's scorer, while fits are taken from it."""
    handover = Handover()
    handover.queue = deque([1, 2])
    assert pickle.loads(pickle.dumps(handover)).queue is None and len(handover.queue) == 2


def test_splits_are_drawn_once():
    """An iterator ends, a splitter draws, and a classifier's folds are stratified."""
    X, y = curved_spectra(80, 12), np.repeat([0, 1], [60, 20])
    vae, grid = VAETransformer(2, **BASE), {"beta": [1.0, 2.0]}
    for cv in (iter(list(KFold(2).split(X))), ShuffleSplit(2)):
        search = VAESearchCV(vae, grid, cv=cv).fit(X)
        assert search.n_trained_together_ == 4 and search.cv is cv
        assert {"split0_test_score", "split1_test_score"} <= set(search.cv_results_)
    _, classify = both(make_pipeline(vae, LogisticRegression()), {"vaetransformer__beta": [1.0, 2.0]}, X, y, cv=2)
    assert classify.n_trained_together_ == 0


def test_large_nets_are_trained_alone_on_a_cpu():
    X = curved_spectra(60, 12)
    for width, n_together in ((16, 2), (300, 0)):
        vae = VAETransformer(2, **{**BASE, "hidden_layer_sizes": (width, width), "device": "cpu"})
        assert VAESearchCV(vae, {"beta": [1.0]}, cv=2).fit(X).n_trained_together_ == n_together


def test_rows_are_held_for_as_many_models_as_there_is_room_for():
    X = curved_spectra(100, 20)
    grid = {"random_state": [0, 1, 2]}
    search = VAESearchCV(VAETransformer(2, **BASE), grid, cv=2)
    with (
        config_context(working_memory=0.03),
        patch("skvae._meta_estimators.search_cv.train_stacked", wraps=train_stacked) as trained,
    ):
        search.fit(X)
    # 6 fits of 50 rows, 16 kB each: two at a time, in two phases.
    assert [len(call.args[0]) for call in trained.call_args_list] == [2] * 6
    assert search.n_trained_together_ == 6


def test_callbacks_of_the_search_and_of_the_estimator():
    """The search's go to its fits; an estimator with its own is trained alone, so that they are told all."""
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    pytest.importorskip("rich")
    X = curved_spectra(60, 8)
    grid = {"beta": [1.0, 2.0]}
    search = VAESearchCV(VAETransformer(2, **BASE), grid, cv=2).set_callbacks(callback.ProgressBar())
    assert search.fit(X).n_trained_together_ == 4
    monitor = callback.ScoringMonitor(scoring={"nats": lambda vae, X, y=None: vae.score(X)})
    own = VAESearchCV(VAETransformer(2, **BASE).set_callbacks(monitor), grid, cv=2).fit(X)
    assert own.n_trained_together_ == 0


def test_weights_scorers_and_splitters_are_passed_on():
    X, weight = curved_spectra(80, 12), np.random.RandomState(0).randint(0, 3, 80).astype(float)
    scoring = {"nats": lambda vae, X, y=None: vae.score(X), "Q": lambda vae, X, y=None: -vae.q_residuals(X).mean()}
    vae, grid = VAETransformer(2, **BASE), {"beta": [1.0, 4.0]}
    for options in ({"fit_params": {"sample_weight": weight}}, {"scoring": scoring, "refit": "nats"}):
        _, together = both(vae, grid, X, cv=ShuffleSplit(2, random_state=0), **options)
        assert together.n_trained_together_ == 4


def test_gaps_other_seeds_and_failures_are_grid_search_s():
    X = curved_spectra(80, 12)
    gaps = X.copy()
    gaps[::3, 2] = np.nan
    _, together = both(VAETransformer(2, **BASE), {"beta": [1.0, 2.0]}, gaps, cv=2)
    assert together.n_trained_together_ == 0
    search = VAESearchCV(VAETransformer(2, **{**BASE, "random_state": None}), {"beta": [1.0]}, cv=2).fit(X)
    assert search.n_trained_together_ == 0 and np.isfinite(search.best_score_)
    failing = VAESearchCV(VAETransformer(2, **BASE), {"validation_fraction": [0.1, 0.999]}, cv=2)
    with pytest.warns(RuntimeWarning, match="leaves none of the"):
        failing.fit(X)
    assert np.isnan(failing.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert failing.n_trained_together_ == 2
    with pytest.raises(ValueError, match="leaves none of the"):
        failing.set_params(error_score="raise").fit(X)


def test_one_that_diverges_leaves_the_others_alone():
    X = curved_spectra(100, 20)
    with pytest.warns(UserWarning, match="diverged"):
        _, together = both(VAETransformer(2, **BASE), {"learning_rate_init": [1e-3, 1e5]}, X, cv=2)
    assert together.n_trained_together_ == 4


def test_it_is_an_estimator_like_the_others(capsys):
    X = curved_spectra(60, 8)
    search = VAESearchCV(make_pipeline(VAETransformer(**BASE)), {"vaetransformer__beta": [1.0, 2.0]}, cv=KFold(2))
    assert clone(search).get_params()["cv"].n_splits == 2
    assert search.set_params(verbose=1).fit(X).transform(X).shape == (60, 2)
    assert "Trained 4 fits side by side in" in capsys.readouterr().out
    assert search.best_estimator_[-1].n_components_ == 2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(search)).transform(X), search.transform(X))


def test_there_must_be_a_vae_to_be_searched():
    X = curved_spectra(40, 12)
    for estimator in (PCA(), make_pipeline(StandardScaler(), PCA())):
        with pytest.raises(TypeError, match="GridSearchCV"):
            VAESearchCV(estimator, {}).fit(X)


@pytest.mark.parametrize("n", [3, 41])
def test_weights_of_another_number_than_the_rows_are_refused(n):
    with pytest.raises(ValueError, match="sample_weight"):
        VAESearchCV(VAETransformer(2, **BASE), {"beta": [1.0, 2.0]}, cv=2).fit(
            curved_spectra(40, 12), sample_weight=np.ones(n)
        )


class SetsInFit(VAETransformer):
    """Its `fit` sets a parameter from one of its own."""

    def __init__(self, n_components=2, strength=1.0, random_state=0):
        super().__init__(n_components, **{**BASE, "random_state": random_state})
        self.strength = strength

    def fit(self, X, y=None, sample_weight=None):
        self.beta = self.strength
        return super().fit(X, y, sample_weight)


class HidesItsLayers(VAETransformer):
    """Its signature has another name for a parameter that shapes the net."""

    def __init__(self, n_components=2, width=8, random_state=0):
        super().__init__(n_components, **{**BASE, "random_state": random_state, "hidden_layer_sizes": (width,)})
        self.width = width

    def set_params(self, **params):
        super().set_params(**params)
        self.hidden_layer_sizes = (self.width,)
        return self


@pytest.mark.parametrize(
    "estimator, grid", [(SetsInFit(), {"strength": [0.1, 4.0]}), (HidesItsLayers(), {"width": [4, 16]})], ids=repr
)
def test_subclasses_whose_parameters_are_not_all_seen_are_fitted_alone(estimator, grid):
    X = curved_spectra(80, n_channels=10)
    search = VAESearchCV(estimator, grid, cv=2).fit(X)
    alone = GridSearchCV(estimator, grid, cv=2).fit(X)
    assert search.n_trained_together_ == 0
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


class WithAMethod(VAETransformer):
    """All parameters are seen, and `fit` is ours."""

    def n_numbers(self):
        return self.n_components_ * self.n_features_in_


def test_a_subclass_that_changes_nothing_of_the_fit_is_trained_together():
    X = curved_spectra(80, n_channels=10)
    _, together = both(WithAMethod(2, **BASE), {"beta": [0.5, 2.0]}, X, cv=2)
    assert together.n_trained_together_ == 4
