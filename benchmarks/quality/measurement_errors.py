"""How near do models come to the rows under noisy measurements whose errors are known?

    OMP_NUM_THREADS=1 python -m benchmarks.quality.measurement_errors

Rows get errors whose standard deviations vary by a factor of 30 between rows and of 30 between channels. The models are
fitted to one half of them, and asked for the rows under the other half: curved synthetic spectra, which are known, and
measured ones, which count as free of error. Data sets of air pollutants come with the errors of their values; there a
tenth of the values of held-out days is hidden, and the others are to tell them. wpca 0.1 is called by the names that
scikit-learn and scipy have for its arguments today; its weights are 1 / error. A second run goes on from what --output
holds.
"""

import time
import warnings
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy import linalg
from scipy.stats import norm
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.utils import check_array

from benchmarks.common.arguments import parser_of
from benchmarks.common.loaders import air_with_errors
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.sets import load, split
from skvae import VAETransformer

N_CHANNELS, N_ROWS = 150, 800
RANGE = 30**0.5  # of errors about their middle, between rows and between channels
MIDDLE = 0.2  # standard deviations of the spectra
SPECTRA, AIR = ("curved", "coffee", "SSP.460", "soil"), ("BatonRouge", "StLouis", "Baltimore")
LEVELS = (0.5, 0.9, 0.99)


def curved(n, seed):
    """Two bands of free height, one of which shifts: a surface of three dimensions that is far from a plane."""
    rng, axis = np.random.default_rng(seed), np.linspace(0, 1, 100)
    height, other, centre = rng.uniform([[0.5], [0.5], [0.3]], [[1.5], [1.5], [0.7]], (n, 3, 1)).transpose(1, 0, 2)
    return height * np.exp(-((axis - centre) ** 2) / 0.02) + other * np.exp(-((axis - 0.85) ** 2) / 0.01)


def rows_of(name, seed):
    """Training and test rows without error, with it, and the standard deviations of it; NaN where a value is hidden."""
    rng = np.random.default_rng(seed)
    if name in AIR:
        X, std, groups = air_with_errors(name)
        held_out = np.isin(groups, rng.permutation(np.unique(groups))[: len(np.unique(groups)) // 4])
        true, errors = (X[~held_out], X[held_out]), (std[~held_out], std[held_out])
        hidden = rng.random(true[1].shape) < 0.1
        return true, (true[0], np.where(hidden, np.nan, true[1])), errors
    if name == "curved":
        true = curved(500, 2 * seed), curved(500, 2 * seed + 1)
    else:
        X, _, groups = load(name)
        step = -(-len(X) // N_ROWS)
        true = split(X[::step, :: -(-X.shape[1] // N_CHANNELS)], groups[::step], seed)
    middle = MIDDLE * np.sqrt(true[0].var(axis=0).mean())
    of_channels = RANGE ** rng.uniform(-1, 1, true[0].shape[1])
    errors = [middle * of_channels * RANGE ** rng.uniform(-1, 1, (len(rows), 1)) for rows in true]
    return true, [rows + std * rng.standard_normal(rows.shape) for rows, std in zip(true, errors, strict=True)], errors


class Linear:
    """PCA or factor analysis, which know of no errors: the reconstruction of each row, its gaps filled by the mean."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, std):
        self.model.fit(X)
        return self

    def reconstruct(self, X, std):
        z = self.model.transform(np.where(np.isnan(X), self.model.mean_, X))
        return self.model.mean_ + z @ self.model.components_, None


class Weighted:
    """One of wpca's models."""

    def __init__(self, name, n_components):
        import wpca
        import wpca.utils

        def checked(X, force_all_finite=True, **options):
            return check_array(X, ensure_all_finite=force_all_finite, **options)

        wpca.utils.check_array = checked
        wpca.wpca.linalg = SimpleNamespace(eigh=lambda C, eigvals: linalg.eigh(C, subset_by_index=eigvals))
        self.model = getattr(wpca, name)(n_components)

    def fit(self, X, std):
        self.model.fit(X, weights=1 / std)
        return self

    def reconstruct(self, X, std):
        return self.model.reconstruct(X, weights=np.where(np.isnan(X), 0, 1 / std)), None


class VAE:
    """Ours, told of the errors or not."""

    def __init__(self, n_components, seed, knows=True, **options):
        self.model, self.knows = VAETransformer(n_components, random_state=seed, **options), knows

    def fit(self, X, std):
        self.model.fit(X, X_std=std if self.knows else None)
        return self

    def reconstruct(self, X, std):
        return self.model.reconstruct(X, return_std=True, X_std=std if self.knows else None)


WAYS = {
    "PCA": lambda d, seed: Linear(PCA(d)),
    "FactorAnalysis": lambda d, seed: Linear(FactorAnalysis(d)),
    "wpca's EMPCA": lambda d, seed: Weighted("EMPCA", d),
    "wpca's WPCA": lambda d, seed: Weighted("WPCA", d),
    "VAE without X_std": lambda d, seed: VAE(d, seed, knows=False),
    "VAE, linear start": lambda d, seed: VAE(d, seed, max_iter=0),
    "VAE": lambda d, seed: VAE(d, seed),
    "VAE, gaussian_known": lambda d, seed: VAE(d, seed, likelihood="gaussian_known"),
}


def measure(name, d, label, seed):
    true, measured, errors = rows_of(name, seed)
    start = time.process_time()
    model = WAYS[label](d, seed).fit(measured[0], errors[0])
    seconds = time.process_time() - start
    about = {"data": name, "n_components": d, "model": label, "seed": seed, "seconds": seconds}
    mean, std = model.reconstruct(measured[1], errors[1])
    apart = mean - true[1]
    if name in AIR:
        hidden = np.isnan(measured[1])
        return [{**about, "error": np.sqrt(np.mean((apart / errors[1])[hidden] ** 2))}]
    row = {**about, "error": np.sqrt(np.mean(apart**2) / np.mean((measured[1] - true[1]) ** 2))}
    for level in LEVELS if std is not None else ():
        row[f"within {level:.0%}"] = np.mean(np.abs(apart) < norm.ppf(0.5 + level / 2) * std)
    return [row]


def table(frame, column, form):
    """A Markdown table: a line for each model, a column for each set; mean ± standard deviation over seeds."""
    sets = list(frame["data"].unique())
    lines = [heading("model", *sets)]
    for label, part in frame.groupby("model", sort=False):
        cells = [part[part["data"] == name][column] for name in sets]
        lines.append(line(label, *(form(values) if values.notna().any() else "-" for values in cells)))
    return "\n".join(lines)


def report(frame):
    air = frame["data"].isin(AIR)
    for d, part in frame.groupby("n_components"):
        spectra, measured = part[~air], part[air]
        print(f"\nError of the spectra under new measurements, as a share of the measurements' own, {d} components\n")
        print(table(spectra, "error", lambda values: spread(values, 3)))
        for level in LEVELS:
            print(f"\nTrue values within their {level:.0%} intervals, %, {d} components\n")
            known = spectra[spectra["model"].str.startswith("VAE")]
            print(table(known, f"within {level:.0%}", lambda values: spread(100 * values, 0)))
        if len(measured):
            print(f"\nError of hidden air pollutants, in standard deviations of their errors, {d} components\n")
            print(table(measured, "error", lambda values: spread(values, 2)))
        print(f"\nCPU seconds of a fit, median, {d} components\n")
        print(table(part, "seconds", lambda values: f"{values.median():.2f}"))


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=[*SPECTRA, *AIR])
    parser.add_argument("--components", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("measurement_errors.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = list(product(args.sets, args.components, WAYS, range(args.seeds)))
    report(pd.DataFrame(recorded(args.output, ("data", "n_components", "model", "seed"), tasks, measure)))


if __name__ == "__main__":
    main()
