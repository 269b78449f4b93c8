"""A fit says what happened: in warnings that name their cause, and in its summary."""

import warnings

import numpy as np
import pytest

from skvae import VAETransformer, load

from ..conftest import curved_spectra, small


def low_rank(n, p, rank=3, noise=0.1, seed=0):
    rng = np.random.RandomState(seed)
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p)) + noise * rng.standard_normal((n, p))


def r2(X, back, mean):
    return 1 - np.square(X - back).sum() / np.square(X - mean).sum()


def warned(vae, X):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vae.fit(X)
    return [str(warning.message) for warning in said]


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic", "poisson"])
def test_the_summary_has_the_numbers_of_the_validation_rows(likelihood):
    X = curved_spectra(200, 12)
    X = np.random.RandomState(0).poisson(20 * np.exp(X / np.abs(X).max())) if likelihood == "poisson" else X
    train, valid = X[:150], X[150:]
    settings = small(max_iter=8, refit=False, learning_rate_init=1e-2, likelihood=likelihood)
    vae = VAETransformer(2, **settings).fit(train, X_val=valid)
    start = VAETransformer(2, **{**settings, "max_iter": 0}).fit(train)
    text = vae.summary()
    assert vae.best_iter_ == 8 and "kept: epoch 8 of 8" in text and "validated on 50 rows" in text
    for model in (start, vae):
        expected = r2(valid, model.inverse_transform(model.transform(valid)), train.mean(0))
        assert f"{expected:.4f}" in text
    for row in (vae.history_[0], vae.history_[8]):
        assert f"{row['valid_score']:.2f}" in text


def test_a_model_that_keeps_its_start_says_so():
    """Rows of pure noise, on which a long training at a high rate does worse."""
    vae = VAETransformer(2, **small(max_iter=200, learning_rate_init=0.05)).fit(np.random.RandomState(0).randn(80, 30))
    assert vae.best_iter_ == 0 and "kept: the linear start" in vae.summary()


def test_rows_learned_by_heart_are_no_divergence():
    """The cause is in the rows, not in the rate."""
    rng = np.random.RandomState(0)
    for X in (rng.randn(80, 30), rng.randn(12, 40), curved_spectra(25, 40)):
        said = warned(VAETransformer(4, **small(max_iter=200, learning_rate_init=0.01, hidden_layer_sizes=(64,))), X)
        assert not any("diverged" in message for message in said)


def test_warnings_name_the_line_of_the_caller():
    with pytest.warns(UserWarning, match="n_components=20") as said:
        VAETransformer(20, **small(max_iter=1)).fit(low_rank(30, 12))
    assert {warning.filename for warning in said if "n_components=20" in str(warning.message)} == {__file__}


def test_too_many_components_are_named():
    said = warned(VAETransformer(20, **small(max_iter=2)), low_rank(30, 12))
    assert any(message.startswith("n_components=20 is more than the 12 directions") for message in said)
    said = warned(VAETransformer(16, **small(max_iter=2)), low_rank(12, 40))
    assert any(message.startswith("n_components=16 is more than the 9 directions") for message in said)
    assert not any("directions" in message for message in warned(VAETransformer(8, **small()), low_rank(12, 40)))


def test_constant_channels_are_named_and_cost_no_more_than_others():
    """A channel that is constant in training and not in new rows: the score stays near PCA's own."""
    from sklearn.decomposition import PCA

    X = low_rank(300, 20)
    train = X[:150].copy()
    train[:, [5, 7]] = 3.0
    vae = VAETransformer(3, random_state=0)
    said = warned(vae, train)
    assert any(
        message.startswith("Columns of X that are constant in the training rows, counted from 0: 5, 7.")
        for message in said
    )
    assert vae.score(X[150:]) > PCA(3).fit(train).score(X[150:]) - 1
    said = warned(VAETransformer(3, likelihood="gaussian_diag", **small()), train)
    assert not any("constant" in message for message in said)  # its noise has a floor of its own
    assert any("constant" in remark for remark in vae.summary().splitlines())


def test_the_summary_counts_groups_and_rows_left_out():
    X = curved_spectra(120, 10)
    groups, weight = np.arange(120) // 4, (np.arange(120) > 3).astype(float)
    text = VAETransformer(2, **small(max_iter=2)).fit(X, sample_weight=weight, groups=groups).summary()
    assert "fitted to 116 rows, validated on 12 rows in 3 groups; 4 left out" in text


def test_the_summary_is_saved_and_printed(tmp_path, capsys):
    X = curved_spectra(60, 10)
    vae = VAETransformer(2, **small(max_iter=2, verbose=1)).fit(X)
    assert capsys.readouterr().out.strip() == vae.summary()
    vae.save(tmp_path / "vae")
    assert load(tmp_path / "vae").summary() == vae.summary()
    vae.set_params(verbose=0).partial_fit(X)
    assert "validat" not in vae.summary() and "fitted to 60 rows" in vae.summary()


@pytest.mark.parametrize("n", [5, 8, 20, 60])
def test_few_rows_do_not_fall_below_their_start(n):
    """Held-out nats per feature are within 0.1 of the linear start's, or above, in each of six sets.

    The numbers are those of the seed: training passes a test of 95 % by chance in one of twenty sets of few rows.
    """
    for seed in range(3):
        for X in (low_rank(n + 200, 15, seed=seed), curved_spectra(n + 200, 15, seed=seed)):
            vae, start = (VAETransformer(2, random_state=0, **more).fit(X[:n]) for more in ({}, {"max_iter": 0}))
            assert vae.score(X[n:]) > start.score(X[n:]) - 0.1 * 15
