"""
Sample new spectra
==================

A VAE is a model of the data: `sample` draws rows from it, with the noise of a measurement or without. If a classifier
cannot tell these from new measured spectra, they are good; if it can, something is missing in them. PCA and factor
analysis are models, too: normal distributions with the covariance that they have fitted.
"""

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

spectra = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates()
wavelengths = [float(name.removeprefix("wl_")) for name in spectra]
train, test = train_test_split(spectra.to_numpy(), test_size=0.5, random_state=0)

vae, rng = VAETransformer(8, random_state=0).fit(train), np.random.default_rng(0)
samples = {"VAE": vae.sample(len(test), random_state=0)}
for linear in (PCA(8), FactorAnalysis(8)):
    covariance = linear.fit(train).get_covariance()
    samples[type(linear).__name__] = rng.multivariate_normal(linear.mean_, covariance, len(test))

# %%
# Accuracy 0.5 is guessing. Measured spectra against measured spectra show what the test itself makes of equals. Each
# classifier sees another fault: a linear one the means, trees the distribution of single channels. On these spectra no
# model's samples pass as measured ones, and those of factor analysis come nearest.

logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
trees = HistGradientBoostingClassifier(max_iter=30, max_features=0.1, random_state=0)
for name, rows in ({"measured spectra": train} | samples).items():
    n = min(len(rows), len(test))
    both, which = np.vstack([rows[:n], test[:n]]), np.repeat([0, 1], n)
    told = [cross_val_score(classifier, both, which, cv=5).mean() for classifier in (logistic, trees)]
    print(f"{name:<18} told from new measured spectra: linear {told[0]:.2f}, trees {told[1]:.2f}")

# %%
# Given the visible part of a spectrum, the VAE draws infrared parts that go with it. Like the intervals of `impute`,
# they lie too close together where the model extrapolates.

given = np.where(np.array(wavelengths) < 1000, test[:1], np.nan)
titles = {"Measured, not in training": test[:20], "VAE": samples["VAE"][:20], "PCA": samples["PCA"][:20]}
titles |= {"VAE, without noise": vae.sample(20, 0, noise=False), "Given up to 1,000 nm": vae.sample(20, 0, given=given)}
figure, axes = plt.subplots(1, 5, figsize=(16, 3.4), sharey=True, layout="constrained")
for axis, (title, rows) in zip(axes, titles.items(), strict=True):
    axis.plot(wavelengths, rows.T, color="C0" if title.startswith("Measured") else "C1", lw=0.7)
    axis.set(title=title, xlabel="wavelength, nm")
axes[4].plot(wavelengths, test[0], "k", lw=1)  # as it was measured
axes[0].set_ylabel("reflectance, %")
plt.show()
