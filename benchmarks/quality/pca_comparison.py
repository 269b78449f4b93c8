"""Held-out nats, R2 and fit seconds of PCA, factor analysis, a plain VAE and VAETransformer on real spectra.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.pca_comparison --jobs 2

Every figure is for rows of blocks (sites, tiles, stretches of time) that training never saw; mean and
standard deviation over seeds, each with its own split. `plain` is the same networks and training alone,
without the linear maps and their start. Rows are written to --output as they come, and a second run goes on from there.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, FactorAnalysis

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.spectra import SPECTRA, load, split
from skvae import VAETransformer

NOISES = ("gaussian", "gaussian_diag", "gaussian_isotropic")  # the default first


def models(n_components, every_posterior):
    """Label -> function of the seed that gives an estimator."""

    def vae(**params):
        return lambda seed: VAETransformer(n_components, random_state=seed, **params)

    table = {
        "PCA": lambda seed: PCA(n_components),
        "FactorAnalysis": lambda seed: FactorAnalysis(n_components, random_state=seed),
        "plain, gaussian_isotropic": vae(likelihood="gaussian_isotropic", init="random"),
    }
    for posterior in ("diag", "rho", "rho_diag", "full") if every_posterior else ("diag",):
        for likelihood in NOISES:
            table[f"{posterior}, {likelihood}"] = vae(posterior=posterior, likelihood=likelihood)
    if every_posterior:
        table["diag, gaussian_diag, conv1d"] = vae(likelihood="gaussian_diag", encoder="conv1d", decoder="conv1d")
        table["diag, gaussian_diag, IWAE of 5 draws"] = vae(likelihood="gaussian_diag", objective="iwae", n_draws=5)
    return table


def reconstruct(model, X):
    if isinstance(model, FactorAnalysis):  # has no inverse_transform
        return model.transform(X) @ model.components_ + model.mean_
    return model.inverse_transform(model.transform(X))


def measure(name, n_components, seed, label):
    X, blocks = load(name)
    train, test = split(X, blocks, seed)
    model = models(n_components, every_posterior=True)[label](seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - start
        residual = np.square(test - reconstruct(model, test)).sum()
    r2 = 1 - residual / np.square(test - test.mean(axis=0)).sum()
    shape = f"{len(X)} x {X.shape[1]}"
    row = dict(
        data=name,
        shape=shape,
        n_components=n_components,
        seed=seed,
        model=label,
        nats=model.score(test),
        r2=r2,
        seconds=seconds,
    )
    return [row]


def table(rows):
    """Markdown: a line per model, mean ± standard deviation over seeds."""
    frame = pd.DataFrame(rows)
    lines = []
    for (data, d), part in frame.groupby(["data", "n_components"], sort=False):
        lines += [f"\n{data} ({part['shape'].iloc[0]}), n_components = {d}, {part['seed'].nunique()} seeds\n"]
        lines.append(heading("model", "score, nats per row", "R2", "fit, s"))
        for model, group in part.groupby("model", sort=False):
            seconds = f"{group['seconds'].median():.1f}"
            lines.append(line(model, spread(group["nats"]), spread(group["r2"], digits=5), seconds))
    return "\n".join(lines)


def summary(rows, n_components=4):
    """Markdown: a line per data set, the models that the README compares, the default first."""
    frame = pd.DataFrame(rows)
    frame = frame[frame["n_components"] == n_components]
    shown = [f"diag, {NOISES[0]}", "PCA", "FactorAnalysis", "diag, gaussian_diag"]
    shown = [model for model in shown if model in set(frame["model"])]
    lines = [heading("data (rows x channels)", *(f"{model}: {what}" for what in ("nats", "R2") for model in shown))]
    for data, part in frame.groupby("data", sort=False):
        shape, models_of = part["shape"].iloc[0], part.groupby("model")
        cells = [spread(models_of["nats"].get_group(model), digits=0) for model in shown]
        cells += [f"{models_of['r2'].get_group(model).mean():.4f}" for model in shown]
        lines.append(line(f"{data} ({shape})", *cells))
    return "\n".join(lines)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SPECTRA))
    parser.add_argument("--components", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument(
        "--posteriors-at", nargs="+", type=int, default=[4], help="n_components to try every posterior at"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("pca_comparison.jsonl"))
    args = parser.parse_args()

    tasks = [
        (name, d, seed, label)
        for name in args.sets
        for d in args.components
        for label in models(d, d in args.posteriors_at)
        for seed in range(args.seeds)
    ]
    rows = recorded(args.output, ("data", "n_components", "seed", "model"), tasks, measure, args.jobs)
    print(summary(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
