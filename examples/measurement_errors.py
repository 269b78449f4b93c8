"""
Spectra with known errors
=========================

Instruments tell how far each value may be off. `X_std` takes these errors, one for each value: what a precise value
says then counts for more than what a noisy one says, in training and for each new spectrum.
"""

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA

from skvae import VAETransformer

spectra = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates().iloc[:, ::4]
wavelengths = np.array([float(name.removeprefix("wl_")) for name in spectra])  # 208, in nm

# Measured in a hurry or with patience, by detectors that are poor at their ends. Every fourth soil is new.
rng = np.random.default_rng(0)
truth = spectra.to_numpy()
at_ends = 1 + 6 * ((wavelengths < 500) + (wavelengths > 2300))
errors = np.exp(rng.uniform(np.log(0.1), np.log(3), (len(truth), 1))) * at_ends  # % reflectance
measured = truth + errors * rng.standard_normal(truth.shape)
new = np.arange(len(truth)) % 4 == 0

vae = VAETransformer(8, random_state=0).fit(measured[~new], X_std=errors[~new])
found, std = vae.reconstruct(measured[new], return_std=True, X_std=errors[new])

# %%
# How far the spectra that are found lie from those without error. PCA and a VAE that is not told of the errors give
# some of their components to the noise of the worst rows.

pca = PCA(8).fit(measured[~new])
unaware = VAETransformer(8, random_state=0).fit(measured[~new])
answers = {
    "as measured": measured[new],
    "PCA": pca.inverse_transform(pca.transform(measured[new])),
    "VAE without X_std": unaware.reconstruct(measured[new]),
    "VAE with X_std": found,
}
for name, answer in answers.items():
    print(f"{name:<20} RMSE {np.sqrt(np.mean((answer - truth[new]) ** 2)):.2f} % reflectance")

row = np.argsort(errors[new][:, 100])[-8]  # one of the worst
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
for ax, name, color in ((left, "VAE with X_std", "C1"), (right, "PCA", "C0")):
    ax.errorbar(wavelengths, measured[new][row], errors[new][row], fmt=".", color="0.8", ms=3, zorder=0)
    ax.plot(wavelengths, truth[new][row], "k", lw=1.2, label="without error")
    ax.plot(wavelengths, answers[name][row], color, lw=1.5, label=name)
    ax.set(title=f"{name}, from the grey points", xlabel="wavelength, nm")
left.fill_between(wavelengths, *(found[row] + sign * 1.645 * std[row] for sign in (-1, 1)), color="C1", alpha=0.3, lw=0)
left.set(ylabel="reflectance, %", ylim=(truth[new][row].min() - 10, truth[new][row].max() + 10))
for ax in (left, right):
    ax.legend(loc="lower right")
plt.show()
