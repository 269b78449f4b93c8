"""Held-out nats, R2, use of the components to a linear model, and CPU seconds: VAETransformer, PCA, factor analysis.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.pca_comparison --jobs 2     the sets that settings may be chosen on
    OMP_NUM_THREADS=1 python -m benchmarks.quality.pca_comparison --jobs 2 --part final     the sets that none was
    python -m benchmarks.quality.pca_comparison --quick     every code path, no result

Three splits; a quarter of the groups (samples, sites, tiles, blocks of time; elsewhere single rows) is held out.
- nats: mean log-likelihood of the held-out rows. FactorAnalysis's noise variances are kept from 0 first, as ours are.
- R2: 1 - sum of (x - x^)^2 over sum of (x - mean of the training rows)^2, over all held-out values.
- downstream: of all rows' components, the 5-fold cross-validated R2 of a ridge regression or accuracy of a logistic
  regression; groups are kept together, classes of under 10 rows left out.
- CPU seconds of `fit`, over all threads.

Rows are written to --output as they come, and a second run goes on from there. In the end they go to
benchmarks/results, as a CSV file and as Markdown tables, in place of those of the same fits.
"""

import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import RESULTS, circumstances, published, recorded
from benchmarks.common.sets import DEVELOPMENT, FINAL, SETS, load, missing_package, split_rows
from skvae import VAETransformer
from skvae._training.channel_noise import CONSTANT_STD, LEAST_NOISE

PARTS = {"development": DEVELOPMENT, "final": FINAL}
TITLES = {"development": "Sets that settings were chosen on", "final": "Sets that no setting was chosen on"}
TASK = ("part", "set", "n_components", "model", "split")
QUICK = {"sets": ["wine"], "components": [2], "splits": 1}
LEAST_OF_A_CLASS = 10  # rows
MEASURES = {"nats": (1, 1.0), "r2": (4, 0.001), "downstream": (3, 0.01)}  # digits shown, and what less is no loss
LINEAR = {"PCA": "PCA", "FactorAnalysis": "FA"}  # and how a loss to it is marked


def vae(**params):
    return lambda n_components, seed: VAETransformer(n_components, random_state=seed, **params)


MODELS = {  # label -> (n_components, seed) -> estimator; the default first
    "default": vae(),
    "gaussian_isotropic": vae(likelihood="gaussian_isotropic"),
    "gaussian_diag": vae(likelihood="gaussian_diag"),
    "PCA": lambda n_components, seed: PCA(n_components, random_state=seed),
    "FactorAnalysis": lambda n_components, seed: FactorAnalysis(n_components, random_state=seed),
}
VARIANTS = {  # on demand
    "no linear maps": vae(likelihood="gaussian_isotropic", init="random"),
    **{
        f"{likelihood}, {posterior}": vae(likelihood=likelihood, posterior=posterior)
        for posterior in ("rho", "rho_diag", "full")
        for likelihood in ("gaussian", "gaussian_isotropic", "gaussian_diag")
    },
    "conv1d": vae(encoder="conv1d", decoder="conv1d"),
    "IWAE of 5 draws": vae(objective="iwae", n_draws=5),
}


def keep_noise_from_zero(model, X):
    """Give a factor analysis of X the least noise variances that `likelihood="gaussian"` has.

    They are shares of probabilistic PCA's isotropic noise, or of a channel's own variance if that is less; a channel
    that is constant to rounding has the isotropic noise itself.
    """
    own, n_components = X.var(axis=0), len(model.components_)
    explained = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)[:n_components] ** 2 / len(X)
    isotropic = (own.sum() - explained.sum()) / max(X.shape[1] - n_components, 1)
    least = np.where(own > CONSTANT_STD**2 * own.mean(), LEAST_NOISE * np.minimum(isotropic, own), isotropic)
    model.noise_variance_ = np.maximum(model.noise_variance_, least)


def reconstruct(model, z):
    if isinstance(model, FactorAnalysis):  # has no inverse_transform
        return z @ model.components_ + model.mean_
    return model.inverse_transform(z)


def downstream(z, y, groups):
    """The cross-validated score of a linear model of y on the components z, or None without y."""
    if y is None:
        return None
    if y.dtype.kind == "f":
        known, model, folds = np.isfinite(y), RidgeCV(np.logspace(-3, 3, 7)), GroupKFold
    else:
        names, counts = np.unique(y, return_counts=True)
        known = np.isin(y, names[counts >= LEAST_OF_A_CLASS])
        model, folds = LogisticRegression(max_iter=300), StratifiedGroupKFold
    pipeline, cv = make_pipeline(StandardScaler(), model), folds(5, shuffle=True, random_state=0)
    return float(cross_val_score(pipeline, z[known], y[known], groups=groups[known], cv=cv).mean())


def measure(part, name, n_components, label, split):
    X, y, groups = load(name)
    train, test = split_rows(groups, split)
    model = (MODELS | VARIANTS)[label](n_components, split)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # factor analysis that needs more iterations, components that carry nothing
        begin = time.process_time()
        model.fit(X[train])
        seconds = time.process_time() - begin
        if isinstance(model, FactorAnalysis):
            keep_noise_from_zero(model, X[train])
        z = model.transform(X)
        residual = np.square(X[test] - reconstruct(model, z[test])).sum()
        record = {
            "part": part,
            "set": name,
            "n_components": n_components,
            "model": label,
            "split": split,
            "nats": float(model.score(X[test])),
            "r2": float(1 - residual / np.square(X[test] - X[train].mean(axis=0)).sum()),
            "downstream": downstream(z, y, groups),
            "cpu_seconds": seconds,
            **circumstances(X, groups, train, test),
        }
    return [record]


def shown(frame):
    """The models that a table has, in the order of `MODELS`."""
    return [label for label in MODELS | VARIANTS if label in set(frame["model"])]


def losses(means, label, measure):
    """How a table marks the linear models that beat this one, by more than what is no loss."""
    value, margin = means[measure][label], MEASURES[measure][1]
    others = {} if label in LINEAR else LINEAR
    marks = [mark for other, mark in others.items() if other in means.index and value < means[measure][other] - margin]
    return f" (< {', '.join(marks)})" * bool(marks)


def table_of_set(frame):
    """Markdown: for each n_components a line for each model; mean ± standard deviation over splits."""
    lines = [heading("n_components", "model", "nats per row", "R2", "downstream", "CPU s")]
    for n_components, part in frame.groupby("n_components"):
        models, means = part.groupby("model"), part.groupby("model")[[*MEASURES]].mean()
        for label in shown(part):
            values, cells = models.get_group(label), []
            for name, (digits, _) in MEASURES.items():
                known = values[name].notna().all()
                cells.append(spread(values[name], digits) + losses(means, label, name) if known else "")
            lines.append(line(n_components, label, *cells, f"{values['cpu_seconds'].mean():.2f}"))
    return "\n".join(lines)


def paired(frame, label, other, name):
    """Mean over splits of a measure less another model's, for each set and n_components, and its standard error."""
    values = frame.pivot_table(index=["set", "n_components", "split"], columns="model", values=name)
    if not {label, other} <= set(values):
        return None
    difference = (values[label] - values[other]).dropna().groupby(["set", "n_components"])
    return pd.DataFrame({"mean": difference.mean(), "error": difference.sem().fillna(0.0)})


def share(condition):
    return f"{condition.sum()} of {len(condition)}"


def summary(frame):
    """Markdown: in how many pairs of set and n_components each model is no worse than PCA and factor analysis."""
    nats, r2, down = (MEASURES[name][1] for name in MEASURES)
    heads = ["model", f"R2 >= PCA's - {r2}", f"nats >= PCA's - {nats:g}", f"nats >= max(PCA, FA) - {nats:g}"]
    heads += ["this and R2", f"downstream >= PCA's - max({down}, se)", "above PCA's by over 1 se", "CPU s, sum"]
    lines = [heading(*heads)]
    for label in shown(frame):
        r2_pca, nats_pca, down_pca = (paired(frame, label, "PCA", name) for name in ("r2", "nats", "downstream"))
        nats_fa = paired(frame, label, "FactorAnalysis", "nats")
        if nats_fa is None or r2_pca is None or down_pca is None:
            continue
        as_pca, dense = r2_pca["mean"] >= -r2, nats_pca["mean"] >= -nats
        densest = dense & (nats_fa["mean"] >= -nats)
        no_worse = down_pca["mean"] >= -np.maximum(down, down_pca["error"])
        better = down_pca["mean"] > down_pca["error"]
        seconds = frame.loc[frame["model"] == label, "cpu_seconds"].sum()
        conditions = as_pca, dense, densest, densest & as_pca, no_worse, better
        lines.append(line(label, *map(share, conditions), f"{seconds:.0f}"))
    return "\n".join(lines)


def summaries(frame):
    """Markdown: a summary of each part."""
    return "\n\n".join(f"## {TITLES[part]}\n\n{summary(rows)}" for part, rows in frame.groupby("part"))


def tables_of_sets(frame):
    """Markdown: a table for each set of each part."""
    blocks = []
    for (part, name), rows in frame.groupby(["part", "set"]):
        first = rows.iloc[0]
        shape = f"{first['n_train']} + {first['n_test']} rows x {first['n_features']}"
        about = f"{part}; {shape}, {first['n_groups']} groups in training"
        blocks.append(f"## {name}\n\n{about}\n\n{table_of_set(rows)}")
    return "\n\n".join(blocks)


def report(frame):
    """Markdown: the summaries and the tables of sets."""
    about = "\n".join(
        [
            "Written by `python -m benchmarks.quality.pca_comparison`, whose docstring says what is measured, from",
            "pca_comparison.csv. Mean ± standard deviation over splits; `(< PCA)` marks a loss to PCA, `(< FA)` to FA.",
        ]
    )
    machines = f"Read on {'; '.join(frame['machine'].unique())}.\n"
    return "\n\n".join([about, summaries(frame), tables_of_sets(frame), machines])


def tasks_of(sets, components, labels, n_splits):
    """A task for each fit; sets whose package is not installed are named and left out."""
    tasks = []
    for name in sets:
        if package := missing_package(name):
            print(f"{name} is left out: the package that brings {package}/ is not installed (benchmarks/README.md)")
            continue
        part, p = next(part for part in PARTS if name in PARTS[part]), load(name).X.shape[1]
        tasks += [
            (part, name, n_components, label, split)
            for n_components in components
            if n_components < p
            for label in labels
            for split in range(n_splits)
        ]
    return tasks


def main():
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--part", default="development", choices=PARTS)
    add("--sets", nargs="+", choices=SETS, metavar="SET", help="all of the part, unless named")
    add("--components", nargs="+", type=int, default=[2, 4, 8])
    add("--models", nargs="+", default=list(MODELS), choices=MODELS | VARIANTS, metavar="MODEL")
    add("--splits", type=int, default=3)
    add("--jobs", type=int, default=1)
    add("--output", type=Path, default=Path("pca_comparison.jsonl"))
    add("--results", type=Path, default=RESULTS, help="folder")
    add("--quick", action="store_true", help="one small set, results in a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.quick:
            vars(args).update(QUICK, output=Path(scratch) / "rows.jsonl", results=Path(scratch))
        tasks = tasks_of(args.sets or PARTS[args.part], args.components, args.models, args.splits)
        rows = recorded(args.output, TASK, tasks, measure, args.jobs, progress=True)
        text = report(published(args.results / "pca_comparison.csv", TASK, rows))
        (args.results / "pca_comparison.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
