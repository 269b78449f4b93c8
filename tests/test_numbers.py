"""Numbers that cannot break: of any X, what comes out is finite, or a ValueError says what is wrong."""

import os
import re
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skvae import VAETransformer
from skvae.posteriors import POSTERIORS

from .conftest import PLAIN_LIKELIHOODS, curved_spectra, small, takes

CONTENTS = {
    "normal": lambda rng, n, p: rng.standard_normal((n, p)),
    "low rank": lambda rng, n, p: rng.standard_normal((n, 2)) @ rng.standard_normal((2, p)),
    "Cauchy": lambda rng, n, p: rng.standard_cauchy((n, p)),
    "outlier": lambda rng, n, p: np.where(np.arange(n * p).reshape(n, p) == n * p // 2, 1e12, rng.normal(size=(n, p))),
    "mostly 0": lambda rng, n, p: rng.standard_normal((n, p)) * (rng.uniform(size=(n, p)) < 0.1),
    "lognormal": lambda rng, n, p: np.exp(10 * rng.standard_normal((n, p))),
    "constant": lambda rng, n, p: np.tile(rng.standard_normal(p), (n, 1)),
    "some constant": lambda rng, n, p: np.where(np.arange(p) % 2, 7.0, rng.standard_normal((n, p))),
    "duplicated columns": lambda rng, n, p: rng.standard_normal((n, p))[:, np.arange(p) // 2],
    "duplicated rows": lambda rng, n, p: rng.standard_normal((n, p))[np.arange(n) // 3],
}
WEIGHTS = {
    "none": lambda rng, n: None,
    "counts": lambda rng, n: rng.randint(0, 3, n).astype(float),
    "far apart": lambda rng, n: 10.0 ** rng.uniform(-100, 100, n),
    "large": lambda rng, n: np.full(n, 1e100),
}
FAR = st.sampled_from([-30, -3, 0, 3, 8, 15, 30, 60, 120])
EXPONENTS = st.just(0) | st.integers(-30, 30) | st.integers(-150, 150) | st.sampled_from([-300, 300])
OF_FEATURES = {
    *("inverse_transform", "loadings", "reconstruct", "impute", "sample", "get_covariance"),
    *("mean_", "components_", "noise_variance_"),
}
NAMED = r"\bX\b|sample_weight|Sample weights|minimum of 2"  # the last two are scikit-learn's


def placed(X, likelihood, dtype):
    """X in the support of the likelihood and in the range of the dtype."""
    if not takes(likelihood, np.array([-1.0, 0.5])):
        X = np.abs(X) / (np.abs(X).max() or 1)
        X = np.round(20 * X) if likelihood == "poisson" else X
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return np.clip(X, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    return np.clip(X, *((0, 1) if dtype.kind == "b" else (-(2.0**62), 2.0**62))).astype(dtype)


def far(X, likelihood, exponent):
    """Rows like X, 10 ** exponent times as large, in the support."""
    with np.errstate(over="ignore"):
        return placed(X.astype(np.float64) * 10.0**exponent, likelihood, X.dtype)


@st.composite
def tables(draw, likelihood, dtypes=("f8", "f4", "i8", "?")):
    """Rows of any shape, scale and content, with NaN, or integers."""
    rng = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    n, p = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    with np.errstate(over="ignore"):
        X = CONTENTS[draw(st.sampled_from(list(CONTENTS)))](rng, n, p)
        X = X + draw(st.sampled_from([0, 0, 1, 1e8, 1e17])) * rng.standard_normal(p)
        X = X * 10.0 ** (draw(st.sampled_from([0, 0, 3, 30, 150])) * rng.uniform(-1, 1, p))
        X = placed(np.nan_to_num(X * 10.0 ** draw(EXPONENTS)), likelihood, draw(st.sampled_from(dtypes)))
    if X.dtype.kind == "f":
        X[rng.uniform(size=X.shape) < draw(st.sampled_from([0, 0, 0.05, 0.3, 0.6]))] = np.nan
    return X


@st.composite
def models(draw, likelihood, rates=(1e-3, 1e-2)):
    return VAETransformer(
        draw(st.integers(1, 16)),
        likelihood=likelihood,
        **small(
            posterior=draw(st.sampled_from(list(POSTERIORS))),
            init=draw(st.sampled_from(["linear", "linear", "random"])),
            hidden_layer_sizes=draw(st.sampled_from([(8,), ()])),
            learning_rate_init=draw(st.sampled_from(rates)),
            max_iter=draw(st.integers(0, 2)),
            n_importance_samples=2,
        ),
    )


def outputs(vae, X, weight=None):
    """Every public output for the rows X, by its name."""
    z = vae.transform(X)
    yield "inverse_transform", vae.inverse_transform(z)
    yield "score", vae.score(X, sample_weight=weight)
    for name in ("score_samples", "posterior_covariance", "loadings", "hotelling_t2", "q_residuals", "reconstruct"):
        yield name, getattr(vae, name)(X)
    for name in ("reconstruct", "impute"):
        yield name, np.stack(getattr(vae, name)(X, return_std=True, n_draws=8))
    yield "q_residuals_limit of X", vae.q_residuals_limit(X=X)


def properties(vae, diverged=False):
    """Every public number of a fitted model, by its name; of the history, what went before training diverged."""
    yield "sample", vae.sample(3, random_state=0)
    yield "q_residuals_limit", vae.q_residuals_limit()
    yield "hotelling_t2_limit", 1 / vae.hotelling_t2_limit()  # which may be infinite
    if vae.mean_.dtype == np.float64 or np.abs(vae.mean_).max() < 1e15:
        yield "get_covariance", vae.get_covariance(n_draws=50)
    for name, value in vars(vae).items():
        if name.endswith("_") and isinstance(value, np.ndarray | float | int):
            yield name, value
    for row in vae.history_[: 1 if diverged else None]:
        yield from ((name, value) for name, value in row.items() if name != "batches")


def assert_finite(vae, pairs):
    """All numbers are finite but those of columns that the model does not know, as no value of theirs was measured."""
    known = np.isfinite(vae.mean_)
    for name, value in pairs:
        if name == "get_covariance":
            value = value[known]
        of_known = value[..., known] if name in OF_FEATURES and np.ndim(value) else value
        assert np.isfinite(of_known).all(), name


@contextmanager
def or_refused():
    """Take a ValueError that names what is wrong, a UserWarning that says what is odd about X, and nothing else.

    Yields an object with the attributes `refused` and `diverged`.
    """
    seen = SimpleNamespace(refused=False, diverged=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", UserWarning)
        try:
            yield seen
        except ValueError as error:
            assert re.search(NAMED, str(error)), error
            seen.refused = True
    seen.diverged = any("diverged" in str(warning.message) for warning in caught)


def hunt(max_examples):
    """The same examples each time; HUNT=100 in the environment: 100 times as many, others each time."""
    times = int(os.environ.get("HUNT", "1"))
    return settings(max_examples=times * max_examples, derandomize=times == 1, deadline=None, database=None)


@pytest.mark.parametrize("likelihood", PLAIN_LIKELIHOODS)
@hunt(60)
@given(data=st.data())
def test_what_comes_out_is_finite_or_x_is_refused(likelihood, data):
    """Rows of weight 0 may lie anywhere, and so far from others that networks alone, as init="random", overflow."""
    X, vae = data.draw(tables(likelihood)), data.draw(models(likelihood))
    weight = WEIGHTS[data.draw(st.sampled_from(list(WEIGHTS)))](np.random.RandomState(0), len(X))
    before = X.copy()
    with or_refused() as fit:
        vae.fit(X, sample_weight=weight)
    if not fit.refused:
        with or_refused() as out:
            assert_finite(vae, outputs(vae, X, weight))
        assert not out.refused or weight is not None or vae.init == "random"
        assert_finite(vae, properties(vae, fit.diverged))
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("likelihood", [name for name in PLAIN_LIKELIHOODS if takes(name, np.array([-1.0, 0.5]))])
@hunt(60)
@given(data=st.data())
def test_rows_far_away_and_rows_with_other_gaps(likelihood, data):
    X, vae = data.draw(tables(likelihood, ("f8", "f4"))), data.draw(models(likelihood))
    rows = far(X, likelihood, data.draw(FAR))
    rows[np.random.RandomState(0).uniform(size=X.shape) < data.draw(st.sampled_from([0, 0.4]))] = np.nan
    with or_refused():
        assert_finite(vae, outputs(vae.fit(X), rows))


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
@hunt(60)
@given(data=st.data())
def test_going_on_with_other_rows(way, data):
    likelihood = data.draw(st.sampled_from(PLAIN_LIKELIHOODS))
    X, vae = data.draw(tables(likelihood, ("f8", "f4"))), data.draw(models(likelihood, rates=(1e-2, 10.0)))
    rows = far(X, likelihood, data.draw(FAR))
    train = vae.partial_fit if way == "partial_fit" else vae.set_params(warm_start=True).fit
    with or_refused() as first:
        train(X)
    if not first.refused:
        with or_refused() as second:
            train(rows)
        assert_finite(vae, properties(vae, first.diverged or second.diverged))
        with or_refused():
            assert_finite(vae, outputs(vae, rows))


@pytest.mark.parametrize("likelihood", PLAIN_LIKELIHOODS)
@pytest.mark.parametrize("rate", [10.0, 1e3])
@pytest.mark.parametrize("init", ["linear", "random"])
def test_steps_that_are_far_too_large_leave_finite_numbers(likelihood, rate, init):
    X = placed(curved_spectra(60, n_channels=10), likelihood, np.float64)
    X[5:20, 2:5] = np.nan
    for posterior in POSTERIORS:
        params = small(learning_rate_init=rate, init=init, posterior=posterior, n_importance_samples=2)
        with or_refused() as fit:
            vae = VAETransformer(3, likelihood=likelihood, **params).fit(X)
        assert not fit.refused
        with or_refused() as out:
            assert_finite(vae, outputs(vae, X))
        assert not out.refused
        assert_finite(vae, properties(vae, fit.diverged))


def spread_out(n=30, p=6):
    return np.random.RandomState(0).standard_normal((n, p))


REFUSED = {
    "1e150": ("gaussian", 1e150 * spread_out(), "too large"),
    "float32 near its end": ("gaussian", np.float32(3e38) * np.sign(spread_out()).astype(np.float32), "too large"),
    "noise of variance 1 beside 1e6": ("gaussian_unit", 1e6 * spread_out(), "gaussian_unit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_numbers_out_of_range_are_refused(case):
    likelihood, X, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        VAETransformer(2, likelihood=likelihood, **small()).fit(X)


TAKEN = {
    "1e90": ("gaussian", 1e90 * spread_out()),
    "1e-90": ("gaussian", 1e-90 * spread_out()),
    "float32, 1e35": ("gaussian", (1e35 * spread_out()).astype(np.float32)),
    "float32, subnormal": ("gaussian", (1e-40 * spread_out()).astype(np.float32)),
    "columns 1e60 apart": ("gaussian", spread_out() * 10.0 ** np.linspace(-30, 30, 6)),
    "columns 1e60 apart, isotropic noise": ("gaussian_isotropic", spread_out() * 10.0 ** np.linspace(-30, 30, 6)),
    "noise of variance 1 beside 1e-30": ("gaussian_unit", 1e-30 * spread_out()),
    "a large constant beside small columns": (
        "gaussian",
        np.column_stack([np.full(30, 1e20 / 3), 1e-20 * spread_out()]),
    ),
    "float32 columns of 0 and 1": ("continuous_bernoulli", np.tile(np.float32([0, 0.5, 1]), (30, 1))),
}


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("case", TAKEN)
def test_numbers_in_range_are_taken(case, gaps):
    likelihood, X = TAKEN[case]
    X = X.copy()
    X[3:9, 1] = np.nan if gaps else X[3:9, 1]
    vae = VAETransformer(2, likelihood=likelihood, **small()).fit(X)
    assert_finite(vae, outputs(vae, X))
    if case != "float32, 1e35":
        assert_finite(vae, properties(vae))
    else:
        with pytest.raises(ValueError, match="range of float32"):
            vae.get_covariance()


def test_scale_is_the_only_thing_that_scales():
    """Of X times c the same model comes out, but for rounding, however large or small c: 2^k changes no rounding."""
    X = curved_spectra(60, n_channels=10)
    plain, *others = (VAETransformer(2, **small()).fit(X * 2.0**k) for k in (0, -300, -100, 100, 300))
    for k, vae in zip((-300, -100, 100, 300), others, strict=True):
        np.testing.assert_array_equal(vae.transform(X * 2.0**k), plain.transform(X))
        assert vae.q_residuals_limit() == pytest.approx(plain.q_residuals_limit() * 2.0 ** (2 * k), rel=1e-9)
        assert vae.hotelling_t2_limit() == plain.hotelling_t2_limit()
        assert vae.score(X * 2.0**k) == pytest.approx(plain.score(X) - 10 * k * np.log(2), rel=1e-12)


def test_weights_that_rounding_loses_count_as_none():
    X, weight = curved_spectra(60, n_channels=10), np.ones(60)
    weight[50:] = 1e-30
    some = VAETransformer(2, **small(max_iter=2)).fit(X, sample_weight=weight)
    alone = VAETransformer(2, **small(max_iter=2)).fit(X[:50])
    np.testing.assert_array_equal(some.transform(X), alone.transform(X))
