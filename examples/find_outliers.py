"""Faulty soil spectra: T2 and Q charts with their limits, log-likelihoods, and which channels make a spectrum odd.

460 soil samples, reflectance at 830 wavelengths (LimeSoDa's SSP.460). VAETransformer, PCA and an isolation forest learn
from measured spectra; half of the held-out ones get a fault. Prints a table and draws a figure; takes under a minute.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from scipy.stats import chi2, f
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skvae import VAETransformer

N_COMPONENTS, N_SPLITS, LEVEL, SHIFT = 4, 5, 0.95, 3
SEEN = slice(SHIFT, -SHIFT)  # what models see: a shift brings other channels in from beyond
FAULTS = {"spike": "C3", "drift": "C1", "shift": "C2", "gain": "C4"}


def load():
    """Distinct spectra (460, 830), and wavelengths (830,)."""
    spectra = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates()
    return spectra.to_numpy(), np.array([float(column.removeprefix("wl_")) for column in spectra])


def with_fault(X, spread, kind, rng):
    """The rows X with a fault each, of random sign; `spread` (n_channels,) is the channels' standard deviation."""
    p, sign = X.shape[1], rng.choice([-1, 1], size=(len(X), 1))
    if kind == "spike":  # half a standard deviation, at one channel
        return X + sign * 0.5 * spread * (np.arange(p) == rng.integers(SHIFT, p - SHIFT, size=sign.shape))
    if kind == "drift":  # the baseline tilts, by 0.15 standard deviations at the ends
        return X + sign * 0.15 * spread.mean() * np.linspace(-1, 1, p)
    if kind == "shift":
        return np.where(sign > 0, np.roll(X, SHIFT, axis=1), np.roll(X, -SHIFT, axis=1))
    return X * (1 + 0.2 * sign)


class ChartedPCA(PCA):
    """PCA with the charts that VAETransformer has, and the same limits."""

    def hotelling_t2(self, X):
        return np.sum(self.transform(X) ** 2 / self.explained_variance_, axis=1)

    def q_residuals(self, X):
        return np.sum((X - self.inverse_transform(self.transform(X))) ** 2, axis=1)

    def hotelling_t2_limit(self, level):
        n, d = self.n_samples_, self.n_components_
        return d * (n**2 - 1) / (n * (n - d)) * f.ppf(level, d, n - d)

    def q_residuals_limit(self, level):
        mean, variance = self.q_of_training.mean(), self.q_of_training.var()
        return variance / (2 * mean) * chi2.ppf(level, 2 * mean**2 / variance)

    def fit(self, X, y=None):
        self.q_of_training = super().fit(X).q_residuals(X)
        return self


def scores(model, train):
    """Name -> a function of rows, greater for odder ones, and its limit."""

    def nats(X):
        return -model.score_samples(X)

    found = {"-score_samples": (nats, np.quantile(nats(train), LEVEL))}
    if not isinstance(model, IsolationForest):
        found["T2"] = model.hotelling_t2, model.hotelling_t2_limit(LEVEL)
        found["Q"] = model.q_residuals, model.q_residuals_limit(LEVEL)
    return found


def measure(X, seed):
    """Fitted models, the rows that get faults, held-out rows by fault, and score -> ROC AUCs and false alarms."""
    train, test = train_test_split(X, test_size=0.25, random_state=seed)
    half, other = np.array_split(test, 2)
    rng, spread = np.random.default_rng(seed), train.std(axis=0)
    faulty = {kind: with_fault(half, spread, kind, rng)[:, SEEN] for kind in FAULTS}
    train, test, half, other = train[:, SEEN], test[:, SEEN], half[:, SEEN], other[:, SEEN]
    vae, forest = VAETransformer(N_COMPONENTS, random_state=seed), IsolationForest(random_state=seed)
    models = {"VAE": vae, "PCA": ChartedPCA(N_COMPONENTS), "IsolationForest": forest}
    truth, table = np.repeat([0, 1], [len(other), len(half)]), {}
    for name, model in models.items():
        for label, (score, limit) in scores(model.fit(train), train).items():
            auc = [roc_auc_score(truth, score(np.concatenate([other, rows]))) for rows in faulty.values()]
            table[f"{name}: {label}"] = [*auc, np.mean(score(test) > limit)]
    return models, half, {"as measured": other} | faulty, table


def draw(models, half, held_out, wavelengths, path):
    figure, axes = plt.subplot_mosaic("PVL;PVR", figsize=(15, 5.2), width_ratios=[1, 1, 1.1], layout="constrained")
    axes["V"].sharex(axes["P"])
    axes["V"].sharey(axes["P"])
    for axis, name in (axes["P"], "PCA"), (axes["V"], "VAE"):
        model = models[name]
        for kind, rows in held_out.items():
            t2 = model.hotelling_t2(rows) / model.hotelling_t2_limit(LEVEL)
            q = model.q_residuals(rows) / model.q_residuals_limit(LEVEL)
            axis.loglog(t2, q, "o", ms=4.5, alpha=0.75, mew=0, color=FAULTS.get(kind, "k"), label=kind)
        axis.axvline(1, color="k", lw=0.8, ls="--")
        axis.axhline(1, color="k", lw=0.8, ls="--")
        title = f"{name}: held-out spectra and {100 * LEVEL:.0f} % limits"
        axis.set(xlabel="T2 / its limit", ylabel="Q / its limit", title=title)
    figure.legend(*axes["P"].get_legend_handles_labels(), loc="outside lower center", ncols=len(held_out))
    vae, left, right = models["VAE"], axes["L"], axes["R"]
    nats = {kind: vae.score_samples(rows) for kind, rows in held_out.items()}
    boxes = left.boxplot(nats.values(), tick_labels=nats, orientation="horizontal", whis=(5, 95), showfliers=False)
    for median, kind in zip(boxes["medians"], nats, strict=True):
        median.set(color=FAULTS.get(kind, "k"), lw=2)
    left.invert_yaxis()
    left.set(xlabel="nats; whiskers at 5 and 95 % of the spectra", title="VAE: score_samples")
    flagged, fine = (vae.q_residuals(rows) > vae.q_residuals_limit(LEVEL) for rows in (held_out["drift"], half))
    row = np.argmax(flagged & ~fine)  # the first that its drift brings above Q's limit
    for kind, rows in {"drift": held_out["drift"], "spike": held_out["spike"], "as measured": half}.items():
        mean, std = vae.reconstruct(rows[[row]], return_std=True)
        right.plot(wavelengths, (rows[row] - mean[0]) / std[0], color=FAULTS.get(kind, "k"), lw=1)
    right.set_yscale("symlog", linthresh=5)  # a spike is far above all else
    right.set_yticks([-5, 0, 5, 50], ["-5", "0", "5", "50"])
    right.set(xlabel="wavelength, nm", ylabel="residual / its sd", title="VAE: the channels that make one soil odd")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="find_outliers.png")
    args = parser.parse_args()
    X, wavelengths = load()
    splits = [measure(X, seed) for seed in range(N_SPLITS)]
    print(f"SSP.460, {N_COMPONENTS} components; mean ± standard deviation of {N_SPLITS} splits\n")
    print(f"{'ROC AUC of':<34}" + "".join(f"{kind:<14}" for kind in FAULTS) + "false alarms")
    for label in splits[0][-1]:
        values = np.array([table[label] for *_, table in splits])
        cells = [f"{mean:.2f} ± {sd:.2f}" for mean, sd in zip(values.mean(axis=0), values.std(axis=0), strict=True)]
        print(f"{label:<34}" + "   ".join(cells))
    print("\nFalse alarms: share of spectra, as measured, above limits: T2's and Q's by formula, score_samples'")
    print(f"from the training rows' quantile. Nominal: {1 - LEVEL:.2f}.")
    draw(*splits[0][:-1], wavelengths[SEEN], args.output)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
