"""Validation rows are a test: near-copies, such as scans of one sample, are found and never cut apart."""

import numpy as np
import pytest
import torch

from skvae import VAETransformer
from skvae._training.validation import blocked_validation_split, near_copies

from ..conftest import small

AXIS = np.linspace(0, 1, 80)


def standardised(X):
    return torch.from_numpy((X - X.mean(0)) / X.std(0))


def without_copies(kind, seed):
    """Rows of which none is a copy."""
    rng = np.random.RandomState(seed)
    place, noise = rng.uniform(size=(150, 2)), 10.0 ** (-1 - seed / 2) * rng.standard_normal((150, 80))
    if kind == "of independent samples":
        return rng.standard_normal((150, seed + 1)) @ rng.standard_normal((seed + 1, 80)) + 10 * noise
    if kind == "along a sorted line":
        return np.exp(-((AXIS - np.sort(place[:, :1], axis=0)) ** 2) / 0.05) + noise
    if kind == "on a curved plane":
        return np.exp(-((AXIS - place[:, :1]) ** 2) / 0.05) * (1 + place[:, 1:]) + noise
    if kind == "of sorted classes":
        return rng.standard_normal((3, 80))[np.repeat([0, 1, 2], 50)] + 0.1 * rng.standard_normal((150, 80))
    return np.cumsum(rng.standard_normal((150, 80)), axis=0)


KINDS = ["of independent samples", "along a sorted line", "on a curved plane", "of sorted classes", "that drift"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_false_alarm_without_copies(kind):
    assert all(near_copies(standardised(without_copies(kind, seed))) is None for seed in range(6))


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


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("scan_noise", [0.0, 0.0005, 0.001])
@pytest.mark.parametrize("n_samples, n_scans", [(20, 5), (60, 5), (100, 3), (25, 3), (54, 3)])
def test_scans_of_a_sample_are_a_group(n_samples, n_scans, scan_noise, shuffled):
    X, samples, _, _ = scans(n_samples, n_scans, scan_noise, shuffled)
    groups = near_copies(standardised(X))
    pairs = {(sample, group) for sample, group in zip(samples, groups, strict=True)}
    assert len(pairs) == groups.max() + 1  # no group has rows of two samples
    assert n_samples <= len(pairs) <= 1.05 * n_samples


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.95])
def test_groups_are_never_cut(fraction):
    _, samples, _, _ = scans(30, 4, 0.0, shuffled=True)
    groups = np.unique(samples, return_inverse=True)[1]
    order, n_training = blocked_validation_split(len(samples), fraction, seed=0, groups=groups)
    assert sorted(order) == list(range(len(samples))) and 0 < n_training < len(samples)
    assert not set(groups[order[:n_training]]) & set(groups[order[n_training:]])


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


def test_rows_with_nan_and_counts_are_split_as_before():
    X, _, _, _ = scans(30, 3, 0.0, shuffled=True)
    X[0, 0] = np.nan
    assert VAETransformer(2, **small(max_iter=2)).fit(X).n_iter_ == 2
