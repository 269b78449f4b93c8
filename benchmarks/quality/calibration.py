"""How often a held-out spectrum lies within the intervals of `reconstruct`, beside what they promise.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.calibration

Intervals mean ± z std at 50, 90 and 99 %, over all values of held-out rows; Indian Pines is cut to 5,000 pixels. They
are for measuring a sample once more, and real sets have one measurement of it: the very one that the model was shown,
which lies closer to the mean, by the little that a row's own noise moves z. A linear-Gaussian set, where 20,000 rows of
training leave next to no error, has both: there a second measurement should be covered exactly, and the first by what
theory says. Rows are written to --output as they come, and a second run goes on from there.
"""

import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.sets import SPECTRA, load, split
from skvae import VAETransformer

LEVELS = np.array([0.5, 0.9, 0.99])
Z = norm.ppf((1 + LEVELS) / 2)
LIKELIHOODS = ("gaussian_diag", "gaussian_isotropic")
N_ROWS = 5000
SYNTHETIC = "linear-Gaussian"


def covered(mean, std, X):
    """Share of the values within each interval."""
    return [float(np.mean(np.abs(X - mean) < z * std)) for z in Z]


def synthetic(likelihood, rng, p=20, d=4, n=20_000):
    """Training and held-out rows, a second measurement of the latter, and by theory the first one's coverage."""
    loadings = rng.standard_normal((d, p))
    noise = np.ones(p) if likelihood == "gaussian_isotropic" else rng.uniform(0.5, 2.0, p)
    signal = rng.standard_normal((2 * n, d)) @ loadings
    first, second = (signal + np.sqrt(noise) * rng.standard_normal(signal.shape) for _ in range(2))
    # What z given x leaves open widens the interval, and comes off the residual of the x that z was read from.
    spread = np.sum(loadings * np.linalg.solve(np.eye(d) + (loadings / noise) @ loadings.T, loadings), axis=0)
    theory = 2 * norm.cdf(Z[:, None] * np.sqrt((noise + spread) / (noise - spread))).mean(axis=1) - 1
    return first[:n], first[n:], second[n:], theory


def measure(name, likelihood, seed):
    """A dict for each kind of measurement."""
    rng = np.random.default_rng(seed)
    if name == SYNTHETIC:
        train, first, second, theory = synthetic(likelihood, rng)
        tests = {"measured again": (second, LEVELS), "the row itself": (first, theory)}
    else:
        X, _, groups = load(name)
        rows = np.sort(rng.permutation(len(X))[:N_ROWS])
        train, first = split(X[rows], groups[rows], seed)
        tests = {"the row itself": (first, LEVELS)}
    start = time.perf_counter()
    model = VAETransformer(4, likelihood=likelihood, random_state=seed).fit(train)
    mean, std = model.reconstruct(first, return_std=True)
    seconds = time.perf_counter() - start
    shape = f"{len(train) + len(first)} x {train.shape[1]}"
    about = dict(data=name, likelihood=likelihood, seed=seed, shape=shape, seconds=seconds)
    return [
        dict(**about, kind=kind, coverage=covered(mean, std, X), expected=list(expected))
        for kind, (X, expected) in tests.items()
    ]


def table(rows):
    """Markdown: a line for each set, likelihood and kind of measurement."""
    heads = ["data (rows x channels)", "likelihood", "measurement", "promised, %", "50 %", "90 %", "99 %", "s"]
    lines = [heading(*heads)]
    for (data, likelihood, kind), part in pd.DataFrame(rows).groupby(["data", "likelihood", "kind"], sort=False):
        coverage = 100 * np.array(part["coverage"].to_list())
        expected = 100 * np.mean(part["expected"].to_list(), axis=0)
        promised = ", ".join(f"{share:.1f}" if share % 1 else f"{share:.0f}" for share in expected)
        cells = [f"{data} ({part['shape'].iloc[0]})", likelihood, kind, promised, *map(spread, coverage.T)]
        lines.append(line(*cells, f"{part['seconds'].median():.1f}"))
    return "\n".join(lines)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("calibration.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = list(product((SYNTHETIC, *SPECTRA), LIKELIHOODS, range(args.seeds)))
    print(table(recorded(args.output, ("data", "likelihood", "seed"), tasks, measure)))


if __name__ == "__main__":
    main()
