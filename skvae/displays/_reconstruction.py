from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._base import (
    COLORS,
    Display,
    Fitted,
    Floats,
    Indices,
    Numbers,
    Steps,
    check_image_shape,
    check_indices,
    check_level,
    feature_axis,
    style,
    take,
)
from ._model import LinearModel, Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class ReconstructionDisplay(Display):
    """Rows of X, their reconstructions and a band in which the model expects new readings of these rows.

    Parameters
    ----------
    X, mean : ndarray of shape (n_drawn, n_features)
        Measured values, NaN where missing, and reconstructed values.
    std : ndarray of shape (n_drawn, n_features) or None, default=None
        Standard deviations of the posterior predictive, in X's units. None draws no band.
    level : float, default=0.9
        Coverage of the band, as if the predictive were normal.
    axis : ndarray of shape (n_features,)
    axis_name : str, default="channel"
    image_shape : tuple or None, default=None
        (height, width) or (channels, height, width) where each row is an image.
    units : str, default="units of X"
    beside : ndarray of shape (n_drawn, n_features) or None, default=None
        What a linear model makes of the rows.
    beside_name : str, default="PCA"

    Attributes
    ----------
    measured_lines_, lines_ : list of Line2D or None
        Measured and reconstructed lines, one of each for each row.
    bands_ : list of PolyCollection or None
    beside_lines_ : list of Line2D or None
        Those of the linear model, dashed.
    legend_ : Legend or None
    image_ : AxesImage or None
        All images as one image: the originals, the reconstructions and, below, those of the linear model.
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import ReconstructionDisplay
    >>> ReconstructionDisplay.from_estimator(vae, X, rows=[0, 1, 2]).mean.shape
    (3, 4)
    """

    measured_lines_: "list[Line2D] | None"
    lines_: "list[Line2D] | None"
    bands_: "list[PolyCollection] | None"
    beside_lines_: "list[Line2D] | None"
    legend_: "Legend | None"

    def __init__(
        self,
        *,
        X: Floats,
        mean: Floats,
        std: Floats | None = None,
        level: float = 0.9,
        axis: Numbers,
        axis_name: str = "channel",
        image_shape: Sequence[int] | None = None,
        units: str = "units of X",
        beside: Floats | None = None,
        beside_name: str = "PCA",
    ) -> None:
        self.X = X
        self.mean = mean
        self.std = std
        self.level = level
        self.axis = axis
        self.axis_name = axis_name
        self.image_shape = image_shape
        self.units = units
        self.beside = beside
        self.beside_name = beside_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        X: ArrayLike,
        *,
        rows: Indices | None = None,
        level: float = 0.9,
        beside: Any = None,
        wavelengths: ArrayLike | None = None,
        unit: str | None = None,
        axis_name: str | None = None,
        image_shape: Sequence[int] | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "ReconstructionDisplay":
        """Draw rows of X as a fitted VAETransformer reconstructs them.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
            NaN stands for a missing value, which leaves a gap in the line or a blue pixel.
        rows : int, sequence of int or None, default=None
            Rows of X to draw. None draws the first row or, of images, the first ten.
        level : float, default=0.9
            Coverage of the band, in (0, 1), as if the predictive were normal. Images have no band.
        beside : fitted PCA, FactorAnalysis or None, default=None
            A linear model of the same X, whose reconstructions are drawn, too.
        wavelengths : array-like of shape (n_features,) or None, default=None
            Positions of the features on their axis. None takes the numbers that label X's columns (350.5, "350 nm",
            "wl_350_nm") if all labels have one, else 0, 1, ...
        unit : str or None, default=None
            Of the wavelengths, such as "nm" or "cm-1". None takes that of the labels, if they have one.
        axis_name : str or None, default=None
            Label of that axis. None makes one of the unit, such as "wavelength, nm".
        image_shape : (height, width), (channels, height, width) or None, default=None
            Shape of a row where each row is an image, with 1 or 3 channels.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.plot`` for the reconstructions, or of ``ax.imshow`` for images.

        Returns
        -------
        display : ReconstructionDisplay
        """
        model = Model(estimator)
        check_level(level)
        image_shape = check_image_shape(image_shape, model.n_features_in_)
        axis, axis_name = feature_axis(model, wavelengths, unit, axis_name)
        n_rows = np.shape(X)[0]
        rows = range(min(1 if image_shape is None else 10, n_rows)) if rows is None else rows
        X = take(X, check_indices("rows", rows, n_rows, "rows"))
        mean, std = model.reconstruct(X)
        linear = None if beside is None else LinearModel(beside, model.n_features_in_)
        return cls(
            X=model.measured(X),
            mean=mean,
            std=std if image_shape is None else None,
            level=level,
            axis=axis,
            axis_name=axis_name,
            image_shape=image_shape,
            units=model.units,
            beside=None if linear is None else linear.reconstruct(X),
            beside_name="" if linear is None else linear.name,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "ReconstructionDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.plot`` or ``ax.imshow``.

        Returns
        -------
        display : ReconstructionDisplay
            The display itself.
        """
        self.measured_lines_ = self.lines_ = self.bands_ = self.beside_lines_ = self.legend_ = self.image_ = None
        others = {} if self.beside is None else {self.beside_name: self.beside}
        if self.image_shape is not None:
            if "norm" not in kwargs:  # a reconstruction out of the originals' range does not dim them
                kwargs = {"vmin": np.nanmin(self.X), "vmax": np.nanmax(self.X), **kwargs}
            images = np.stack([self.X, self.mean, *others.values()])
            rows, _ = self._show_images(ax, images, self.image_shape, kwargs)
            self.ax_.set_yticks(rows, ["original", "reconstruction", *others])
            self.ax_.set_xticks([])
            return self
        plt = self._open(ax)
        self.measured_lines_, self.lines_, self.bands_, self.beside_lines_ = [], [], [], []
        for i, (row, mean) in enumerate(zip(self.X, self.mean, strict=True)):
            gap = np.isnan(np.pad(row, 1, constant_values=np.nan))
            alone = np.flatnonzero(~gap[1:-1] & gap[:-2] & gap[2:])  # a channel between two gaps gets a dot
            dots: dict[str, Any] = {"marker": "." if len(alone) else "", "markersize": 3, "markevery": alone.tolist()}
            self.measured_lines_ += self.ax_.plot(self.axis, row, color="0.15", linewidth=1, label="measured", **dots)
            options = style(plt.Line2D, kwargs, color=COLORS[i % len(COLORS)], linewidth=1, label="reconstruction")
            self.lines_ += self.ax_.plot(self.axis, mean, **options)
            if self.std is not None:
                half = NormalDist().inv_cdf((1 + self.level) / 2) * self.std[i]
                band: dict[str, Any] = {"color": self.lines_[-1].get_color(), "alpha": 0.3, "linewidth": 0}
                band["label"] = f"{100 * self.level:g} % of new readings"
                self.bands_.append(self.ax_.fill_between(self.axis, mean - half, mean + half, **band))
            for name, linear in others.items():
                own: dict[str, Any] = {"color": self.lines_[-1].get_color(), "linestyle": "--", "linewidth": 1}
                self.beside_lines_ += self.ax_.plot(self.axis, linear[i], label=name, **own)
        self.ax_.set(xlabel=self.axis_name, ylabel=f"value, {self.units}")
        self.ax_.margins(x=0)
        handles: list[Any] = [self.measured_lines_[0], self.lines_[0], *self.bands_[:1], *self.beside_lines_[:1]]
        self.legend_ = self.ax_.legend(handles=handles)
        return self
