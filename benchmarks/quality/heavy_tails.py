"""What do values and rows that lie far out do to a model, under normal noise and under Student's t?

    OMP_NUM_THREADS=1 python -m benchmarks.quality.heavy_tails

Nats of new rows and R2 of their reconstruction, for models that are fitted to spectra as they were measured, to the
same with 1 % of the values as spikes (cosmic rays), and with 4 in 60 rows that are noise. The new rows are as they were
measured. A second run goes on from what --output holds.
"""

import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.sets import load, split
from skvae import VAETransformer

N_CHANNELS, N_ROWS = 200, 800
SPOILT = ("as measured", "spikes", "odd rows")
WAYS = ("PCA", "gaussian", "student_t")


def spoil(X, how, rng):
    """The rows X with spikes of 1 to 5 standard deviations of all values, or rows of noise, or as they are."""
    size = np.sqrt(X.var(axis=0).mean())
    if how == "spikes":
        return X + (rng.random(X.shape) < 0.01) * size * rng.uniform(1, 5, X.shape)
    if how == "odd rows":
        odd = rng.permutation(len(X))[: max(1, len(X) // 15)]
        X = X.copy()
        X[odd] += 2 * size * rng.standard_normal((len(odd), X.shape[1]))
    return X


def measure(name, d, how, label, seed):
    X, _, groups = load(name)
    step = -(-len(X) // N_ROWS)
    train, test = split(X[::step, :: -(-X.shape[1] // N_CHANNELS)], groups[::step], seed)
    spoilt = spoil(train, how, np.random.default_rng(seed))
    model = PCA(d) if label == "PCA" else VAETransformer(d, likelihood=label, random_state=seed)
    start = time.process_time()
    model.fit(spoilt)
    seconds = time.process_time() - start
    back = model.inverse_transform(model.transform(test)) if label == "PCA" else model.reconstruct(test)
    return [
        {
            **{"data": name, "n_components": d, "spoilt": how, "model": label, "seed": seed, "seconds": seconds},
            "nats": model.score(test) / test.shape[1],
            "r2": 1 - np.square(test - back).sum() / np.square(test - train.mean(axis=0)).sum(),
        }
    ]


def table(frame, column, digits):
    """A Markdown table: a line for each model and kind of damage, a column for each set; mean ± standard deviation."""
    sets = list(frame["data"].unique())
    lines = [heading("fitted to rows", "model", *sets)]
    for (how, label), part in frame.groupby(["spoilt", "model"], sort=False):
        lines.append(line(how, label, *(spread(part[part["data"] == name][column], digits) for name in sets)))
    return "\n".join(lines)


def report(frame):
    for d, part in frame.groupby("n_components"):
        print(f"\nNats of a new value, {d} components\n\n{table(part, 'nats', 3)}")
        print(f"\nR2 of new rows, {d} components\n\n{table(part, 'r2', 4)}")
        print(f"\nCPU seconds of a fit, {d} components\n\n{table(part, 'seconds', 1)}")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=["SP.231", "SSP.460", "coffee", "fermentation", "soil"])
    parser.add_argument("--components", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("heavy_tails.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = list(product(args.sets, args.components, SPOILT, WAYS, range(args.seeds)))
    names = ("data", "n_components", "spoilt", "model", "seed")
    report(pd.DataFrame(recorded(args.output, names, tasks, measure)))


if __name__ == "__main__":
    main()
