"""
Choose the number of components
===============================

Scores of held-out rows say how many components the data carry: the curve rises while a component brings something new,
and falls, or stays, where it fits noise. `score` has the same unit for all three models, so they share an axis.
"""

import matplotlib.pyplot as plt
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import KFold, cross_val_score

from skvae import VAETransformer

# 115 soils; every eighth of the 1,686 channels of their infrared spectra
X = load_dataset("NRW.115")["Dataset"].filter(regex="^w[ln]_").drop_duplicates().to_numpy()[:, ::8]
folds = KFold(3, shuffle=True, random_state=0)
n_components = (2, 4, 8, 16, 32)

# %%
# The bars are standard deviations of the folds: a difference that is smaller decides nothing.

models = {
    "PCA": PCA(),
    "FactorAnalysis": FactorAnalysis(),
    "VAE": VAETransformer(random_state=0),
}
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for i, (name, model) in enumerate(models.items()):
    scores = [cross_val_score(model.set_params(n_components=d), X, cv=folds) for d in n_components]
    means = [s.mean() for s in scores]
    best = n_components[means.index(max(means))]
    print(f"{name:<15} best with {best} components: {max(means):.0f} nats per row")
    places = [d * 1.04 ** (i - 1) for d in n_components]  # beside each other
    axes.errorbar(places, means, [s.std() for s in scores], marker="o", capsize=3, label=f"{name} (best: {best})")
axes.set_xscale("log", base=2)
axes.set_xticks(n_components, n_components)
axes.set(xlabel="components", ylabel="nats per held-out row", title="New rows say how many components to take")
axes.legend()
plt.show()
