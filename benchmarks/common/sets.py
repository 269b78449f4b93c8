"""Data sets that install with pip, deduplicated, and honest held-out splits of them.

`load(name)` gives rows, targets and the group that each row belongs to: replicates of a sample, neighbouring pixels and
neighbouring times are alike, so whole groups are held out; elsewhere each row is its own group.

Settings may be chosen on the sets of `DEVELOPMENT`, never on those of `FINAL`, which only a final table shows.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from . import loaders

DEVELOPMENT = {
    **{name: partial(loaders.limesoda, name) for name in ("SSP.460", "SP.231", "H.138", "NRW.115", "UL.120", "SSP.58")},
    "coffee": loaders.coffee,
    "fermentation": loaders.fermentation,
    "soil": loaders.soil,
    "tablets": partial(loaders.on_instruments, "tablet", 2),
    "collagen": loaders.collagen,
    "meats": partial(loaders.of_r, "modeldata", "meats", "fat", prefix="x_"),
    "digits": partial(loaders.of_scikit_learn, "digits"),
    "breast_cancer": partial(loaders.of_scikit_learn, "breast_cancer"),
    "wine": partial(loaders.of_scikit_learn, "wine"),
    "tissue_genes": partial(loaders.of_r, "dslabs", "tissue_gene_expression", "y", prefix="x."),
    "yeast": loaders.yeast,
    "baton_rouge": partial(loaders.air, "BatonRouge-con.csv"),
    "asteroids": partial(loaders.asteroids, 0.85),
    "indian_pines": loaders.indian_pines,
}
FINAL = {
    "corn": partial(loaders.on_instruments, "corn", 3),
    "process_tablets": loaders.process_tablets,
    **{
        name: partial(loaders.limesoda, name)
        for name in ("SL.125", "CV.98", "SA.112", "SC.93", "RP.62", "MG.44", "NRW.62", "O.32")
    },
    "raman_cells": loaders.raman_cells,
    "fluorescence": loaders.fluorescence,
    "serology": loaders.serology,
    "pig_pressure": loaders.pig_pressure,
    "asteroids_visible": partial(loaders.asteroids, 0.5, 0.9),
    "baltimore": partial(loaders.air, "Baltimore_con.txt"),
    "st_louis": partial(loaders.air, "StLouis-con.csv"),
    "leaves": partial(loaders.of_r, "modeldata", "leaf_id_flavia", "species"),
    "cells": partial(loaders.of_r, "modeldata", "cells", "class"),
    "hepatic": partial(loaders.of_r, "modeldata", "hepatic_injury_qsar", "class"),
    "speech": partial(loaders.of_r, "modeldata", "pd_speech", "class", drop=["gender"]),
    "nci60": partial(loaders.of_r, "ISLR", "NCI60", prefix="data."),
    "diabetes": partial(loaders.of_scikit_learn, "diabetes"),
    "olive_oils": partial(loaders.of_r, "dslabs", "olive", "region"),
}
SETS = DEVELOPMENT | FINAL
SPECTRA = ("indian_pines", "soil", "SSP.460", "SP.231", "H.138", "NRW.115", "coffee", "fermentation")


class DataSet(NamedTuple):
    X: np.ndarray  # (n, p), float64
    y: np.ndarray | None  # (n,), numbers or class names
    groups: np.ndarray  # (n,)


def load(name):
    """The distinct, finite rows of a set in their order, with their targets and groups."""
    X, y, groups = SETS[name]()
    X = np.asarray(X, dtype=np.float64)
    groups = np.arange(len(X)) if groups is None else np.asarray(groups)
    first = np.sort(np.unique(X, axis=0, return_index=True)[1])
    first = first[np.isfinite(X[first]).all(axis=1)]
    return DataSet(X[first], None if y is None else np.asarray(y)[first], groups[first])


def missing_package(name):
    """The folder of the package that a set comes with and that is not installed, or None."""
    try:
        SETS[name]()
    except ModuleNotFoundError as error:
        return error.name
    return None


def split_rows(groups, seed, test_size=0.25):
    """Places of the training and of the test rows, no group in both."""
    splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return next(splitter.split(groups, groups=groups))


def split(X, groups, seed):
    """Training and test rows, no group in both."""
    train, test = split_rows(groups, seed)
    return X[train], X[test]
