"""The engine: against a plain torch loop, best weights, divergence, reproducibility, interruption, progress."""

import copy
import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skvae import VAETransformer
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._training.early_stopping import EarlyStopping as Stopping
from skvae._training.early_stopping import ScoredRows
from skvae._training.fit import fit_model, new_net, start_linear, to_device
from skvae._training.schedules import one_cycle
from skvae._training.validation import held_out_blocks

from ..conftest import curved_spectra, small


def test_engine_takes_the_steps_of_a_plain_torch_loop(spectra):
    """Same weights, rows and noise: the same weights after two epochs, to rounding."""
    params = VAETransformer(3, **small(max_iter=2, learning_rate_init=1e-3, weight_decay=0.1))
    net = new_net(params, FitData(Rows(spectra)), seed=5)
    u = to_device(net, Rows(spectra))
    start_linear(net, params, u)
    plain = copy.deepcopy(net.module_)
    net.fit_loop((u, None), epochs=2, cycle=2)

    noise = list(plain.likelihood.parameters())
    rest = [p for name, p in plain.named_parameters() if not name.startswith("likelihood")]
    groups = [{"params": noise, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, foreach=False)
    generator = torch.Generator().manual_seed(5)
    torch.randn(1, 64, 3, generator=generator)  # the engine's noise for the score it watches
    step, n_steps, losses = 0, 2 * 19, []
    for _ in range(2):
        order, eps = torch.randperm(300, generator=generator), torch.randn(1, 300, 3, generator=generator)
        for i in range(0, 300, 16):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * one_cycle(step / n_steps)
            log_likelihood, q, _ = plain(u[order[i : i + 16]], eps[:, i : i + 16])
            loss = (q.kl() - log_likelihood.mean(0)).mean() + plain.log_volume
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append((loss.item(), len(order[i : i + 16])))
    for (name, ours), theirs in zip(net.module_.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5, msg=name)
    last = sum(loss * n for loss, n in losses[19:]) / 300
    assert net.history[-1, "train_loss"] == pytest.approx(last, abs=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic"])
def test_better_than_pca_and_factor_analysis_on_curved_spectra(likelihood):
    """Held out, default settings: ahead by 5 nats at least, for three splits."""
    for seed in range(3):
        train, test = curved_spectra(400, seed=seed), curved_spectra(200, seed=100 + seed)
        vae = VAETransformer(2, likelihood=likelihood, random_state=seed).fit(train)
        linear = max(model.fit(train).score(test) for model in (PCA(2), FactorAnalysis(2)))
        assert vae.score(test) > linear + 5


def test_never_worse_than_the_start_where_there_is_nothing_to_gain():
    """Linear-Gaussian rows, few of them: held out within 1 nat of the linear optimum of all rows."""
    rng = np.random.RandomState(0)
    loadings = rng.randn(3, 40)
    rows = rng.randn(1060, 3) @ loadings + 0.3 * rng.randn(1060, 40)
    for n in (28, 60):
        start = VAETransformer(3, max_iter=0).fit(rows[:n]).score(rows[60:])
        assert VAETransformer(3, random_state=0).fit(rows[:n]).score(rows[60:]) > start - 1


def test_the_kept_weights_are_the_best_on_validation_rows(spectra):
    vae = VAETransformer(2, **small(max_iter=12, early_stopping=True, refit=False)).fit(spectra)
    scores = [row["valid_score"] for row in vae.history_]
    assert vae.best_iter_ == int(np.argmax(scores))
    assert vae.net_.best_score_ == max(scores)
    assert len(scores) == vae.n_iter_ + 1
    assert {"epoch", "train_loss", "train_kl", "valid_score", "dur"} <= set(vae.history_[-1])


def test_by_default_the_last_weights_of_a_whole_cycle_are_kept(spectra):
    """Validation rows are scored at the start and at the end only."""
    vae = VAETransformer(2, **small(max_iter=12, n_iter_no_change=1, refit=False)).fit(spectra)
    assert vae.best_iter_ == vae.n_iter_ == 12
    assert [row["epoch"] for row in vae.history_ if "valid_score" in row] == [0, 12]
    assert vae.net_.best_score_ == vae.history_[-1]["valid_score"] > vae.history_[0]["valid_score"]


def scores_of_rows(gains):
    scored = ScoredRows(True, torch.zeros(len(gains), 9), None, None)
    options = {"n_features": 9, "n_iter_no_change": None, "tol": 0.0, "kl_warmup": 0}
    early_stopping = Stopping(scored, torch.zeros(len(gains)).double(), [torch.zeros(1)], epoch=0, **options)
    early_stopping.update(5, torch.tensor(gains).double(), [torch.ones(1)])
    return early_stopping


@pytest.mark.parametrize(
    "n, shift, is_kept", [(50, 0.0, True), (50, -0.9, True), (50, -1.1, False), (5, 2.1, False), (5, 2.2, True)]
)
def test_the_start_is_kept_where_the_mean_gain_lies_under_zero_or_few_rows_do_not_prove_it(n, shift, is_kept):
    """A standard error under zero or, with five rows, not 2.13 above: the 95 % quantile of t with four degrees."""
    gains = np.random.RandomState(0).randn(n)
    gains = gains - gains.mean() + shift * gains.std(ddof=1) / np.sqrt(n)
    kept = scores_of_rows(gains.tolist())
    assert kept.best_epoch == (5 if is_kept else 0) and kept.best[0].item() == is_kept


def test_standard_error_of_weighted_scores_is_that_of_repeated_rows():
    """To the factor n / (n - 1)."""
    scores, weight = torch.randn(6, dtype=torch.float64), torch.tensor([1.0, 2, 1, 3, 1, 1], dtype=torch.float64)
    own = ScoredRows(True, None, weight, None)
    assert own.mean(scores) == pytest.approx(np.average(scores, weights=weight))
    linearised = (weight * (scores - own.mean(scores))).square().sum().sqrt() / weight.sum()
    assert own.standard_error(scores) == pytest.approx(float(linearised) * np.sqrt(6 / 5))
    even = ScoredRows(True, None, None, None)
    assert even.standard_error(scores) == pytest.approx(float(scores.std()) / np.sqrt(6))


def test_refit_goes_on_from_the_kept_weights_with_all_rows(spectra):
    """For a sixth as many epochs; its history is that of the net before, and its own."""
    data = FitData(Rows(spectra))
    result = fit_model(VAETransformer(2, **small(max_iter=12, refit=True)), data, seed=0)
    assert result.net is not result.selection and result.selection.best_epoch_ == 12
    assert [row["epoch"] for row in result.net.history] == [*range(15)]
    own, before = result.net.module_.decoder.parameters(), result.selection.module_.decoder.parameters()
    change = torch.cat([(a - b).detach().flatten() for a, b in zip(own, before, strict=True)]).abs()
    assert 0 < change.max() < 2 * 19 * 0.4 * 3e-3 * 1.5  # AdamW's steps are hardly longer than its rate
    result = fit_model(VAETransformer(2, **small(refit=False)), data, seed=0)
    assert result.net is result.selection and len(np.unique(result.data.held_out)) == np.ceil(0.1 * len(spectra))


def test_where_the_start_is_kept_the_refit_is_the_start_of_all_rows():
    """Rows of pure noise, on which a long training at a high rate does worse."""
    rows = np.random.RandomState(0).randn(80, 30)
    settings = {"likelihood": "gaussian_isotropic", "random_state": 0, "device": "cpu"}
    vae = VAETransformer(4, learning_rate_init=0.02, max_iter=60, weight_decay=0.0, **settings).fit(rows)
    assert vae.best_iter_ == 0 and vae.n_iter_ == 60
    assert vae.score(rows) == VAETransformer(4, max_iter=0, **settings).fit(rows).score(rows)


def test_stops_when_the_validation_score_no_longer_improves(spectra):
    vae = VAETransformer(2, **small(max_iter=50, early_stopping=True, n_iter_no_change=3, tol=1e6)).fit(spectra)
    assert vae.n_iter_ == 3


@pytest.mark.parametrize("n, fraction", [(2, 0.1), (9, 0.1), (100, 0.1), (1000, 0.25), (10, 0.9)])
def test_validation_rows_are_a_share_and_mostly_blocks(n, fraction):
    held_out = held_out_blocks(n, fraction, seed=0)
    assert len(np.unique(held_out)) == len(held_out) == min(np.ceil(n * fraction), n - 1)
    assert held_out.min() >= 0 and held_out.max() < n
    if n == 1000:
        assert (np.diff(held_out) == 1).mean() > 0.9


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_divergence_keeps_good_weights_and_warns(spectra, early_stopping, rate):
    settings = small(learning_rate_init=rate, early_stopping=early_stopping, max_iter=20, n_iter_no_change=20)
    with pytest.warns(ConvergenceWarning, match="learning_rate_init"):
        vae = VAETransformer(2, **settings).fit(spectra)
    start = VAETransformer(2, max_iter=0).fit(spectra)
    assert np.isfinite(vae.transform(spectra)).all()
    assert np.isfinite(vae.sample(10, random_state=0)).all()
    assert vae.score(spectra) > start.score(spectra) - 2
    moments = [tensor for state in vae.net_.optimizer_.state.values() for tensor in state.values()]
    assert all(tensor.isfinite().all() for tensor in moments)
    assert np.isfinite(vae.partial_fit(spectra).score(spectra))


def fitted_numbers(_=None):
    vae = VAETransformer(3, posterior="rho_diag", **small()).fit(curved_spectra(200))
    X = curved_spectra(20, seed=1)
    return [vae.transform(X).tolist(), vae.score(X), vae.sample(3, random_state=1).tolist()]


def test_bit_for_bit_in_a_fresh_process_a_loky_worker_and_two_threads_at_once():
    here = fitted_numbers()
    fit = "import json, tests.training.test_training as t; print(json.dumps(t.fitted_numbers()))"
    fresh = subprocess.run([sys.executable, "-c", fit], capture_output=True, text=True, check=True)
    assert json.loads(fresh.stdout) == here
    assert Parallel(n_jobs=2)(delayed(fitted_numbers)(i) for i in range(2)) == [here, here]
    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: fitted_numbers()})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: here, 1: here}


def test_one_and_two_torch_threads_agree_to_rounding():
    """Not bit for bit: the matrix library adds up in another order. Within 1e-3 of a posterior mean's scale."""
    try:
        torch.set_num_threads(2)
        two = fitted_numbers()
    finally:
        torch.set_num_threads(1)
    one = fitted_numbers()
    np.testing.assert_allclose(two[0], one[0], atol=1e-3)
    assert two[1] == pytest.approx(one[1], abs=1e-2)


def test_global_generators_are_left_alone(spectra):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    vae = VAETransformer(2, **small()).fit(spectra)
    vae.partial_fit(spectra).score(spectra)
    vae.sample(5, random_state=0)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, np.random.get_state(), strict=True))


def test_random_states_differ(spectra):
    one, two = (VAETransformer(2, **small(random_state=seed)).fit(spectra).transform(spectra) for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_partial_fit_learns_and_counts_epochs():
    X = curved_spectra(500)
    vae = VAETransformer(2, **small()).partial_fit(X[:250])
    first = vae.score(X)
    for _ in range(15):
        vae.partial_fit(X[:250]).partial_fit(X[250:])
    assert vae.score(X) > first + 1
    assert vae.n_iter_ == 31 and vae.history_[-1]["epoch"] == 31
    with pytest.raises(ValueError, match="features"):
        vae.partial_fit(X[:, :10])


def test_warm_start_goes_on_from_the_weights(spectra):
    vae = VAETransformer(2, **small(warm_start=True)).fit(spectra)
    before = vae.history_[-1]["valid_score"]
    vae.fit(spectra)
    assert vae.history_[0]["valid_score"] > before - 2
    same = VAETransformer(2, **small(warm_start=True)).fit(spectra)
    score = same.score(spectra)
    same.set_params(max_iter=0).fit(100 * spectra)  # rows of another scale, no steps: the same model
    assert same.score(spectra) == score == pickle.loads(pickle.dumps(same)).score(spectra)
    with pytest.raises(ValueError, match="n_components"):
        vae.set_params(n_components=3).fit(spectra)
    with pytest.raises(ValueError, match="warm_start"):
        vae.set_params(n_components=2, hidden_layer_sizes=(3,)).fit(spectra)
    assert vae.transform(spectra).shape == (300, 2)


class Interrupt(Callback):
    def on_batch_end(self, net, training, **kwargs):
        if len(net.history) > 3:
            raise KeyboardInterrupt


def test_interruption_is_passed_on_and_leaves_the_best_so_far(spectra):
    vae = VAETransformer(2, **small(max_iter=50, callbacks=[Interrupt()]))
    with pytest.raises(KeyboardInterrupt):
        vae.fit(spectra)
    assert vae.n_iter_ == 2  # whole epochs
    assert vae.score(spectra) > VAETransformer(2, max_iter=0).fit(spectra).score(spectra) - 2


class InterruptRefit(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history) > 6:  # five epochs were before it
            raise KeyboardInterrupt


def test_interrupting_the_refit_keeps_the_selected_weights(spectra):
    vae = VAETransformer(2, **small(callbacks=[InterruptRefit()]))
    with pytest.raises(KeyboardInterrupt):
        vae.fit(spectra)
    selected = VAETransformer(2, **small(refit=False)).fit(spectra)
    assert np.array_equal(vae.transform(spectra), selected.transform(spectra))


def test_interrupting_partial_fit_is_passed_on_too(spectra):
    vae = VAETransformer(2, **small(callbacks=[Interrupt()]))
    with pytest.raises(KeyboardInterrupt):
        for _ in range(20):
            vae.partial_fit(spectra)
    assert np.isfinite(vae.score(spectra)) and vae.n_iter_ == 2


class StopAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if net.history[-1, "epoch"] == self.epoch:
            raise KeyboardInterrupt  # as skorch's own stop training


class Count(Callback):
    def on_train_begin(self, net, **kwargs):
        self.epochs = self.batches = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1

    def on_batch_end(self, net, **kwargs):
        self.batches += 1


def test_callbacks_run_and_can_stop_training(spectra):
    count = Count()
    VAETransformer(2, **small(callbacks=[count], refit=False)).fit(spectra)
    assert count.epochs == 5 and count.batches == 5 * -(-270 // 16)
    assert VAETransformer(2, **small(max_iter=30, callbacks=[StopAfter(3)], refit=False)).fit(spectra).n_iter_ == 3


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_net_params_reach_the_net(spectra, optimizer):
    vae = VAETransformer(2, **small(max_iter=2, net_params={"optimizer": optimizer, "lr": 1e-5, "lr_scheduler": None}))
    assert type(vae.fit(spectra).net_.optimizer_) is optimizer
    assert vae.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(0.4e-5)  # the refit's share of it


def test_verbose_shows_progress_with_score_and_time_left(spectra, capfd):
    VAETransformer(2, **small(verbose=1)).fit(spectra)
    shown = capfd.readouterr().err
    assert "validation loss" in shown and "train loss" in shown and "5/5" in shown and "epoch" in shown
    VAETransformer(2, **small()).fit(spectra)
    assert capfd.readouterr().err == ""
