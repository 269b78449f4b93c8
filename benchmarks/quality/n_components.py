"""How many components each way of choosing takes, and what a VAE with so many makes of held-out rows.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.n_components

The ways: `n_components="auto"`; cross-validation of `PCA.score` in five folds of shuffled rows, groups kept together;
Minka's "mle" of PCA, which needs more rows than columns; and a share of the variance, 0.95 and 0.99. First on
linear-Gaussian rows whose dimension is known, in ten draws each: how often a way finds it. Then on six sets, in three
splits that hold out a quarter of the groups: nats, R2 and, where there is a target, its prediction from the components
(as `benchmarks.quality.pca_comparison` measures them). Numbers of components are at most 64. Rows are written to
--output as they come, and a second run goes on from there.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, cross_val_score

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.sets import load, split_rows
from benchmarks.quality.pca_comparison import downstream, reconstruct
from skvae import VAETransformer

SETS = ("SSP.460", "SP.231", "NRW.115", "fermentation", "digits", "wine")
KNOWN = [(3, 100, 40), (8, 200, 60), (8, 2000, 60), (20, 400, 100), (5, 60, 200)]  # dimension, rows, columns
NOISE = {"weak": 0.5, "strong": 2.0}  # standard deviation of each channel; that of a loading is 1
MOST = 64


def auto(X, groups):
    return VAETransformer("auto", max_iter=0, random_state=0).fit(X, groups=groups).n_components_


def cross_validated(X, groups):
    folds = list(GroupKFold(5, shuffle=True, random_state=0).split(X, groups=groups))
    most = min(MOST, X.shape[1] - 1, min(len(train) for train, _ in folds) - 2)
    return 1 + int(np.argmax([cross_val_score(PCA(k), X, cv=folds).mean() for k in range(1, most + 1)]))


def mle(X, groups):
    return min(MOST, PCA("mle").fit(X).n_components_) if len(X) >= X.shape[1] else None


def share(of_variance):
    return lambda X, groups: min(MOST, PCA(of_variance).fit(X).n_components_)


WAYS = {
    '"auto"': auto,
    "cross-validated PCA": cross_validated,
    'PCA "mle"': mle,
    "0.95": share(0.95),
    "0.99": share(0.99),
}


def linear_rows(d, n, p, noise, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, p)) + noise * rng.standard_normal((n, p))


def choose(way, X, groups):
    """The number of components, or None where the way has none."""
    chosen = WAYS[way](X, groups)
    return None if chosen is None else int(chosen)


def measure(name, way, split):
    """A row: of a known dimension, `name` says which, the number that was chosen; of a set what came of it, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = {"set": name, "way": way, "split": split}
        if name not in SETS:
            noise, *shape = name.split()
            X = linear_rows(*map(int, shape), NOISE[noise], split)
            return [{**task, "chosen": choose(way, X, np.arange(len(X)))}]
        X, y, groups = load(name)
        train, test = split_rows(groups, split)
        chosen = choose(way, X[train], groups[train])
        if chosen is None:
            return [{**task, "chosen": None}]
        vae = VAETransformer(chosen, random_state=split).fit(X[train], groups=groups[train])
        z = vae.transform(X)
        left = np.square(X[test] - reconstruct(vae, z[test])).sum()
        return [
            {
                **task,
                "chosen": chosen,
                "nats": vae.score(X[test]),
                "r2": float(1 - left / np.square(X[test] - X[train].mean(axis=0)).sum()),
                "downstream": downstream(z, y, groups),
            }
        ]


def known_dimensions(frame):
    """Markdown: how often each way finds the dimension, and the numbers that it takes."""
    lines = [heading("dimension", "rows x columns", "noise", *WAYS)]
    for name, part in frame.groupby("set", sort=False):
        noise, d, n, p = name.split()
        cells = []
        for way in WAYS:
            chosen = part.loc[part["way"] == way, "chosen"].dropna()
            found = f"{(chosen == int(d)).sum()} of {len(chosen)} ({chosen.min():.0f} to {chosen.max():.0f})"
            cells.append(found if len(chosen) else "")
        lines.append(line(d, f"{n} x {p}", noise, *cells))
    return "\n".join(lines)


def of_sets(frame):
    """Markdown: for each set a line for each way; mean ± standard deviation over splits."""
    lines = [heading("set", "chosen by", "components", "nats per row", "R2", "downstream")]
    for name, part in frame.groupby("set", sort=False):
        for way in WAYS:
            values = part[part["way"] == way]
            if values["chosen"].isna().any():
                continue
            down = "" if values["downstream"].isna().any() else spread(values["downstream"], 3)
            components = ", ".join(f"{chosen:.0f}" for chosen in values["chosen"])
            cells = components, spread(values["nats"]), spread(values["r2"], 4), down
            lines.append(line(name, way, *cells))
    return "\n".join(lines)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("n_components.jsonl"))
    args = parser.parse_args()
    known = [f"{noise} {d} {n} {p}" for d, n, p in KNOWN for noise in NOISE]
    tasks = [(name, way, seed) for name in known for way in WAYS for seed in range(10)]
    tasks += [(name, way, split) for name in SETS for way in WAYS for split in range(3)]
    frame = pd.DataFrame(recorded(args.output, ("set", "way", "split"), tasks, measure, args.jobs, progress=True))
    is_set = frame["set"].isin(SETS)
    print(f"Rows of known dimension\n\n{known_dimensions(frame[~is_set])}\n")
    print(f"Sets\n\n{of_sets(frame[is_set])}")


if __name__ == "__main__":
    main()
