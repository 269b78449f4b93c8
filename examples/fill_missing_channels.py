"""
Fill missing channels
=====================

NaN stands for a value that was not measured. The VAE is fitted to rows with NaN as they are, and `impute` fills new
ones from what the other channels say, with a standard deviation for each value that it fills in.
"""

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split

from skvae import VAETransformer

spectra = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates().iloc[:, ::2]
wavelengths = np.array([float(name.removeprefix("wl_")) for name in spectra])  # 415, in nm
train, truth = train_test_split(spectra.to_numpy(), test_size=0.25, random_state=0)

# In half of the training spectra, and in all new ones, the detector of 1,000 to 1,500 nm was off.
off = (wavelengths >= 1000) & (wavelengths < 1500)
train[::2, off] = np.nan
gaps = truth.copy()
gaps[:, off] = np.nan

vae = VAETransformer(8, random_state=0).fit(train)
filled, std = vae.impute(gaps, return_std=True)

# %%
# The error in the gap, beside what imputers of scikit-learn leave.

ways = {"column means": SimpleImputer(), "5 nearest neighbours": KNNImputer(weights="distance")}
answers = {name: imputer.fit(train).transform(gaps) for name, imputer in ways.items()} | {"VAE": filled}
for name, answer in answers.items():
    print(f"{name:<22} RMSE {np.sqrt(np.mean((answer - truth)[:, off] ** 2)):.2f} % reflectance")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
brightness = np.argsort(truth[:, off].mean(axis=1))
for row in brightness[[5, len(truth) // 2, -5]]:  # a dark, a middling and a bright soil
    left.plot(wavelengths, gaps[row], "k", lw=1.2)
    left.plot(wavelengths[off], truth[row, off], "k:", lw=1.2)
    left.plot(wavelengths[off], filled[row, off], "C1", lw=1.5)
    low, high = (filled[row, off] + sign * 1.645 * std[row, off] for sign in (-1, 1))
    left.fill_between(wavelengths[off], low, high, color="C1", alpha=0.3, lw=0)
for name, answer in list(answers.items())[1:]:
    right.plot(wavelengths[off], np.sqrt(np.mean((answer - truth)[:, off] ** 2, axis=0)), label=name)
left.axvspan(1000, 1500, color="0.93", lw=0)
left.set(title="Measured (black), not measured (dotted), filled in (orange)", ylabel="reflectance, %")
right.set(title="The VAE's error in the gap is smaller", ylabel="RMSE, % reflectance", ylim=(0, None))
left.set_xlabel("wavelength, nm")
right.set_xlabel("wavelength, nm")
right.legend()
plt.show()
