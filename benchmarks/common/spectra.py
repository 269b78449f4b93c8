"""Real spectra that install with pip, deduplicated, and honest held-out splits of them.

`load(name)` gives the rows and the label of the block that each row belongs to: neighbouring pixels
and neighbouring times are alike, so whole blocks are held out; elsewhere each row is its own block.
"""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit


def _indian_pines():
    """Airborne image, 145 x 145 pixels of 200 bands; blocks are tiles of 29 x 29 pixels."""
    from tensorly.datasets import load_indian_pines

    cube = np.asarray(load_indian_pines()["tensor"], dtype=np.float64)
    row, column = np.indices(cube.shape[:2]) // 29
    return cube.reshape(-1, cube.shape[-1]), (5 * row + column).ravel()


def _soil():
    """Laboratory reflectance of soils, 180 bands from 400 to 2450 nm; blocks are the sampling sites."""
    from earthlib import full_library

    about = full_library.metadata.reset_index(drop=True)
    rows = ((about["LEVEL_3"] == "soil") & (about["LEVEL_4"] == "measured")).to_numpy()
    sites = about[rows].groupby(["LAT", "LON"], dropna=False).ngroup()
    return np.asarray(full_library.data, dtype=np.float64)[rows], sites.to_numpy()


def _limesoda(name):
    """Soil spectra of the LimeSoDa collection."""
    from LimeSoDa import load_dataset

    table = load_dataset(name)["Dataset"]
    spectra = table[[c for c in table.columns if c.startswith(("wl_", "wn_"))]]
    return spectra.to_numpy(dtype=np.float64), None


def _coffee():
    """Infrared spectra of 60 coffees, 1841 channels."""
    from chemotools.datasets import load_coffee

    return np.asarray(load_coffee()[0], dtype=np.float64), None


def _fermentation():
    """On-line infrared spectra of a fermentation, 1629 times; blocks are 20 stretches of time.

    Cut to 950-1550 cm^-1, as chemotools' own tutorial does: outside are a saturated detector and dead channels.
    """
    from chemotools.datasets import load_fermentation_test, load_fermentation_train

    wavenumbers = np.asarray(load_fermentation_train()[0].columns, dtype=np.float64)
    X = np.asarray(load_fermentation_test()[0], dtype=np.float64)
    return X[:, (wavenumbers > 950) & (wavenumbers < 1550)], np.arange(len(X)) * 20 // len(X)


SPECTRA = {
    "indian_pines": _indian_pines,
    "soil": _soil,
    "SSP.460": lambda: _limesoda("SSP.460"),
    "SP.231": lambda: _limesoda("SP.231"),
    "H.138": lambda: _limesoda("H.138"),
    "NRW.115": lambda: _limesoda("NRW.115"),
    "coffee": _coffee,
    "fermentation": _fermentation,
}


def load(name):
    """Return the distinct rows X (n, p) of a set, in their order, and their blocks (n,)."""
    X, blocks = SPECTRA[name]()
    blocks = np.arange(len(X)) if blocks is None else blocks
    first = np.sort(np.unique(X, axis=0, return_index=True)[1])
    return X[first], blocks[first]


def split(X, blocks, seed, test_size=0.25):
    """Return train and test rows, no block in both."""
    splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    train, test = next(splitter.split(X, groups=blocks))
    return X[train], X[test]
