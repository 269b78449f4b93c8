"""Grid searches in which PCA, factor analysis and VAEs compete: by density, then by the prediction built on them.

460 soil spectra (LimeSoDa's SSP.460, 830 wavelengths) and the clay content of each soil; a quarter is held out from
both searches. The first search ranks the models by their own `score`, nats a row in the units of X, which is the same
quantity for all three. The second ranks such models by how well a linear regression on their components predicts the
clay content. As the best of many on the folds is best by luck, too, each family's winner is then fitted to all training
rows and scored on those held out.

Prints both rankings (mean ± standard deviation over folds, and the difference from the first, within each fold) and
draws a figure; takes about a minute on two cores.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import Pipeline

from skvae import VAETransformer

FOLDS = KFold(3, shuffle=True, random_state=0)


def grid(**options):
    """Candidates for a Pipeline's step "model": three models, and the VAE's `options`."""
    n_components = {"model__n_components": [8, 16]}
    options = {f"model__{name}": values for name, values in options.items()}
    return [
        {"model": [PCA(), FactorAnalysis()], **n_components},
        {"model": [VAETransformer(random_state=0)], **n_components, **options},
    ]


def family(params):
    return type(params["model"]).__name__


def label(params):
    """Such as "VAETransformer, beta=4.0, n_components=16, full"."""
    options = {name.removeprefix("model__"): value for name, value in params.items() if name != "model"}
    options = [value if isinstance(value, str) else f"{name}={value}" for name, value in options.items()]
    return ", ".join([family(params), *options])


def rank(search):
    """Candidates, best first: their parameters (a list) and scores on each fold (candidates, folds)."""
    found = search.cv_results_
    scores = np.stack([found[f"split{i}_test_score"] for i in range(FOLDS.n_splits)], axis=1)
    order = np.argsort(-scores.mean(axis=1))
    return [found["params"][i] for i in order], scores[order]


def report(search, train, test, form):
    """Print the ranking, and on held-out rows the best candidate of each family."""
    candidates, scores = rank(search)
    print(f"{'':3} {'':<57} {'mean ± std of folds':>22} {'less the first':>20}")
    for place, (params, score) in enumerate(zip(candidates, scores, strict=True), 1):
        less = score - scores[0]
        text = f"{less.mean():+{form}} ± {less.std():{form}}" if place > 1 else ""
        print(f"{place:>3} {label(params):<57} {f'{score.mean():{form}} ± {score.std():{form}}':>22} {text:>20}")
    print(f"\nOn {len(test[0])} held-out rows, ± standard deviation over 100 bootstrap samples of them:")
    resample = np.random.default_rng(0).integers(len(test[0]), size=(100, len(test[0])))
    winners = {}
    for params in candidates:
        winners.setdefault(family(params), params)
    for params in winners.values():
        model = clone(search.estimator).set_params(**clone(params, safe=False)).fit(*train)
        spread = np.std([model.score(test[0][rows], test[1][rows]) for rows in resample])
        print(f"    {label(params):<57} {f'{model.score(*test):{form}} ± {spread:{form}}':>22}")
    print()


def draw(axis, search):
    candidates, scores = rank(search)
    families = ["PCA", "FactorAnalysis", "VAETransformer"]
    for place, (params, score) in enumerate(zip(candidates, scores, strict=True)):
        color = f"C{families.index(family(params))}"
        axis.errorbar(score.mean(), place, xerr=score.std(), fmt="o", color=color, capsize=2)
    axis.set_yticks(range(len(candidates)), [label(params) for params in candidates])
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="grid_search.png")
    args = parser.parse_args()
    table = load_dataset("SSP.460")["Dataset"]
    X, clay = table.filter(regex="^wl_").to_numpy(), table["Clay_target"].to_numpy()
    X_train, X_test, clay_train, clay_test = train_test_split(X, clay, test_size=0.25, random_state=0)
    train, test = (X_train, clay_train), (X_test, clay_test)

    print("Density: nats a row, each model's own score\n")
    density = GridSearchCV(
        Pipeline([("model", PCA())]), grid(posterior=["diag", "full"], beta=[1.0, 4.0]), cv=FOLDS, n_jobs=2
    ).fit(*train)
    report(density, train, test, ".0f")

    print("Prediction: R2 of the clay content from the components\n")
    pipeline = Pipeline([("model", PCA()), ("regression", LinearRegression())])
    prediction = GridSearchCV(pipeline, grid(likelihood=["gaussian", "gaussian_diag"]), cv=FOLDS, n_jobs=2).fit(*train)
    report(prediction, train, test, ".3f")

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
    draw(left, density)
    left.set(xlabel="nats a row, mean ± std of folds", title="Ranked by density")
    draw(right, prediction)
    right.set(xlabel="R2 of clay content, mean ± std of folds", title="Ranked by prediction")
    figure.savefig(args.output, dpi=110)
    print(f"The figure is in {args.output}")


if __name__ == "__main__":
    main()
