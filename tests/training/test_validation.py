"""Validation rows are a test: near-copies, such as scans of one sample, are found and never cut apart."""

import numpy as np
import pytest
import torch

from skvae import VAETransformer
from skvae._training.validation import held_out_blocks, near_copies

from ..conftest import small

AXIS = np.linspace(0, 1, 80)


def standardised(X):
    scale = np.nanstd(X, axis=0)
    return torch.from_numpy((X - np.nanmean(X, axis=0)) / np.where(scale > 0, scale, 1))


def low_rank(rng, n, p, rank):
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))


def bumps(place):
    return np.exp(-((AXIS - place) ** 2) / 0.05)


# Rows of which none is a copy, by a generator, a scale of the noise, and a seed
WITHOUT_COPIES = {
    "independent": lambda rng, noise, seed: low_rank(rng, 150, 80, seed + 1) + 10 * noise,
    "along a sorted line": lambda rng, noise, seed: bumps(np.sort(rng.uniform(size=(150, 1)), axis=0)) + noise,
    "on a curved plane": lambda rng, noise, seed: bumps(rng.uniform(size=(150, 1))) * rng.uniform(1, 2, (150, 1)),
    "sorted classes": lambda rng, noise, seed: rng.standard_normal((3, 80))[np.arange(150) // 50] + 10 * noise,
    "drifting": lambda rng, noise, seed: np.cumsum(rng.standard_normal((150, 80)), axis=0),
    "few channels": lambda rng, noise, seed: rng.standard_normal((20 + 100 * seed, 1 + seed % 3)),
    "whole numbers": lambda rng, noise, seed: rng.randint(0, 2 + seed, (20 + 100 * seed, 1 + seed % 3)).astype(float),
    "counts": lambda rng, noise, seed: rng.poisson(1 + seed, (150, 20)).astype(float),
    "mostly zero": lambda rng, noise, seed: (rng.uniform(size=(150, 5 + seed)) < 0.1).astype(float),
    "heavy-tailed": lambda rng, noise, seed: rng.standard_cauchy((150, 5)),
    "all equal": lambda rng, noise, seed: np.ones((150, 5)),
    "hardly measured": lambda rng, noise, seed: np.where(rng.uniform(size=(150, 80)) < 0.9, np.nan, noise),
}


@pytest.mark.parametrize("kind", WITHOUT_COPIES)
def test_no_false_alarm_without_copies(kind):
    """Over twelve kinds and six seeds. By the test's level, far fewer than one in a hundred rows has copies."""
    for seed in range(6):
        rng = np.random.RandomState(seed)
        noise = 10.0 ** (-1 - seed / 2) * rng.standard_normal((150, 80))
        X = WITHOUT_COPIES[kind](rng, noise, seed)
        assert near_copies(standardised(X)) is None


def scans(n_samples, n_scans, scan_noise, shuffled, seed=0):
    """Bands of four heights, with a scatter of 0.005 of each sample's own: training rows, their samples, new rows."""
    rng = np.random.RandomState(seed)
    bands = np.exp(-0.5 * ((AXIS - np.array([0.2, 0.4, 0.6, 0.8])[:, None]) / 0.08) ** 2)
    n = n_samples + 300
    spectra = 1 + 0.3 * rng.standard_normal((n, 4)) @ bands + 0.005 * rng.standard_normal((n, 80))
    samples = np.repeat(np.arange(n_samples), n_scans)
    X = spectra[samples] + scan_noise * rng.standard_normal((len(samples), 80))
    new = spectra[n_samples:] + scan_noise * rng.standard_normal((300, 80))
    order = rng.permutation(len(X)) if shuffled else np.arange(len(X))
    return X[order], samples[order], new, spectra[:n_samples] + scan_noise * rng.standard_normal((n_samples, 80))


def together(X, samples):
    """Share of the pairs of one sample that are in one group, and of the rows that are with another sample's."""
    groups = near_copies(standardised(X))
    same, grouped = samples[:, None] == samples, groups[:, None] == groups
    return (same & grouped).sum() / same.sum(), (grouped & ~same).any(1).mean()


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("scan_noise", [0.0, 0.0005, 0.001])
@pytest.mark.parametrize("n_samples, n_scans", [(20, 5), (60, 5), (100, 3), (25, 3), (54, 3), (700, 3)])
def test_scans_of_a_sample_are_a_group(n_samples, n_scans, scan_noise, shuffled):
    X, samples, _, _ = scans(n_samples, n_scans, scan_noise, shuffled)
    found, mixed = together(X, samples)
    assert found > 0.98 and mixed < 0.05


@pytest.mark.parametrize("n_samples, n_scans", [(20, 5), (60, 5), (100, 3), (25, 3), (54, 3)])
def test_most_scans_are_found_where_they_scatter_as_samples_do(n_samples, n_scans):
    X, samples, _, _ = scans(n_samples, n_scans, 0.005, shuffled=True)
    found, mixed = together(X, samples)
    assert found > 0.85 and mixed < 0.1


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.95])
def test_groups_are_never_cut(fraction):
    _, samples, _, _ = scans(30, 4, 0.0, shuffled=True)
    groups = np.unique(samples, return_inverse=True)[1]
    held_out = held_out_blocks(len(samples), fraction, seed=0, groups=groups)
    assert len(np.unique(held_out)) == len(held_out) and 0 < len(held_out) < len(samples)
    assert not set(groups[held_out]) & set(np.delete(groups, held_out))


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_isotropic", "gaussian_diag"])
@pytest.mark.parametrize("n_samples, n_scans", [(20, 5), (60, 5), (100, 3)])
def test_shuffled_scans_do_no_harm(n_samples, n_scans, likelihood):
    """Within 5 nats of one scan per sample and of the model's own start, and few new rows over Q's 95 % limit."""
    X, _, new, once = scans(n_samples, n_scans, 0.001, shuffled=True)
    settings = {"likelihood": likelihood, "random_state": 0}
    with pytest.warns(UserWarning, match=f"{n_samples} groups of copies"):
        vae = VAETransformer(4, **settings).fit(X)
    start = VAETransformer(4, max_iter=0, **settings).fit(X)
    single = VAETransformer(4, **settings).fit(once)
    assert vae.score(new) > max(single.score(new), start.score(new)) - 5
    assert (vae.q_residuals(new) > vae.q_residuals_limit(0.95)).mean() < 0.2


@pytest.mark.parametrize("scan_noise", [0.0, 0.001, 0.005])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("n_samples, n_scans", [(60, 5), (100, 3)])
def test_limits_hold_for_new_samples(n_samples, n_scans, scan_noise, shuffled):
    """Of 300 new rows between 1.5 and 10 % lie over each limit at 95 %. The standard error of a share is 1.3 %."""
    X, samples, new, _ = scans(n_samples, n_scans, scan_noise, shuffled)
    vae = VAETransformer(4, random_state=0).fit(X, groups=samples)
    start = VAETransformer(4, max_iter=0).fit(X)
    for alarms in (vae.q_residuals(new) > vae.q_residuals_limit(), vae.hotelling_t2(new) > vae.hotelling_t2_limit()):
        assert 0.015 < alarms.mean() < 0.1
    assert vae.score(new) > start.score(new) - 1


def test_scans_with_gaps_and_any_likelihood_are_found():
    X, samples, _, _ = scans(30, 3, 0.0, shuffled=True)
    X[samples % 2 == 0, :20] = np.nan
    with pytest.warns(UserWarning, match="groups of copies"):
        VAETransformer(2, **small(max_iter=2)).fit(X)
    counts = np.random.RandomState(0).poisson(50, (30, 20))[samples]
    with pytest.warns(UserWarning, match="30 groups of copies"):
        VAETransformer(2, likelihood="poisson", **small(max_iter=2)).fit(counts)


def test_few_rows_are_held_out_in_one_block():
    held_out = held_out_blocks(40, 0.1, seed=0)
    assert (np.diff(held_out) == 1).all() and len(held_out) == 4
