"""False alarms of T2 and Q on new samples, where every sample was measured several times: with `groups` and without.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.replicates --jobs 2

Near-infrared spectra of 642 tablets on two instruments and of 80 corn samples on three. Whole samples are held out; the
training rows are shuffled, as `train_test_split` does. "groups" is told which rows are of one sample. A limit of 95 %
should be exceeded by 5 % of new rows. PCA has the textbook limits: F of T2, chi^2 of Q. Rows are written to --output as
they come, and a second run goes on from there; in the end they go to benchmarks/results.
"""

import time
import warnings
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.common.arguments import parser_of
from benchmarks.common.charts import LEVEL, ChartedPCA
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import RESULTS, circumstances, published, recorded
from benchmarks.common.sets import load, split_rows
from skvae import VAETransformer

TASK = ("set", "n_components", "model", "split")
MODELS = ("groups", "no groups", "PCA")


def fitted(label, n_components, seed, X, groups):
    """A model of rows X, and its limits of T2 and Q."""
    if label == "PCA":
        model = ChartedPCA(n_components, svd_solver="full").fit(X)
        return model, model.limits["PCA: T2", "F"], model.limits["PCA: Q", "chi2"]
    model = VAETransformer(n_components, random_state=seed)
    fit = partial(model.fit, groups=groups) if label == "groups" else model.fit
    fit(X)
    return model, model.hotelling_t2_limit(LEVEL), model.q_residuals_limit(LEVEL)


def measure(name, n_components, label, split):
    X, _, groups = load(name)
    train, test = split_rows(groups, split)
    train = np.random.default_rng(split).permutation(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # near-copies are what this is about
        begin = time.process_time()
        model, t2_limit, q_limit = fitted(label, n_components, split, X[train], groups[train])
        seconds = time.process_time() - begin
        q = model.q_residuals(X[test])
    record = {
        "set": name,
        "n_components": n_components,
        "model": label,
        "split": split,
        "t2_alarms": float(np.mean(model.hotelling_t2(X[test]) > t2_limit)),
        "q_alarms": float(np.mean(q > q_limit)),
        "nats": float(model.score(X[test])),
        "r2": float(1 - q.sum() / np.square(X[test] - X[train].mean(axis=0)).sum()),
        "cpu_seconds": seconds,
        **circumstances(X, groups, train, test),
    }
    return [record]


def report(frame):
    """Markdown: a line for each set, n_components and model; mean ± standard deviation over splits."""
    lines = [
        "Written by `python -m benchmarks.quality.replicates`, whose docstring says what is measured, from",
        f"replicates.csv. Alarms: new rows over the {LEVEL:.0%} limit, %. Mean ± standard deviation over splits.\n",
        heading("set", "n_components", "model", "alarms of T2", "alarms of Q", "nats per row", "R2", "CPU s"),
    ]
    for (name, n_components), part in frame.groupby(["set", "n_components"]):
        models = part.groupby("model")
        for label in (label for label in MODELS if label in models.groups):
            values = models.get_group(label)
            alarms = (spread(100 * values[which]) for which in ("t2_alarms", "q_alarms"))
            fit = spread(values["nats"]), spread(values["r2"], 4), f"{values['cpu_seconds'].mean():.2f}"
            lines.append(line(name, n_components, label, *alarms, *fit))
    return "\n".join([*lines, f"\nRead on {'; '.join(frame['machine'].unique())}.\n"])


def main():
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--sets", nargs="+", default=["tablets", "corn"])
    add("--components", nargs="+", type=int, default=[4, 8])
    add("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="MODEL")
    add("--splits", type=int, default=3)
    add("--jobs", type=int, default=1)
    add("--output", type=Path, default=Path("replicates.jsonl"))
    add("--results", type=Path, default=RESULTS, help="folder")
    args = parser.parse_args()
    tasks = list(product(args.sets, args.components, args.models, range(args.splits)))
    rows = recorded(args.output, TASK, tasks, measure, args.jobs, progress=True)
    text = report(published(args.results / "replicates.csv", TASK, rows))
    (args.results / "replicates.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
