"""
Sample new spectra
==================

A VAE is a model of the data: `sample` draws rows from it, noise included. `inverse_transform` of standard normal
components gives the same spectra without noise. A classifier that cannot tell samples from new measured spectra says
that the samples are good; it finds what is missing otherwise.
"""

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

spectra = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates()
wavelengths = [float(name.removeprefix("wl_")) for name in spectra]
train, test = train_test_split(spectra.to_numpy(), test_size=0.5, random_state=0)

vae = VAETransformer(8, random_state=0).fit(train)
samples = vae.sample(len(test), random_state=0)
smooth = vae.inverse_transform(np.random.default_rng(0).normal(size=(len(test), 8)))

# %%
# Accuracy 0.5 is guessing. Measured spectra against measured spectra show what the test itself makes of equals.

classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
for name, rows in {"measured spectra": train, "samples of the VAE": samples}.items():
    n = min(len(rows), len(test))
    accuracy = cross_val_score(classifier, np.vstack([rows[:n], test[:n]]), np.repeat([0, 1], n), cv=5).mean()
    print(f"{name:<20} told from new measured spectra with accuracy {accuracy:.2f}")

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, layout="constrained")
titles = {"Measured, not in training": test, "Sampled": samples, "Sampled, without noise": smooth}
for axis, (title, rows) in zip(axes, titles.items(), strict=True):
    axis.plot(wavelengths, rows[:20].T, color="C0" if rows is test else "C1", lw=0.7)
    axis.set(title=title, xlabel="wavelength, nm")
axes[0].set_ylabel("reflectance, %")
plt.show()
