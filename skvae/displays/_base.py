"""What the displays share: a late import of matplotlib, the feature axis, tiled images and checks of arguments."""

import math
import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

Floats = NDArray[np.floating]
Numbers = NDArray[np.number]
Indices = int | Sequence[int] | NDArray[np.integer]

# Petroff's colours (arXiv:2107.02270), which colour-blind readers can tell apart, also in greyscale.
COLORS = [
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
]  # fmt: skip


# What is measured in each unit that names of columns may end in.
QUANTITIES = {
    **dict.fromkeys(("nm", "um", "µm", "μm", "Å"), "wavelength"),
    **dict.fromkeys(("cm-1", "cm^-1", "cm⁻¹", "1/cm"), "wavenumber"),
    **dict.fromkeys(("eV", "keV"), "energy"),
    **dict.fromkeys(("Hz", "kHz", "MHz", "GHz", "THz"), "frequency"),
    **dict.fromkeys(("s", "min", "h"), "time"),
    "ppm": "chemical shift",
}


class Fitted(Protocol):
    """What the displays need from a fitted VAETransformer, besides attributes."""

    n_features_in_: int

    def transform(self, X: ArrayLike) -> Floats | Any: ...
    def inverse_transform(self, X: ArrayLike) -> Floats: ...
    def posterior_covariance(self, X: ArrayLike) -> Floats: ...
    def loadings(self, X: ArrayLike) -> Floats: ...
    def reconstruct(self, X: ArrayLike, return_std: Literal[True]) -> tuple[Floats, Floats]: ...


class Steps(Protocol):
    """What tells a Pipeline, which ends in a fitted VAETransformer."""

    steps: list[Any]


class Display:
    """Base class that opens axes; its subclasses draw on them."""

    ax_: "Axes"
    figure_: "Figure | SubFigure"
    image_: "AxesImage | None"

    def _open(self, ax: "Axes | None", figsize: Floats | None = None) -> ModuleType:
        """Set ``ax_`` and ``figure_``, on a new figure if `ax` is None, and return matplotlib.pyplot."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError('Drawing needs matplotlib: pip install "skvae[plot]"') from error
        self.ax_ = plt.subplots(figsize=figsize, layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        return plt

    def _show_images(
        self, ax: "Axes | None", images: Floats, image_shape: Sequence[int], kwargs: dict[str, Any]
    ) -> list[Floats]:
        """Draw images (rows, columns, p) on one axes as ``image_``; return the row and column centres."""
        tiled, step = tile(images, image_shape)
        # Each image is 0.9 inches wide, half an inch is left for ticks and labels, and twelve inches fit on a page.
        inches = 0.9 * np.array(tiled.shape[1::-1]) / step[1] + 0.5
        plt = self._open(ax, figsize=np.clip(inches, 1.4, 12))
        gray = plt.get_cmap("gray").with_extremes(bad="#9ec9e8")  # blue marks a missing value
        self.image_ = self.ax_.imshow(tiled, **{"cmap": gray, "interpolation": "nearest", **kwargs})
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)
        return [(pitch - 3) / 2 + pitch * np.arange(n) for n, pitch in zip(images.shape, step, strict=False)]


def style(artist: "type[Artist]", kwargs: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """The defaults, updated with the user's kwargs under whichever alias (lw, linewidth) they are given."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(kwargs, artist)}


def take(X: Any, rows: list[int]) -> Any:
    """Rows of an array or a DataFrame. A DataFrame stays one, as the estimator checks its column names."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "columns") else np.asarray(X)[rows]


def names_of_rows(X: Any) -> Sequence[Any]:
    """The index of a frame that has one, else 0, 1, ..."""
    return list(X.index) if hasattr(X, "iloc") else range(np.shape(X)[0])


def check_indices(name: str, values: Indices, n: int, what: str) -> list[int]:
    """Return an int or a sequence of ints as a list, after checking that each lies in 0, ..., n - 1."""
    indices = np.atleast_1d(values)
    if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"{name} must be of integers, got {values!r}.")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"{name}={values!r} is out of range: there are {n} {what}, counted from 0.")
    return indices.tolist()


def check_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}.")
    return level


def check_index(name: str, value: int, n: int, what: str) -> int:
    if np.ndim(value):
        raise ValueError(f"{name} must be one integer, got {value!r}.")
    return check_indices(name, value, n, what)[0]


def feature_axis(
    estimator: Any, wavelengths: ArrayLike | None, unit: str | None, axis_name: str | None
) -> tuple[Numbers, str]:
    """Positions (p,) of the features and the label of their axis, from arguments or from the labels of X's columns."""
    n = estimator.n_features_in_
    label = "channel"
    if wavelengths is not None:
        axis = np.asarray(wavelengths, dtype=float)
        if axis.shape != (n,):
            raise ValueError(f"wavelengths must hold a number for each of the {n} features, got shape {axis.shape}.")
    elif hasattr(estimator, "wavelengths_"):
        axis = np.asarray(estimator.wavelengths_)
    else:
        numbers, unit_of_names = _numbers(getattr(estimator, "feature_names_in_", ()))
        unit = unit_of_names if unit is None else unit
        axis, label = (np.arange(n), "channel index") if numbers is None else (numbers, label)
    if unit is not None:
        label = f"{QUANTITIES.get(unit, 'channel')}, {unit}"
    return axis, label if axis_name is None else axis_name


def _numbers(names: Sequence[str]) -> tuple[Floats | None, str | None]:
    """Names such as "350.5", "wl_350.5", "350.5 nm" or "wl_350_nm" as numbers, and their unit.

    None unless all names have a number, after the same prefix and before the same unit.
    """
    units = "|".join(map(re.escape, QUANTITIES))
    number = re.compile(rf"([+-]|\D*)(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?:[ _]?({units}))?")
    matches = [match for name in names if (match := number.fullmatch(name))]
    found_units = {match[3] for match in matches}
    if not matches or len(matches) < len(names) or len(found_units) > 1:
        return None, None
    signs = {"", "+", "-"}
    prefixes = {match[1] for match in matches}
    if prefixes <= signs:
        numbers = [float(match[1] + match[2]) for match in matches]
    elif len(prefixes) == 1:
        numbers = [float(match[2]) for match in matches]
    else:
        return None, None
    return np.array(numbers), found_units.pop()


def check_image_shape(image_shape: Sequence[int] | None, n_features: int) -> tuple[int, ...] | None:
    """Return (height, width) or (channels, height, width) as a tuple, after a check; None stays None."""
    if image_shape is None:
        return None
    shape = tuple(image_shape)
    if len(shape) not in (2, 3) or math.prod(shape) != n_features or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(
            f"image_shape={image_shape!r} must be (height, width) or (channels, height, width), with 1 or 3 "
            f"channels, and have as many values as there are features, {n_features}."
        )
    return shape


def tile(images: Floats, image_shape: Sequence[int]) -> tuple[Floats, tuple[int, int]]:
    """Images (rows, columns, p) as one, two pixels apart, and the step from each to the next, (down, right).

    The seams are as bright as the brightest pixel. Three channels become colours, scaled to the range of all values.
    """
    n_rows, n_columns, _ = images.shape
    *channels, height, width = image_shape
    if channels == [3]:
        low, high = np.nanmin(images), np.nanmax(images)
        images = (images - low) / (high - low or 1)
    stack = images.reshape(n_rows, n_columns, -1, height, width)
    stack = np.pad(stack, [(0, 0)] * 3 + [(0, 2), (0, 2)], constant_values=np.nanmax(images))
    tiled = stack.transpose(0, 3, 1, 4, 2).reshape(n_rows * (height + 2), n_columns * (width + 2), -1)[:-2, :-2]
    return tiled if channels == [3] else tiled[..., 0], (height + 2, width + 2)
