"""
Images, and counts
==================

Pixels of scikit-learn's digits count how many of 16 scanned points are black. `likelihood="poisson"` is a model of such
counts, and two-dimensional convolutions know which pixels are neighbours. X stays a table with a row for each image.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

X, digit = load_digits(return_X_y=True)
train, test, digit_train, digit_test = train_test_split(X, digit, test_size=0.25, stratify=digit, random_state=0)

convolutions = {"encoder": "conv2d", "decoder": "conv2d", "input_shape": (1, 8, 8)}
models = {
    "PCA": PCA(4),
    "VAE": VAETransformer(4, random_state=0),
    "VAE, Poisson": VAETransformer(4, likelihood="poisson", random_state=0),
    "VAE, Poisson, conv2d": VAETransformer(4, likelihood="poisson", **convolutions, random_state=0),
}

# %%
# A linear classifier reads the digits from four components. The titles say how many it reads correctly, and the
# pictures are what comes back from these components.

back = {"test images": test}
for name, model in models.items():
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    reader.fit(model.fit(train).transform(train), digit_train)
    z = model.transform(test)
    back[f"{name}: {reader.score(z, digit_test):.0%} read"] = model.inverse_transform(z)

figure, axes = plt.subplots(len(back), 1, figsize=(8, 4.6), layout="constrained")
for axis, (title, images) in zip(axes, back.items(), strict=True):
    axis.imshow(np.hstack(list(images[:14].reshape(-1, 8, 8))), cmap="gray_r", vmin=0, vmax=16)
    axis.set_title(title, loc="left", fontsize=10)
    axis.axis("off")
figure.suptitle("Four components of an image of 64 pixels")
plt.show()
