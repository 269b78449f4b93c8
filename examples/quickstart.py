"""
PCA beside a VAE, on soil spectra
=================================

Three models of eight components learn from soil spectra, and spectra of other places test them. `score` is the mean
log-likelihood of a spectrum, in nats; R2 is the share of the variance that comes back from the components.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from earthlib import full_library
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupShuffleSplit

from skvae import VAETransformer

# Reflectance (0 to 1) at 180 wavelengths. Spectra of one place stay together, as neighbours are no test.
about, wavelengths = full_library.metadata, full_library.sensor.band_centers
is_soil = ((about["LEVEL_3"] == "soil") & (about["LEVEL_4"] == "measured")).to_numpy()
X = full_library.data[is_soil].astype(float)
place = about[is_soil].groupby(["LAT", "LON"], dropna=False).ngroup()
train, test = (X[rows] for rows in next(GroupShuffleSplit(1, test_size=0.25, random_state=0).split(X, groups=place)))

models = {"PCA": PCA(8), "FactorAnalysis": FactorAnalysis(8), "VAE": VAETransformer(8, random_state=0)}
back, table = {}, []
for name, model in models.items():
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    z, linear = model.transform(test), name == "FactorAnalysis"  # which has no inverse_transform
    back[name] = z @ model.components_ + model.mean_ if linear else model.inverse_transform(z)
    r2 = r2_score(test, back[name], multioutput="variance_weighted")
    table.append([name, f"{model.score(test):.0f}", f"{r2:.4f}", f"{seconds:.1f}"])

# %%
# The table, and the errors that stand behind it. Most of what PCA leaves over is curved, and the VAE follows it.

heads = ["", "score, nats", "R2", "fit, s"]
print(*(f"{a:<15} {b:>12} {c:>8} {d:>8}" for a, b, c, d in [heads, *table]), sep="\n")
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.6), width_ratios=[1, 1, 0.8], layout="constrained")
row = np.argmax(np.sum((back["PCA"] - test) ** 2, axis=1))  # the spectrum that PCA describes worst
for name, color in {"PCA": "C0", "VAE": "C1"}.items():
    rmse = np.sqrt(np.mean((back[name] - test) ** 2, axis=0))
    left.plot(wavelengths, 100 * rmse, color, label=name)
    middle.plot(wavelengths, 100 * back[name][row], color, label=name)
middle.plot(wavelengths, 100 * test[row], "k", lw=1, label="measured")
for axes in (left, middle):
    axes.legend()
    axes.set_xlabel("wavelength, µm")
left.set(title="New spectra: the VAE's error is smaller", ylabel="RMSE, % reflectance", ylim=(0, None))
middle.set(title="The soil that PCA describes worst", ylabel="reflectance, %")
cells = right.table(table, colLabels=heads, colWidths=[0.38, 0.3, 0.2, 0.17], loc="upper center", edges="horizontal")
cells.auto_set_font_size(False)
cells.scale(1, 2.2)
right.set(title=f"{len(test):,} new spectra, 8 components", frame_on=False, xticks=[], yticks=[])
figure.savefig("quickstart.png", dpi=110)
print("\nThe figure is in quickstart.png")
