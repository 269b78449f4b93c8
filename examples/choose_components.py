"""
Choose the number of components
===============================

Scores of held-out rows say how many components the data carry: the curve rises while a component brings something new,
and falls, or stays, where it fits noise. `score` has the same unit for all three models, so they share an axis.
"""

import matplotlib.pyplot as plt
from LimeSoDa import load_dataset
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import KFold

from skvae import VAETransformer, compare

# 115 soils; every eighth of the 1,686 channels of their infrared spectra
X = load_dataset("NRW.115")["Dataset"].filter(regex="^w[ln]_").drop_duplicates().to_numpy()[:, ::8]
folds = KFold(3, shuffle=True, random_state=0)
n_components = (2, 4, 8, 16, 32)

# %%
# `compare` fits each model on the same splits. The bars are standard deviations of the folds: a difference that is
# smaller decides nothing.

models = {"PCA": PCA(), "FactorAnalysis": FactorAnalysis(), "VAE": VAETransformer(random_state=0)}
candidates = {
    f"{name}, {d}": clone(model).set_params(n_components=d) for name, model in models.items() for d in n_components
}
comparison = compare(X, candidates, cv=folds)
print(comparison)

# %%
# `n_components="auto"` looks at the linear model alone, which takes a moment.

auto = VAETransformer("auto", random_state=0).fit(X).n_components_
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
nats = comparison.scores["nats"].reshape(len(models), len(n_components), -1)
for i, (name, scores) in enumerate(zip(models, nats, strict=True)):
    places = [d * 1.04 ** (i - 1) for d in n_components]  # beside each other
    best = n_components[scores.mean(axis=1).argmax()]
    label = f"{name} (best: {best})"
    axes.errorbar(places, scores.mean(axis=1), scores.std(axis=1), marker="o", capsize=3, label=label)
axes.axvline(auto, color="0.6", ls=":", label=f'n_components="auto": {auto}')
axes.set_xscale("log", base=2)
axes.set_xticks(n_components, n_components)
axes.set(xlabel="components", ylabel="nats per held-out row", title="New rows say how many components to take")
axes.legend()
plt.show()
