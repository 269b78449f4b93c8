"""scikit-learn's callbacks: the tasks that they are told of, the estimator that they get, and how they stop a fit."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer, load

from ..conftest import small

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


class Recorder:
    """Notes every hook; `stop_after` epochs asks for the end of the stage."""

    def __init__(self, stop_after=None, keep=False):
        self.stop_after, self.keep = stop_after, keep
        self.calls, self.estimators = [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(("end", context.task_name))
        if self.keep:
            self.estimators.append((context.task_name, fitted_estimator, X, y, metadata))
        return context.task_name == "epoch" and self.stop_after == context.task_id + 1


class Propagated(Recorder):
    max_propagation_depth = None


@pytest.fixture
def X():
    rng = np.random.RandomState(0)
    return np.tanh(rng.standard_normal((80, 2)) @ rng.standard_normal((2, 6))) + 0.1 * rng.standard_normal((80, 6))


def names(recorder):
    return [call if isinstance(call, str) else f"{call[0]} {call[1]}" for call in recorder.calls]


@pytest.mark.parametrize("refit", [False, True])
def test_a_fit_is_a_tree_of_stages_and_epochs(X, refit):
    recorder = Recorder()
    vae = VAETransformer(2, **small(max_iter=3, refit=refit)).set_callbacks(recorder).fit(X)
    epochs = ["begin epoch", "end epoch"]
    stages = ["begin fit", *(epochs * vae.n_iter_), "end fit"]
    stages += ["begin refit", *epochs, "end refit"] if refit else []  # a sixth of three, rounded up
    stages += ["begin noise", "end noise"]
    assert names(recorder) == ["setup", "begin fit", *stages, "end fit", "teardown"]
    assert recorder.calls[1] == ("begin", "fit", 2 + refit)
    assert recorder.calls[2] == ("begin", "fit", 3)


def test_callbacks_change_no_weight_and_leave_nothing_behind(X):
    plain = VAETransformer(2, **small()).fit(X)
    watched = VAETransformer(2, **small()).set_callbacks(Recorder(keep=True)).fit(X)
    assert_array_equal(watched.transform(X), plain.transform(X))
    assert watched.score(X) == plain.score(X)
    assert set(vars(watched)) - set(vars(plain)) == {"_skl_callbacks"}


def test_the_fitted_estimator_of_an_epoch_is_one_of_its_own(X):
    import pandas as pd

    frame = pd.DataFrame(X, columns=list("abcdef"))
    recorder = Recorder(keep=True)
    vae = VAETransformer(2, **small(max_iter=3, validation_fraction=None)).set_callbacks(recorder)
    vae.fit(frame, sample_weight=np.full(80, 2.0))
    epochs = [fitted for name, fitted, *_ in recorder.estimators if name == "epoch"]
    assert [fitted.n_iter_ for fitted in epochs] == [1, 2, 3]
    assert epochs[0].score(frame) != epochs[1].score(frame)
    last = epochs[-1]
    assert_array_equal(last.inverse_transform(last.transform(frame)), vae.inverse_transform(vae.transform(frame)))
    assert last.get_feature_names_out().tolist() == vae.get_feature_names_out().tolist()
    assert last.feature_names_in_.tolist() == list("abcdef")
    for name, fitted, rows, y, metadata in recorder.estimators:
        assert rows is frame and y is frame, name  # what an autoencoder learns to return
        assert_array_equal(metadata["sample_weight"], np.full(80, 2.0))
        assert fitted.score(rows, y, **metadata) == pytest.approx(fitted.score(X))


def test_what_an_epoch_leaves_can_be_saved_and_trained_on(X, tmp_path):
    class Saver(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch" and context.task_id == 1:
                fitted_estimator.save(tmp_path / "second.safetensors")
                self.expected = fitted_estimator.score(X)

    saver = Saver()
    VAETransformer(2, **small(max_iter=4, refit=False)).set_callbacks(saver).fit(X)
    second = load(tmp_path / "second.safetensors")
    assert second.score(X) == saver.expected
    assert np.isfinite(second.partial_fit(X).score(X))


@pytest.mark.parametrize("refit", [False, True])
def test_true_ends_the_stage_with_the_best_weights_so_far(X, refit):
    recorder = Recorder(stop_after=2)
    vae = VAETransformer(2, **small(max_iter=30, n_iter_no_change=30, refit=refit)).set_callbacks(recorder).fit(X)
    assert vae.n_iter_ == 2
    assert names(recorder).count("begin refit") == refit
    two = VAETransformer(2, **small(max_iter=30, n_iter_no_change=30, refit=refit, callbacks=[StopAt(2)])).fit(X)
    assert_array_equal(vae.transform(X), two.transform(X))


def StopAt(epoch):
    from skorch.callbacks import Callback

    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if net.history[-1, "epoch"] == epoch:
                raise KeyboardInterrupt

    return Stop()


def test_tasks_are_closed_when_training_diverges_or_fails(X):
    diverging, failing = Recorder(), Recorder()
    with pytest.warns(UserWarning, match="diverged"):
        VAETransformer(2, **small(max_iter=20, learning_rate_init=1e4, refit=False)).set_callbacks(diverging).fit(X)

    class Failing(Exception):
        pass

    class Fails(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise Failing

    with pytest.raises(Failing):
        VAETransformer(2, **small()).set_callbacks(failing, Fails()).fit(X)
    calls = names(diverging)
    for task in ("fit", "epoch"):
        assert calls.count(f"begin {task}") == calls.count(f"end {task}") > 0
    assert [call for call in names(failing) if call.endswith("down")] == ["teardown"]


def nats(estimator, X, y):
    return estimator.score(X)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scoring_monitor_through_a_grid_search_over_a_pipeline(X, n_jobs):
    monitor = callback.ScoringMonitor(scoring={"score": nats})  # None takes more than one score for granted
    vae = VAETransformer(2, **small(max_iter=2, validation_fraction=None)).set_callbacks(monitor)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), vae), {"vaetransformer__n_components": [1, 2]}, cv=2, n_jobs=n_jobs
    )
    search.fit(X)
    log = monitor.get_logs()
    epochs = [row for row in log.data if row["task_name"] == "epoch"]
    assert log.estimator_name == "GridSearchCV"
    assert len(epochs) == 2 * (2 * 2 + 1)  # epochs x (candidates x folds + the refit of the search)
    assert len({row["task_id_path"] for row in epochs}) == len(epochs)
    assert all(np.isfinite(row["score"]) for row in epochs)
    assert search.best_estimator_.score(X) in [row["score"] for row in log.data if row["task_name"] == "noise"]


def test_a_callback_on_the_search_reaches_the_epochs(X):
    recorder = Propagated()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), VAETransformer(**small(max_iter=2, refit=False))),
        {"vaetransformer__n_components": [1, 2]},
        cv=2,
    )
    search.set_callbacks(recorder).fit(X)
    assert names(recorder).count("begin epoch") == 2 * (2 * 2 + 1)
    assert names(recorder).count("setup") == names(recorder).count("teardown") == 1


def test_the_progress_bar_is_drawn(X, capsys):
    pytest.importorskip("rich")
    pipeline = make_pipeline(StandardScaler(), VAETransformer(2, likelihood="gaussian_diag", **small(max_iter=2)))
    pipeline.set_callbacks(callback.ProgressBar(max_propagation_depth=2)).fit(X)
    shown = capsys.readouterr().out
    assert "VAETransformer - fit" in shown and "VAETransformer - refit" in shown
    assert "100%" in shown


def test_callbacks_are_no_part_of_a_file_and_travel_with_clones_and_copies(X, tmp_path):
    recorder = Recorder()
    vae = VAETransformer(2, **small(max_iter=1)).set_callbacks(recorder).fit(X)
    vae.save(tmp_path / "vae.safetensors")
    assert not hasattr(load(tmp_path / "vae.safetensors"), "_skl_callbacks")
    assert clone(vae)._skl_callbacks == [recorder]
    assert copy.copy(vae)._skl_callbacks == [recorder]
    assert not hasattr(vae.set_callbacks(), "_skl_callbacks")
