"""Which components predict a property best: PLS's, PCA's (PCR) or a VAE's, on five sets of spectra with a target.

    OMP_NUM_THREADS=1 python -m benchmarks.quality.calibration_models

Five folds of whole groups (samples). Components are learned from the spectra of the training rows; PLS learns its own
from the rows that have a target. Then a ridge regression predicts the target of held-out rows: R2 over each fold. The
number of components, 2, 4, 8 or 16, is chosen in each fold by cross-validation among the training rows with a target.
Ridge regression on all wavelengths stands beside them.

*All*: the target of every training row is known. *30*: that of 30 training rows; PCA and the VAE still see the spectra
of all of them, which PLS and ridge regression cannot use. Rows are written to --output as they come, and a second run
goes on from there.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.sets import load
from skvae import VAETransformer

SETS = ("SSP.460", "NRW.115", "meats", "corn", "tablets")
COMPONENTS = (2, 4, 8, 16)
LABELLED = {"all": None, "30": 30}
METHODS = ("PLS", "PCR", "VAE", "ridge")


def ridge():
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 17)))


def inner_folds(n):
    return KFold(min(5, n), shuffle=True, random_state=0)


def pls(X, y, X_test):
    search = GridSearchCV(PLSRegression(), {"n_components": COMPONENTS}, cv=inner_folds(len(y))).fit(X, y)
    return search.predict(X_test).ravel(), search.best_params_["n_components"]


def on_components(spectra, places, y):
    """Predictions from the components, among sets of spectra's, that predict the training rows' targets best."""
    scores = {d: cross_val_score(ridge(), Z[places], y, cv=inner_folds(len(y))).mean() for d, (Z, _) in spectra.items()}
    best = max(scores, key=scores.get)
    Z, Z_test = spectra[best]
    return ridge().fit(Z[places], y).predict(Z_test), best


def measure(name, fold):
    """A row for each method and number of targets that are known."""
    X, y, groups = load(name)
    known = np.isfinite(y)
    X, y, groups = X[known], y[known], groups[known]
    splits = GroupKFold(5, shuffle=True, random_state=0).split(X, groups=groups)
    train, test = list(splits)[fold]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learned = {
            "PCR": {d: PCA(d, random_state=fold).fit(X[train]) for d in COMPONENTS},
            "VAE": {d: VAETransformer(d, random_state=fold).fit(X[train], groups=groups[train]) for d in COMPONENTS},
        }
        components = {
            method: {d: (model.transform(X[train]), model.transform(X[test])) for d, model in models.items()}
            for method, models in learned.items()
        }
        rows = []
        for labelled, n in LABELLED.items():
            places = np.random.default_rng(fold).permutation(len(train))[:n]
            X_known, y_known = X[train][places], y[train][places]
            answers = {
                "PLS": pls(X_known, y_known, X[test]),
                **{method: on_components(components[method], places, y_known) for method in components},
                "ridge": (ridge().fit(X_known, y_known).predict(X[test]), None),
            }
            for method, (answer, d) in answers.items():
                row = {"set": name, "fold": fold, "labelled": labelled, "method": method}
                rows.append({**row, "n_components": None if d is None else int(d), "r2": r2_score(y[test], answer)})
    return rows


def table(frame):
    """Markdown: R2 in held-out folds, mean ± standard deviation, and the numbers of components."""
    lines = [heading("set", "rows", "targets known", *METHODS)]
    for (name, labelled), part in frame.groupby(["set", "labelled"], sort=False):
        cells = []
        for method in METHODS:
            values = part[part["method"] == method]
            chosen = sorted(values["n_components"].dropna().astype(int))
            numbers = f" ({chosen[0]} to {chosen[-1]})" if chosen else ""
            cells.append(spread(values["r2"], 3) + numbers)
        lines.append(line(name, len(load(name).X), labelled, *cells))
    return "\n".join(lines)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, metavar="SET")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("calibration_models.jsonl"))
    args = parser.parse_args()
    tasks = [(name, fold) for name in args.sets for fold in range(5)]
    frame = pd.DataFrame(recorded(args.output, ("set", "fold"), tasks, measure, args.jobs, progress=True))
    print(f"R2 of held-out rows (in brackets the numbers of components that were chosen)\n\n{table(frame)}")


if __name__ == "__main__":
    main()
