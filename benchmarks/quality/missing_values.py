"""Filling in what was not measured, in real spectra: RMSE beside competitors, and whether the VAE's intervals hold.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.missing_values

At most 600 rows and 100 channels of each set, evenly thinned, so that every competitor is feasible; thinning takes
close neighbours away, which is hard on interpolation. A quarter of the rows (soil: of the sites) is held out. Columns
are standardised by the training rows: RMSE over the missing values of held-out rows is in standard deviations of their
channel, and all ways see the same. IterativeImputer and iterative PCA fill training and held-out rows at once, in
their favour. Seconds are of fit and filling, where training rows are complete of all three patterns together.
"""

import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line
from benchmarks.common.records import recorded
from benchmarks.common.sets import load, split
from skvae import VAETransformer

SETS = ("SSP.460", "SP.231", "NRW.115", "H.138", "coffee", "soil")
Z = norm.ppf((0.75, 0.95, 0.995))
SHARES = {"10 % at random": 0.1, "30 % at random": 0.3, "a block of channels": None}


def iterative_pca(rows, d, tol=1e-5, max_iter=5000):
    """Fill, take d components, refill; singular values shrunk by the noise (Josse and Husson, missMDA, 2016)."""
    missing, (n, p) = np.isnan(rows), rows.shape
    filled, change, steps = np.where(missing, np.nanmean(rows, axis=0), rows), np.inf, 0
    while change > tol and steps < max_iter:
        mean = filled.mean(axis=0)
        values, vectors = np.linalg.eigh((filled - mean).T @ (filled - mean))
        shrink = np.maximum(1 - values[:-d].sum() / (min(n - 1, p) - d) / values[-d:], 0)
        fitted = mean + (filled - mean) @ (vectors[:, -d:] * shrink) @ vectors[:, -d:].T
        change, steps = np.abs(fitted - filled)[missing].max(), steps + 1
        filled = np.where(missing, fitted, rows)
    return filled


def iterative_imputer(rows, seed):  # where a block lacks, 10 rounds are too few, and without bounds it may diverge
    limits = dict(min_value=np.nanmin(rows, axis=0), max_value=np.nanmax(rows, axis=0), max_iter=40, tol=1e-4)
    return IterativeImputer(n_nearest_features=20, random_state=seed, **limits).fit_transform(rows)


def together(function):
    """A way to fill that sees training and held-out rows at once."""
    return lambda train, tests, seed: [(function(np.vstack([train, test]), seed)[len(train) :],) for test in tests]


def apart(imputer):
    return lambda train, tests, seed: [(imputer.fit(train).transform(test),) for test in tests]


def vae(d, likelihood, **params):
    def fill(train, tests, seed):
        model = VAETransformer(d, likelihood=likelihood, random_state=seed, **params).fit(train)
        return [model.impute(test, return_std=True) for test in tests]

    return fill


# Label -> function (training rows, several versions of the held-out rows, seed) -> rows filled, and std, of each
WAYS = {
    "column means": apart(SimpleImputer()),
    "linear interpolation": together(lambda rows, _: pd.DataFrame(rows).interpolate(axis=1).bfill(axis=1).to_numpy()),
    "KNNImputer": apart(KNNImputer(n_neighbors=5, weights="distance")),
    "IterativeImputer": together(iterative_imputer),
}
for d in (4, 8, 16):
    WAYS[f"iterative PCA, {d}"] = together(lambda rows, seed, d=d: iterative_pca(rows, d))
    WAYS[f"probabilistic PCA (start), {d}"] = vae(d, "gaussian_isotropic", max_iter=0)
    WAYS[f"VAE, gaussian_isotropic, {d}"] = vae(d, "gaussian_isotropic")
    WAYS[f"factor analysis (start), {d}"] = vae(d, "gaussian_diag", max_iter=0)
    WAYS[f"VAE, gaussian_diag, {d}"] = vae(d, "gaussian_diag")


def rows_of(name, seed):
    """Training and held-out rows, standardised by the former."""
    X, _, groups = load(name)
    rows = np.sort(np.random.default_rng(0).permutation(len(X))[:600])
    train, test = split(X[rows][:, :: -(-X.shape[1] // 100)], groups[rows], seed)
    return [(part - train.mean(axis=0)) / train.std(axis=0) for part in (train, test)]


def gaps(share, X, rng, block, rows_with_block=1.0):
    """X with NaN in a share of its values, or in a block of channels of some rows."""
    at_random, some = rng.random(X.shape), rng.permutation(len(X)) < rows_with_block * len(X)
    return np.where(some[:, None] & block if share is None else at_random < share, np.nan, X)


def measure(trained_on, name, label, seed):
    """A dict for each pattern of gaps."""
    found = []
    (train, test), rng = rows_of(name, seed), np.random.default_rng(seed)
    block = np.roll(np.arange(p := train.shape[1]) < p // 4, rng.integers(p - p // 4 + 1))
    tests = {pattern: gaps(share, test, rng, block) for pattern, share in SHARES.items()}
    trains = {pattern: gaps(share, train, rng, block, 0.5) for pattern, share in SHARES.items()}
    jobs = [(train, list(SHARES))] if trained_on == "complete" else [(trains[one], [one]) for one in SHARES]
    for rows, patterns in jobs:
        start = time.perf_counter()
        results = WAYS[label](rows, [tests[pattern] for pattern in patterns], seed)
        about = dict(trained_on=trained_on, data=name, model=label, seed=seed, seconds=time.perf_counter() - start)
        for pattern, (filled, *std) in zip(patterns, results, strict=True):
            missing = np.isnan(tests[pattern])
            error = np.abs(filled - test)[missing]
            cover = [np.mean(error < z * s[missing]) for s in std for z in Z]
            found.append(dict(**about, pattern=pattern, rmse=np.sqrt(np.mean(error**2)), cover=cover))
    return found


def summary(rows):
    """Markdown: of each way the geometric mean over sets of the RMSE that the splits have in the mean."""
    table = pd.DataFrame(rows).groupby(["trained_on", "pattern", "model", "data"], sort=False)["rmse"].mean()
    table = np.exp(np.log(table).groupby(level=[0, 1, 2], sort=False).mean()).unstack("model").T.loc[list(WAYS)]
    lines = [heading(f"RMSE, mean of {len(SETS)} sets", *(f"{trained_on}: {pattern}" for trained_on, pattern in table))]
    for model, values in table.iterrows():
        lines.append(line(model, *(f"{value:.3f}" for value in values)))
    return "\n".join(lines)


def tables(rows):
    """Markdown, mean ± standard deviation over splits."""
    lines = []
    for (trained_on, pattern), part in pd.DataFrame(rows).groupby(["trained_on", "pattern"], sort=False):
        cells = part.groupby(["data", "model"])["rmse"]
        mean, spread, sets = cells.mean().round(3), cells.std(ddof=0), part["data"].unique()
        lines += [f"\nTrained on {trained_on} rows, missing: {pattern}\n"]
        lines.append(heading("model", *sets, "50, 90, 99 % cover", "s"))
        for model, group in part.groupby("model", sort=False):
            bold = ["**" if mean[s, model] == mean[s].min() else "" for s in sets]
            cells = [f"{b}{mean[s, model]:.3f}{b} ± {spread[s, model]:.3f}" for s, b in zip(sets, bold, strict=True)]
            cover = ", ".join(f"{100 * level:.0f}" for level in np.mean(list(group["cover"]), axis=0))
            lines.append(line(model, *cells, cover, f"{group['seconds'].median():.1f}"))
    return "\n".join(lines)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("missing_values.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = list(product(("complete", "gappy"), SETS, WAYS, range(args.seeds)))
    rows = recorded(args.output, ("trained_on", "data", "model", "seed"), tasks, measure)
    print(tables(rows), summary(rows), sep="\n\n")


if __name__ == "__main__":
    main()
