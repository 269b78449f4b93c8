"""
Predict clay content from the components of PLS, PCA and a VAE
==============================================================

A calibration predicts a property of a sample from its spectrum. Partial least squares (PLS) looks at the property when
it chooses its components; PCA and the VAE do not. So try PLS first when the prediction is all that you want, and ridge
regression on all wavelengths, which needs no components. The components of PCA and of the VAE serve every property,
and can learn from spectra without one.
"""

import matplotlib.pyplot as plt
from LimeSoDa import load_dataset
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from skvae import VAETransformer, compare

table = load_dataset("SSP.460")["Dataset"]  # 460 soils; reflectance in % at 830 wavelengths
X = table.filter(regex="^wl_").to_numpy()[:, ::4]
clay = table["Clay_target"].to_numpy(float)

# %%
# `compare` fits the components in each fold anew, on the training rows of that fold alone, and a ridge regression to
# them. Regression on the components of PCA is principal component regression (PCR).

n_components = (2, 4, 8)
models = {"PLS": PLSRegression, "PCA": PCA, "VAE": lambda d: VAETransformer(d, random_state=0)}
candidates = {f"{name}, {d}": model(d) for name, model in models.items() for d in n_components}
comparison = compare(X, candidates, clay, cv=KFold(5, shuffle=True, random_state=0))
print(comparison)

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
scores = comparison.scores["downstream"].reshape(len(models), len(n_components), -1)
for name, r2 in zip(models, scores, strict=True):
    axes.errorbar(n_components, r2.mean(axis=1), r2.std(axis=1), marker="o", capsize=3, label=name)
axes.set_xscale("log", base=2)
axes.set_xticks(n_components, n_components)
axes.set(xlabel="components", ylabel="R2 of clay content, five folds", title="To predict one property, try PLS first")
axes.legend()
plt.show()
