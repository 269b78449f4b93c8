"""A number of components that a fit chooses: PCA's shares, closed forms of held-out nats, and known dimensions."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, PredefinedSplit

from skvae import VAESearchCV, VAETransformer, load
from skvae._linear.n_components import held_out_nats
from skvae._training.n_components import folds_of, trimmed_mean

from ..conftest import curved_spectra, small

START = {"max_iter": 0, "likelihood": "gaussian_isotropic", "random_state": 0}


def linear_rows(d, n, p, noise=0.5, seed=0):
    rng = np.random.RandomState(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, p)) + noise * rng.standard_normal((n, p))


@pytest.mark.parametrize("shape", [(300, 60), (50, 200)])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.9999])
def test_a_share_of_variance_takes_as_many_as_pca(shape, share):
    X = curved_spectra(*shape)
    assert VAETransformer(share, **START).fit(X).n_components_ == PCA(share).fit(X).n_components_


def test_a_share_of_the_variance_of_weighted_rows():
    X = np.vstack([linear_rows(2, 50, 20), linear_rows(6, 50, 20, seed=1)])
    weight = np.repeat([1, 20], 50)
    expected = PCA(0.9).fit(np.repeat(X, weight, axis=0)).n_components_
    assert VAETransformer(0.9, **START).fit(X, sample_weight=weight).n_components_ == expected
    assert expected != PCA(0.9).fit(X).n_components_


@pytest.mark.parametrize(("shape", "expected"), [((30, 8), 7), ((6, 40), 5), ((30, 1), 1)])
def test_none_takes_as_many_as_there_can_be_but_one(shape, expected):
    vae = VAETransformer(None, **START).fit(linear_rows(3, *shape))
    assert vae.n_components_ == expected == vae.transform(linear_rows(3, *shape)).shape[1]


def standardised(X):
    scale = X.std(axis=0)
    return torch.from_numpy((X - X.mean(axis=0)) / scale), torch.from_numpy(scale)


def test_held_out_nats_are_pca_s():
    X = linear_rows(3, 100, 12)
    u, scale = standardised(X)
    nats = held_out_nats(u[:70], u[70:], False, scale, 1e-6).numpy()
    expected = [PCA(k).fit(X[:70]).score_samples(X[70:]) for k in range(1, 12)]
    np.testing.assert_allclose(nats.T, expected, rtol=1e-9)


@pytest.mark.parametrize("is_unit", [False, True])
@pytest.mark.parametrize("shape", [(60, 12), (16, 30)])
def test_held_out_nats_are_those_of_the_normal_distribution(is_unit, shape):
    X = linear_rows(3, *shape) * np.linspace(0.5, 3, shape[1])
    u, scale = standardised(X)
    n = shape[0] * 3 // 4
    nats = held_out_nats(u[:n], u[n:], is_unit, scale, 1e-6).numpy()
    values, vectors = np.linalg.eigh(np.cov(X[:n].T))
    for k in (1, 3, nats.shape[1]):
        noise = 1.0 if is_unit else values[:-k].mean()
        kept = vectors[:, -k:] * np.maximum(values[-k:] - noise, 0)
        model = multivariate_normal(X[:n].mean(axis=0), kept @ vectors[:, -k:].T + noise * np.eye(shape[1]))
        np.testing.assert_allclose(nats[:, k - 1], model.logpdf(X[n:]), rtol=1e-6)


def test_held_out_nats_of_weighted_rows_are_those_of_rows_repeated():
    u, scale = standardised(linear_rows(3, 60, 12))
    weight = np.random.RandomState(0).randint(1, 4, 40)
    weighted = held_out_nats(u[:40], u[40:], False, scale, 1e-6, torch.from_numpy(weight))
    repeated = held_out_nats(u[:40].repeat_interleave(torch.from_numpy(weight), 0), u[40:], False, scale, 1e-6)
    torch.testing.assert_close(weighted, repeated)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic", "gaussian_diag"])
@pytest.mark.parametrize(("d", "n", "p"), [(1, 60, 20), (3, 100, 40), (8, 400, 60), (5, 60, 150)])
def test_auto_finds_a_known_dimension(d, n, p, likelihood):
    """Of linear rows whose least direction stands well over the noise."""
    vae = VAETransformer("auto", max_iter=0, likelihood=likelihood, random_state=0).fit(linear_rows(d, n, p))
    assert vae.n_components_ == d
    assert vae.n_components_scores_.argmax() == d - 1
    assert len(vae.n_components_scores_) == min(64, p - 1, n * 4 // 5 - 2)


def mean_of_described(nats):
    """Of nats by number of components (k, n), without the twentieth of the rows whose highest are the lowest."""
    return nats[:, np.argsort(nats.max(axis=0))[math.ceil(nats.shape[1] / 20) :]].mean(axis=1)


def test_scores_are_a_cross_validation_of_pca():
    """Folds are of blocks of rows, dealt in turn."""
    X = linear_rows(3, 100, 12)
    folds = PredefinedSplit(folds_of(np.arange(100)))
    nats = [np.concatenate([PCA(k).fit(X[a]).score_samples(X[b]) for a, b in folds.split()]) for k in range(1, 12)]
    expected = mean_of_described(np.array(nats))
    np.testing.assert_allclose(VAETransformer("auto", **START).fit(X).n_components_scores_, expected, rtol=1e-5)


@pytest.mark.parametrize(("d", "n", "p"), [(3, 100, 40), (5, 60, 150), (8, 400, 60), (4, 200, 12)])
@pytest.mark.parametrize("far", ["row", "value"])
def test_one_far_row_takes_one_component_and_decides_no_other(d, n, p, far):
    """By a plain mean of nats it takes all others away: these choose 1 or 2."""
    X = linear_rows(d, n, p)
    if far == "row":
        X[7] = 30 * X.std() * np.random.RandomState(1).standard_normal(p)
    else:
        X[7, 3] = 100 * X.std()
    assert VAETransformer("auto", **START).fit(X).n_components_ == d + 1


def test_weights_count_among_the_rows_that_are_left_out():
    nats, weight = np.random.RandomState(0).standard_normal((30, 4)), np.random.RandomState(1).randint(1, 3, 30)
    order = nats.max(axis=1).argsort()
    weight[order[:2]] = 2, 3  # 5 of 89: a twentieth, rounded up
    weight[order[2:]] = 3
    repeated = np.repeat(nats, weight, axis=0)
    np.testing.assert_allclose(trimmed_mean(nats, weight), mean_of_described(repeated.T))
    np.testing.assert_array_equal(trimmed_mean(nats[:1]), nats[0])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_constant_columns_have_no_part_in_the_choice(constant):
    X = linear_rows(3, 100, 12)
    wider = np.hstack([X, np.full((100, 2), constant)])
    vae, alone = (VAETransformer("auto", **START).fit(rows) for rows in (wider, X))
    assert vae.n_components_ == alone.n_components_ == 3
    np.testing.assert_allclose(vae.n_components_scores_, alone.n_components_scores_, rtol=1e-6)


def test_rows_without_variance_have_one_component():
    with pytest.warns(UserWarning, match="collapse in component 0 "):
        assert VAETransformer(0.9, **START).fit(np.ones((20, 4))).n_components_ == 1


def test_no_group_is_cut_and_all_folds_are_used():
    groups = np.repeat(np.arange(37), 3)
    folds = folds_of(groups)
    assert {len(set(folds[groups == group])) for group in range(37)} == {1}
    assert set(folds) == set(range(5))
    assert list(folds_of(np.arange(3))) == [0, 1, 2]


def test_copies_of_a_row_do_not_vouch_for_components():
    """Each of 40 samples has noise of its own, which is the same in its five scans."""
    rng = np.random.RandomState(0)
    scans = np.repeat(linear_rows(2, 40, 100, noise=1.0), 5, axis=0) + 0.01 * rng.standard_normal((200, 100))
    order = rng.permutation(200)
    given = VAETransformer("auto", **START).fit(scans[order], groups=np.repeat(np.arange(40), 5)[order])
    with pytest.warns(UserWarning, match="repeated measurements"):
        found = VAETransformer("auto", hidden_layer_sizes=(8,), max_iter=1, random_state=0).fit(scans[order])
    assert given.n_components_ == found.n_components_ == 2
    apart = VAETransformer("auto", **START).fit(scans[order], groups=np.arange(200))
    assert apart.n_components_ > 20


def test_rows_to_validate_on_decide_where_they_are_given():
    X, X_val = linear_rows(4, 100, 12), linear_rows(4, 60, 12)[40:]
    by_rows = VAETransformer("auto", **small(max_iter=1)).fit(X, X_val=X_val)
    expected = mean_of_described(np.array([PCA(k).fit(X).score_samples(X_val) for k in range(1, 12)]))
    np.testing.assert_allclose(by_rows.n_components_scores_, expected, rtol=1e-5)
    splitter = KFold(4)
    by_splitter = VAETransformer("auto", validation_fraction=splitter, **small(max_iter=1)).fit(X)
    train, test = next(splitter.split(X))
    expected = mean_of_described(np.array([PCA(k).fit(X[train]).score_samples(X[test]) for k in range(1, 12)]))
    np.testing.assert_allclose(by_splitter.n_components_scores_, expected, rtol=1e-5)
    X_val[:, 2] = np.nan
    with pytest.raises(ValueError, match="rows of X_val without NaN, but it has none"):
        VAETransformer("auto", **small(max_iter=1)).fit(X, X_val=X_val)


@pytest.mark.parametrize("n_components", ["auto", 0.9])
def test_rows_with_nan_have_no_part_in_the_choice(n_components):
    X = linear_rows(3, 120, 12)
    X[::3, 4] = np.nan
    vae = VAETransformer(n_components, **START).fit(X)
    complete = VAETransformer(n_components, **START).fit(X[np.isfinite(X).all(axis=1)])
    assert vae.n_components_ == complete.n_components_
    X[:, 4] = np.where(np.arange(120) < 4, X[:, 5], np.nan)
    with pytest.raises(ValueError, match="rows of X without NaN, and takes 5 of them, but there are 4"):
        VAETransformer(n_components, **START).fit(X)


def test_the_number_stays_with_the_model(tmp_path):
    X = linear_rows(3, 100, 12)
    vae = VAETransformer("auto", **small(max_iter=1)).fit(X)
    vae.save(tmp_path / "vae")
    for same in (load(tmp_path / "vae", device="cpu"), vae):
        assert (same.n_components, same.n_components_) == ("auto", 3)
        np.testing.assert_array_equal(same.n_components_scores_, vae.n_components_scores_)
        same.partial_fit(linear_rows(1, 20, 12))
        assert same.n_components_ == 3 == same.transform(X).shape[1]
    again = vae.set_params(warm_start=True).fit(linear_rows(1, 100, 12))
    assert again.n_components_ == 3 and not hasattr(again, "n_components_scores_")
    anew = vae.set_params(warm_start=False, n_components=2).fit(X)
    assert anew.n_components_ == 2 and not hasattr(anew, "n_components_scores_")
    assert VAETransformer("auto", **small()).partial_fit(X).n_components_ == 3
    counted = VAETransformer(np.arange(4)[3], **small(max_iter=1, batch_size=np.int64(16))).fit(X)
    counted.save(tmp_path / "counted")
    assert load(tmp_path / "counted", device="cpu").n_components_ == 3


def test_a_search_trains_candidates_by_the_number_that_each_fold_chooses():
    X = curved_spectra(150)
    grid = {"n_components": ["auto", 0.9, 2], "random_state": [0, 1]}
    search = VAESearchCV(VAETransformer(**small(max_iter=3)), grid, cv=3).fit(X)
    assert search.n_trained_together_ == 18
    for params, score in zip(search.cv_results_["params"], search.cv_results_["split0_test_score"], strict=True):
        train, test = next(KFold(3).split(X))
        alone = VAETransformer(**small(max_iter=3)).set_params(**params).fit(X[train])
        assert score == pytest.approx(alone.score(X[test]), rel=1e-3)


@pytest.mark.parametrize("n_components", [0, -1, 1.0, 1.5, 0.0, "mle", [2]])
def test_what_is_no_number_is_refused(n_components):
    with pytest.raises(ValueError, match="n_components"):
        VAETransformer(n_components, **START).fit(linear_rows(2, 20, 5))
