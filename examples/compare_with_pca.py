"""PCA's script with VAETransformer in the same loop: density, reconstruction and prediction, over n_components.

460 soil spectra (LimeSoDa's SSP.460, reflectance in % at 830 wavelengths) and the clay content of each soil. For each
number of components and each split, every model is fitted to the training spectra, and held-out rows say

- its density: `score`, nats a row;
- its reconstruction: R2 of the spectra that come back from the components;
- its components: R2 of the clay content predicted from them by a linear regression. Partial least squares stands
  beside this, as it sees the clay content when it chooses its components and the others do not.

Prints a table (mean ± standard deviation over the splits) and draws a figure; takes under a minute and a half.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import ShuffleSplit

from skvae import VAETransformer

N_COMPONENTS = (1, 2, 4, 8)
N_SPLITS = 5


def reconstruct(model, z):
    if isinstance(model, FactorAnalysis):  # has no inverse_transform
        return z @ model.components_ + model.mean_
    return model.inverse_transform(z)


def measure(model, X, clay, train, test):
    """Nats a row, R2 of the spectra and R2 of the clay content, all of the rows `test`."""
    if isinstance(model, PLSRegression):
        return np.nan, np.nan, model.fit(X[train], clay[train]).score(X[test], clay[test])
    z_train = model.fit(X[train]).transform(X[train])
    z_test = model.transform(X[test])
    regression = LinearRegression().fit(z_train, clay[train])
    r2 = r2_score(X[test], reconstruct(model, z_test), multioutput="variance_weighted")
    return model.score(X[test]), r2, regression.score(z_test, clay[test])


def say(values, form):
    """Mean ± standard deviation."""
    return f"{np.mean(values):{form}} ± {np.std(values):{form.lstrip('+')}}" if np.isfinite(values).all() else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="compare_with_pca.png")
    args = parser.parse_args()
    table = load_dataset("SSP.460")["Dataset"]
    X, clay = table.filter(regex="^wl_").to_numpy(), table["Clay_target"].to_numpy()
    splits = list(ShuffleSplit(N_SPLITS, test_size=0.25, random_state=0).split(X))

    models = {
        "PCA": PCA(),
        "FactorAnalysis": FactorAnalysis(),
        "VAE": VAETransformer(random_state=0),
        "VAE, diag noise": VAETransformer(likelihood="gaussian_diag", random_state=0),
        "PLS": PLSRegression(),
    }
    results = {name: np.empty((len(N_COMPONENTS), N_SPLITS, 3)) for name in models}
    n_train, n_test = len(splits[0][0]), len(splits[0][1])
    print(f"{n_train} spectra to train on, {n_test} held out; mean ± standard deviation of {N_SPLITS} splits")
    print("The splits are the same for all models, so a difference from PCA is taken within each split.\n")
    heads = ("score (nats)", "less PCA's", "R2 of spectra", "R2 of clay", "less PCA's")
    print("  d  model         " + "".join(f"{head:>19}" for head in heads))
    for i, d in enumerate(N_COMPONENTS):
        for name, model in models.items():
            model.set_params(n_components=d)
            results[name][i] = [measure(model, X, clay, *split) for split in splits]
            nats, r2, clay_r2 = results[name][i].T
            nats_more, _, clay_more = (results[name][i] - results["PCA"][i]).T
            cells = [
                say(nats, ".0f"),
                say(nats_more, "+.0f"),
                say(r2, ".5f"),
                say(clay_r2, ".2f"),
                say(clay_more, "+.3f"),
            ]
            print(f"{d:>3}  {name:<14}" + "".join(f"{cell:>19}" for cell in cells))

    gain = {name: result[..., 0] - results["PCA"][..., 0] for name, result in results.items()}
    error = {name: (1 - result[..., 1]) / (1 - results["PCA"][..., 1]) for name, result in results.items()}
    predicted = {name: result[..., 2] for name, result in results.items()}
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for axis, values in zip(axes, (gain, error, predicted), strict=True):
        for j, (name, value) in enumerate(values.items()):
            place = np.array(N_COMPONENTS) * 2 ** (0.04 * (j - 2))  # beside each other, not on top
            axis.errorbar(place, value.mean(axis=1), value.std(axis=1), label=name, marker="o", ms=4, lw=1, capsize=2)
        axis.set_xscale("log", base=2)
        axis.set_xticks(N_COMPONENTS, N_COMPONENTS)
        axis.set_xlabel("components")
    axes[0].set(ylabel="nats a row, less PCA's", title="Density of held-out spectra (higher is better)")
    axes[1].set(ylabel="as a ratio to PCA's", title="Squared error of reconstruction (lower is better)")
    axes[2].set(ylabel="R2", title="Clay content predicted (higher is better)")
    axes[2].legend()
    figure.savefig(args.output, dpi=110)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
