"""
Save a model, load it elsewhere
===============================

`save` writes a safetensors file: numbers, and no code, so that a file from somebody else can be loaded safely. The
model comes back to the last bit, on a machine with or without a GPU, and can be trained further.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.model_selection import train_test_split

from skvae import VAETransformer, load

spectra = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates()
train, new = train_test_split(spectra, test_size=0.25, random_state=0)

path = Path(tempfile.mkdtemp()) / "soils.safetensors"
vae = VAETransformer(4, random_state=0).fit(train)
vae.save(path)
print(f"{path.stat().st_size / 1e6:.1f} MB")

# %%
# Somewhere else:

same = load(path)
z = same.transform(new)
print("The same components, to the last bit:", np.array_equal(z, vae.transform(new)))
print("It knows its columns:", *same.feature_names_in_[:3], "...")

wavelengths = [float(name.removeprefix("wl_")) for name in same.feature_names_in_]
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.plot(wavelengths, new.to_numpy()[:5].T, "0.6", lw=2.5)
axes.plot(wavelengths, same.inverse_transform(z[:5]).T, "C1", lw=1)
axes.set(xlabel="wavelength, nm", ylabel="reflectance, %", title="Measured (grey), and back from the loaded model")
plt.show()
