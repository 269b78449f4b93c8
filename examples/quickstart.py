"""Soil spectra: PCA, factor analysis and VAETransformer side by side, on rows none of them has seen.

460 soil samples, reflectance at 830 wavelengths (LimeSoDa's SSP.460). Prints a table and draws a figure;
takes well under two minutes on two cores.
"""

import argparse
import time

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skvae import VAETransformer

N_COMPONENTS = 4


def load():
    """Distinct spectra (460, 830), clay contents (460,) and wavelengths (830,)."""
    table = load_dataset("SSP.460")["Dataset"]
    channels = [column for column in table.columns if column.startswith("wl_")]
    table = table.drop_duplicates(subset=channels)
    wavelengths = np.array([float(column.removeprefix("wl_")) for column in channels])
    return table[channels].to_numpy(), table["Clay_target"].to_numpy(), wavelengths


def reconstruct(model, X):
    if isinstance(model, FactorAnalysis):  # has no inverse_transform
        return model.transform(X) @ model.components_ + model.mean_
    return model.inverse_transform(model.transform(X))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="quickstart.png")
    args = parser.parse_args()
    X, clay, wavelengths = load()
    train, test, clay_train, clay_test = train_test_split(X, clay, test_size=0.25, random_state=0)

    models = {
        "PCA": PCA(N_COMPONENTS),
        "FactorAnalysis": FactorAnalysis(N_COMPONENTS),
        "VAE": VAETransformer(N_COMPONENTS, random_state=0),
    }
    print(f"SSP.460: {len(train)} spectra to train on, {len(test)} held out, {N_COMPONENTS} components\n")
    print("model            score (nats)   R2 of reconstruction   R2 of clay from z   fit (s)")
    errors = {}
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - start
        residual = test - reconstruct(model, test)
        errors[name] = np.sqrt(np.mean(residual**2, axis=0))
        r2 = 1 - np.sum(residual**2) / np.sum((test - test.mean(axis=0)) ** 2)
        regression = make_pipeline(model, LinearRegression()).fit(train, clay_train)
        clay_r2 = regression.score(test, clay_test)
        print(f"{name:<16} {model.score(test):>12.1f} {r2:>22.5f} {clay_r2:>19.2f} {seconds:>9.1f}")

    vae = models["VAE"]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for name in ("PCA", "VAE"):
        left.semilogy(wavelengths, errors[name], label=name)
    left.set(xlabel="wavelength, nm", ylabel="error, % reflectance", title="Reconstruction of held-out spectra (RMSE)")
    left.legend()
    z = vae.transform(test)
    points = middle.scatter(z[:, 0], z[:, 1], c=clay_test, s=16)
    middle.set(xlabel="component 0", ylabel="component 1", title="Held-out soils in the VAE's latent space")
    figure.colorbar(points, label="clay, %")
    for draw in vae.sample(8, random_state=0):
        right.plot(wavelengths, draw, color="C1", lw=0.8, label="sampled")
    for row in test[:8]:
        right.plot(wavelengths, row, color="C0", lw=0.8, label="measured")
    right.set(xlabel="wavelength, nm", ylabel="reflectance, %", title="Spectra, measured and sampled")
    handles, labels = right.get_legend_handles_labels()
    right.legend(handles[::8], labels[::8])
    figure.savefig(args.output, dpi=110)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
