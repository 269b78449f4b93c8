"""
Look at the components
======================

`LoadingsDisplay` shows how a spectrum changes with each component, as PCA's `components_` do. The components of a VAE
bend: `TraversalDisplay` moves along one and draws the spectra there. `LatentDisplay` draws the rows in two components,
each with its uncertainty.
"""

import matplotlib.pyplot as plt
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skvae import VAETransformer
from skvae.displays import LatentDisplay, LoadingsDisplay, TraversalDisplay

table = load_dataset("SSP.460")["Dataset"]  # reflectance in % at 830 wavelengths
spectra = table.filter(regex="^wl_").drop_duplicates()
train, test, _, clay = train_test_split(spectra, table.loc[spectra.index, "Clay_target"], random_state=0)

vae = VAETransformer(4, random_state=0).fit(train)
print("Share of the variance that each component brings back:", vae.explained_variance_ratio_.round(4))
print("Nats that each component tells of a spectrum:", vae.kl_per_component_.round(1))

# %%
# The displays are made as scikit-learn's: `from_estimator` computes and draws. Dashed lines are PCA's loadings.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
LoadingsDisplay.from_estimator(vae, test, components=(0, 1, 2), beside=PCA(4).fit(train), ax=left, unit="nm")
TraversalDisplay.from_estimator(vae, component=1, ax=middle, unit="nm")
LatentDisplay.from_estimator(vae, test, clay, n_std=2, y_name="clay, %", ax=right)
left.set(ylabel="reflectance, % per unit of the component", title="What each component does to a spectrum")
middle.set(ylabel="reflectance, %", title="Spectra along component 1")
right.set_title("Clay content goes along with the components")
plt.show()
