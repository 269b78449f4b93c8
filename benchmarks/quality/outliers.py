"""Which score finds faulty spectra, and how often do 95 % limits raise false alarms? VAE, PCA, factor analysis, forest.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.outliers

Models are fitted to clean rows. Of held-out rows one half gets a fault, the other stays as measured; a score is judged
by the ROC AUC between the halves, mean over 20 random choices of them. Tables are means over --sets: name one set to
see it alone. A second run goes on from what --output holds.
"""

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from benchmarks.common.arguments import parser_of
from benchmarks.common.charts import LEVEL, ChartedPCA
from benchmarks.common.markdown import heading, line
from benchmarks.common.records import recorded
from benchmarks.common.sets import load, split
from skvae import VAETransformer

FAULTS = {"spike, sd": (0.3, 1), "drift, sd": (0.1, 0.3), "shift, channels": (0.3, 1, 3), "gain, %": (10, 30)}
MARGIN = max(FAULTS["shift, channels"])  # channels at either end that shifted rows reach into, and no model sees
N_CHANNELS, N_ROWS, N_HALVES = 300, 1500, 20


def with_fault(X, kept, spread, kind, size, rng):
    """Rows X at the channels `kept`, each with a fault of random sign; `spread` is the training columns' sd."""
    sign = rng.choice([-1, 1], size=(len(X), 1))
    rows = X[:, kept]
    if kind == "spike, sd":
        return rows + sign * size * spread * (np.arange(len(kept)) == rng.integers(len(kept), size=sign.shape))
    if kind == "drift, sd":  # a line or a parabola within [-1, 1], in root mean square sd of the columns
        t = np.linspace(-1, 1, len(kept))
        curves = np.where(rng.random((len(X), 1)) < 0.5, t, 2 * t**2 - 1)
        return rows + sign * size * np.sqrt(np.mean(spread**2)) * curves
    if kind == "shift, channels":  # of the instrument, before thinning
        spline = CubicSpline(np.arange(X.shape[1]), X, axis=1)
        return np.where(sign > 0, spline(kept + size), spline(kept - size))
    return rows * (1 + sign * size / 100)


def measure(name, n_components, seed):
    X, _, groups = load(name)
    step = -(-len(X) // N_ROWS)
    train, test = split(X[::step], groups[::step], seed)
    kept = np.arange(MARGIN, X.shape[1] - MARGIN, -(-X.shape[1] // N_CHANNELS))
    train, clean = train[:, kept], test[:, kept]
    models = {
        "VAE": VAETransformer(n_components, random_state=seed),
        "VAE, student_t": VAETransformer(n_components, likelihood="student_t", random_state=seed),
        "VAE, noise per channel": VAETransformer(n_components, likelihood="gaussian_diag", random_state=seed),
        "VAE, isotropic": VAETransformer(n_components, likelihood="gaussian_isotropic", random_state=seed),
        "PCA": ChartedPCA(n_components, svd_solver="full"),
        "FactorAnalysis": FactorAnalysis(n_components, random_state=seed),
        "IsolationForest": IsolationForest(random_state=seed),  # standardising columns first would change no split
        "IsolationForest of PCA's z": make_pipeline(PCA(n_components), IsolationForest(random_state=seed)),
    }
    scores, limits = {}, {}
    for label, model in models.items():
        model.fit(train)
        scores[f"{label}: -score_samples"] = lambda X, model=model: -model.score_samples(X)
        if hasattr(model, "hotelling_t2"):
            scores |= {f"{label}: T2": model.hotelling_t2, f"{label}: Q": model.q_residuals}
        if isinstance(model, VAETransformer):
            limits[f"{label}: T2", "F"] = model.hotelling_t2_limit(LEVEL)
            limits[f"{label}: Q", "chi2"] = model.q_residuals_limit(LEVEL)
    limits |= models["PCA"].limits
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(len(test)) < len(test) // 2 for _ in range(N_HALVES)]
    as_measured, rows = {label: score(clean) for label, score in scores.items()}, []
    for kind, size in [(kind, size) for kind, sizes in FAULTS.items() for size in sizes]:
        faulty = with_fault(test, kept, train.std(axis=0), kind, size, rng)
        for label, score in scores.items():
            odd, usual = score(faulty), as_measured[label]
            auc = np.mean([roc_auc_score(half, np.where(half, odd, usual)) for half in halves])
            rows.append({"score": label, "fault": f"{kind}: {size}", "value": auc})
    for (label, basis), limit in limits.items():
        rows.append({"score": f"{label}, {basis}", "fault": None, "value": 100 * np.mean(as_measured[label] > limit)})
    shape = f"{len(train)} + {len(test)} x {len(kept)}"
    return [{"data": name, "shape": shape, "n_components": n_components, "seed": seed, **row} for row in rows]


def table(frame, column, form):
    """A Markdown table: a line for each score, a column for each value of `column`; mean ± std over seeds."""
    values = frame.groupby(["score", column, "seed"], sort=False)["value"].mean().groupby(["score", column], sort=False)
    cells = values.mean().map(form.format) + " ± " + values.std(ddof=0).map(form.format)
    cells = cells.unstack().loc[frame["score"].unique(), frame[column].unique()]
    return "\n".join([heading("score", *cells), *(line(*row) for row in cells.reset_index().to_numpy())])


def report(frame):
    shapes = frame.groupby("data", sort=False)["shape"].first().items()
    print("Rows to train on + held out x channels:", "; ".join(f"{name} {shape}" for name, shape in shapes))
    for d, part in frame.groupby("n_components"):
        auc, alarms = part[part["fault"].notna()], part[part["fault"].isna()]
        print(f"\nROC AUC by fault, {d} components, mean over sets\n\n{table(auc, 'fault', '{:.2f}')}")
        print(f"\nROC AUC by set, {d} components, mean over faults\n\n{table(auc, 'data', '{:.2f}')}")
        print(f"\nClean held-out rows above 95 % limits, %, {d} components\n\n{table(alarms, 'data', '{:.0f}')}")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=["SSP.460", "SP.231", "soil", "NRW.115", "coffee"])
    parser.add_argument("--components", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("outliers.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # factor analysis that needs more iterations, components that carry nothing
    tasks = list(product(args.sets, args.components, range(args.seeds)))
    report(pd.DataFrame(recorded(args.output, ("data", "n_components", "seed"), tasks, measure)))


if __name__ == "__main__":
    main()
