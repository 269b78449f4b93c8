"""Spectra with holes: fit on them, fill them, and say how sure one is of what was filled.

460 soil samples, reflectance at 415 wavelengths (every second of LimeSoDa's SSP.460). In some spectra the detector of
one stretch of wavelengths was off, and a tenth of all values dropped out at random. Prints a table of ways to fill the
held-out spectra and draws a figure; takes well under two minutes on one core.
"""

import argparse
import time

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skvae import VAETransformer

N_COMPONENTS = 8
OFF = (1000, 1500)  # nm, where the detector fails


def load():
    """Distinct spectra (460, 415), clay contents (460,) and wavelengths (415,)."""
    table = load_dataset("SSP.460")["Dataset"]
    channels = [column for column in table.columns if column.startswith("wl_")]
    table = table.drop_duplicates(subset=channels)
    channels = channels[::2]
    wavelengths = np.array([float(column.removeprefix("wl_")) for column in channels])
    return table[channels].to_numpy(), table["Clay_target"].to_numpy(), wavelengths


def make_gaps(X, off, share_off, rng):
    """X with NaN at a tenth of its values, and at the channels `off` in a share of the rows."""
    dropped = rng.random(X.shape) < 0.1
    failed = rng.random(len(X)) < share_off
    return np.where(dropped | (failed[:, None] & off), np.nan, X)


def iterative_pca(train, test, max_iter=2000, tol=1e-4):
    """Fill both with column means, then again and again with what PCA makes of the filled spectra, till it settles."""
    rows = np.vstack([train, test])
    missing = np.isnan(rows)
    filled = np.where(missing, np.nanmean(rows, axis=0), rows)
    for _ in range(max_iter):
        pca = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit(filled)
        refilled = np.where(missing, pca.inverse_transform(pca.transform(filled)), rows)
        change, filled = np.abs(refilled - filled).max(), refilled
        if change < tol:
            break
    return filled[len(train) :]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="missing_channels.png")
    args = parser.parse_args()
    X, clay, wavelengths = load()
    train, truth, clay_train, clay_test = train_test_split(X, clay, test_size=0.25, random_state=0)
    off, rng = (wavelengths >= OFF[0]) & (wavelengths < OFF[1]), np.random.default_rng(0)
    train_gaps, test_gaps = make_gaps(train, off, 0.5, rng), make_gaps(truth, off, 1.0, rng)
    missing = np.isnan(test_gaps)
    print(f"SSP.460: {len(train)} spectra to train on, {np.isnan(train_gaps).mean():.0%} of their values missing;")
    print(f"{len(truth)} held out, {missing.mean():.0%} missing: {OFF[0]} to {OFF[1]} nm, and a tenth of the rest\n")

    vae = VAETransformer(N_COMPONENTS, random_state=0)
    ways = {
        "column means": lambda: SimpleImputer().fit(train_gaps).transform(test_gaps),
        "5 nearest neighbours": lambda: KNNImputer(weights="distance").fit(train_gaps).transform(test_gaps),
        "iterative PCA": lambda: iterative_pca(train_gaps, test_gaps),
        "VAE": lambda: vae.fit(train_gaps).impute(test_gaps),
    }
    print("                        RMSE, % reflectance")
    print("filled by               detector off   dropouts       s")
    errors = {}
    for name, fill in ways.items():
        start = time.perf_counter()
        error = np.where(missing, fill() - truth, np.nan)
        seconds = time.perf_counter() - start
        errors[name] = np.sqrt(np.nanmean(error**2, axis=0))
        block, rest = (np.sqrt(np.nanmean(error[:, channels] ** 2)) for channels in (off, ~off))
        print(f"{name:<22} {block:>13.3f} {rest:>10.3f} {seconds:>7.1f}")

    filled, std = vae.impute(test_gaps, return_std=True)
    within = np.abs(filled - truth)[missing] < 1.645 * std[missing]
    print(f"\nOf the VAE's 90 % intervals, {within.mean():.0%} hold the true value.\n")

    print("R2 of clay in held-out spectra, by linear regression on 8 components")
    complete = make_pipeline(VAETransformer(N_COMPONENTS, random_state=0), LinearRegression()).fit(train, clay_train)
    gappy = make_pipeline(vae, LinearRegression()).fit(train_gaps, clay_train)
    means = make_pipeline(SimpleImputer(), PCA(N_COMPONENTS), LinearRegression()).fit(train_gaps, clay_train)
    print(f"VAE, spectra complete                {complete.score(truth, clay_test):.2f}")
    print(f"VAE, spectra with gaps               {gappy.score(test_gaps, clay_test):.2f}")
    print(f"column means, PCA, spectra with gaps {means.score(test_gaps, clay_test):.2f}")

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
    brightness = np.argsort(truth[:, off].mean(axis=1))
    shown = brightness[[len(truth) // 20, len(truth) // 2, -len(truth) // 20]]  # a dark, a middling and a bright soil
    for row in shown:
        left.plot(wavelengths, test_gaps[row], color="C0", lw=1.6, label="measured")
        left.plot(wavelengths[off], filled[row, off], color="C1", lw=1.4, label="imputed")
    left.legend(*(part[:2] for part in left.get_legend_handles_labels()), loc="upper left")
    left.set(ylabel="reflectance, %", title="Held-out spectra, detector off in grey")
    for row, color in zip(shown, ("C4", "C1", "C5"), strict=True):
        error, half_width = filled[row, off] - truth[row, off], 1.645 * std[row, off]
        middle.fill_between(wavelengths[off], error - half_width, error + half_width, color=color, alpha=0.25, lw=0)
        middle.plot(wavelengths[off], error, color=color, lw=1.2, label=f"{truth[row, off].mean():.0f} % reflectance")
    middle.axhline(0, color="0.3", lw=0.8)
    middle.legend()
    middle.set(ylabel="imputed less true, % reflectance", title="The same three, with 90 % intervals")
    for name, color in zip(errors, ("0.5", "C2", "C3", "C1"), strict=True):
        right.semilogy(wavelengths, errors[name], color=color, lw=1, label=name)
    right.set(ylabel="RMSE, % reflectance", title="Error of imputed values", ylim=(errors["VAE"].min() / 15, None))
    right.legend(ncols=2, loc="lower center")
    for axes in (left, right):
        axes.axvspan(*OFF, color="0.93", lw=0)
        axes.set_xlim(*wavelengths[[0, -1]])
    for axes in (left, middle, right):
        axes.set_xlabel("wavelength, nm")
    figure.savefig(args.output, dpi=110)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
