"""Synthetic float32 rows near a curved surface: a random one-layer tanh network of standard normal z, and noise."""

import numpy as np


def sample(n, p, d, n_hidden, noise, seed=0):
    """Rows (n, p) near a surface of d dimensions, with noise of this standard deviation."""
    rng = np.random.RandomState(seed)
    z = rng.standard_normal((n, d))
    X = np.tanh(z @ rng.standard_normal((d, n_hidden))) @ rng.standard_normal((n_hidden, p))
    return (X + noise * rng.standard_normal((n, p))).astype(np.float32)


def normal_noise(rng, shape):
    """Independent noise of standard deviation 0.3."""
    return 0.3 * rng.standard_normal(shape)


def fill(X, d, n_hidden, height=1.0, noise=normal_noise, block=10_000):
    """Fill X (n, p) with such rows, block by block, so that X may be a mapped file, and return it.

    Parameters
    ----------
    X : ndarray or memmap of float32
    d, n_hidden : int
        Dimensions of the surface, and width of the network's layer.
    height : float, default=1.0
        Factor on the surface.
    noise : callable, default=normal_noise
        (RandomState, shape of a block) -> its noise.
    block : int, default=10_000
        Rows at a time.
    """
    rng = np.random.RandomState(0)
    first, second = rng.standard_normal((d, n_hidden)), height * rng.standard_normal((n_hidden, X.shape[1]))
    for start in range(0, len(X), block):
        rows = X[start : start + block]
        curved = np.tanh(rng.standard_normal((len(rows), d)) @ first) @ second
        rows[:] = curved + noise(rng, rows.shape)
    return X
