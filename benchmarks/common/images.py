"""Images as rows in [0, 1]: MNIST and Fashion-MNIST, and scikit-learn's digits where nothing may be downloaded.

`load(name)` gives training rows, test rows and the images' shape. `mnist.npz` and `fashion_mnist.npz` (X_train
and X_test, uint8, 28 x 28) are read from the folder that the environment variable SKVAE_DATA names; without it
they come from openml.org, through scikit-learn.
"""

import os
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, load_digits

OPENML = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}
N_TRAIN = 60_000
IMAGES = (*OPENML, "digits")


def _read(name):
    """Training and test images, flat, and the brightest value that a pixel can have."""
    if name == "digits":  # 8 x 8, shipped with scikit-learn
        X = load_digits().data
        return X[:1_400], X[1_400:], 16
    if folder := os.environ.get("SKVAE_DATA"):
        with np.load(Path(folder) / f"{name}.npz") as file:
            train, test = file["X_train"], file["X_test"]
        return train.reshape(len(train), -1), test.reshape(len(test), -1), 255
    X = fetch_openml(OPENML[name], version=1, as_frame=False, parser="auto").data
    return X[:N_TRAIN], X[N_TRAIN:], 255


def load(name):
    """Return float32 rows (train, test) in [0, 1] and their shape (1, height, width); no test row is among train's."""
    train, test, brightest = _read(name)
    seen = {row.tobytes() for row in np.ascontiguousarray(train)}
    new = np.array([row.tobytes() not in seen for row in np.ascontiguousarray(test)])
    if not new.all():
        print(f"{name}: {np.sum(~new)} of {len(test)} test rows are in the training set too, and left out")
    side = round(train.shape[1] ** 0.5)
    train, test = (np.divide(X, brightest, dtype=np.float32) for X in (train, test[new]))
    return train, test, (1, side, side)


def binarise(X, seed):
    """0 or 1, drawn once, with a pixel's brightness as its probability of being 1."""
    return (np.random.RandomState(seed).random_sample(X.shape) < X).astype(np.float32)
