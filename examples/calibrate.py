"""
Predict clay content: PLS, PCR and a regression on VAE components
=================================================================

A calibration predicts a property of a sample from its spectrum. Partial least squares (PLS) looks at the property when
it chooses its components; PCA and the VAE do not. So PLS is the first thing to try when the prediction is all that you
want. The components of PCA and of the VAE serve every property, and can learn from spectra without one.
"""

import matplotlib.pyplot as plt
from LimeSoDa import load_dataset
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

table = load_dataset("SSP.460")["Dataset"]  # 460 soils; reflectance in % at 830 wavelengths
X = table.filter(regex="^wl_").to_numpy()[:, ::4]
clay = table["Clay_target"].to_numpy()
folds = KFold(5, shuffle=True, random_state=0)


def regression_on(model):
    return make_pipeline(model, StandardScaler(), RidgeCV())


# %%
# A Pipeline fits the components in each fold anew, on the training rows of that fold alone.

n_components = (2, 4, 8)
models = {
    "PLS": lambda d: PLSRegression(d),
    "PCA, then regression (PCR)": lambda d: regression_on(PCA(d)),
    "VAE, then regression": lambda d: regression_on(VAETransformer(d, random_state=0)),
}
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for name, model_of in models.items():
    r2 = [cross_val_score(model_of(d), X, clay, cv=folds) for d in n_components]
    print(f"{name:<28}" + "   ".join(f"{s.mean():.3f} ± {s.std():.3f}" for s in r2))
    axes.errorbar(n_components, [s.mean() for s in r2], [s.std() for s in r2], marker="o", capsize=3, label=name)
axes.set_xscale("log", base=2)
axes.set_xticks(n_components, n_components)
axes.set(xlabel="components", ylabel="R2 of clay content, five folds", title="To predict one property, try PLS first")
axes.legend()
plt.show()
