"""
One grid search for PCA, factor analysis and VAEs
=================================================

`score` is the same quantity for all three, so that a search can choose among them. A search for the best prediction
takes the score of the Pipeline's last step instead, and may choose another model.
"""

import matplotlib.pyplot as plt
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from skvae import VAETransformer

table = load_dataset("NRW.115")["Dataset"].drop_duplicates()  # 115 soils, infrared spectra
X, clay = table.filter(regex="^w[ln]_").to_numpy()[:, ::8], table["Clay_target"].to_numpy()
folds = KFold(3, shuffle=True, random_state=0)
candidates = [
    {"model": [PCA(), FactorAnalysis()], "model__n_components": [4, 8, 16]},
    {
        "model": [VAETransformer(random_state=0)],
        "model__n_components": [4, 8, 16],
        "model__likelihood": ["gaussian", "gaussian_diag"],
    },
]

# %%
# First by density, then by the prediction of the clay content. On these 115 spectra factor analysis wins the first
# search and PCA the second, each with 16 components.

density = GridSearchCV(Pipeline([("model", PCA())]), candidates, cv=folds).fit(X)
prediction = GridSearchCV(Pipeline([("model", PCA()), ("regression", RidgeCV())]), candidates, cv=folds).fit(X, clay)
titles = {"Density: nats per held-out row": density, "Prediction: R2 of clay content": prediction}

figure, axes = plt.subplots(1, 2, figsize=(12, 3.6), sharey=True, layout="constrained")
for axis, (title, search) in zip(axes, titles.items(), strict=True):
    found = search.cv_results_
    labels = [
        ", ".join([type(params["model"]).__name__, *(str(params[name]) for name in params if name != "model")])
        for params in found["params"]
    ]
    axis.errorbar(found["mean_test_score"], range(len(labels)), xerr=found["std_test_score"], fmt="o", capsize=3)
    axis.plot(found["mean_test_score"][search.best_index_], search.best_index_, "o", ms=12, mfc="none", mec="C3")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_title(title)
    print(f"{title}: {labels[search.best_index_]}")
axes[0].invert_yaxis()
figure.supxlabel("mean and standard deviation of three folds; the best is ringed")
plt.show()
