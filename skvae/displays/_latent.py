from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._base import COLORS, Display, Fitted, Floats, Steps, check_indices, style
from ._model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection, PathCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.legend import Legend

MOST_CLASSES = 10


class LatentDisplay(Display):
    """Scatter plot of two components, with an ellipse that shows how certain the model is of each row.

    Parameters
    ----------
    means : ndarray of shape (n_samples, 2)
    covariances : ndarray of shape (n_samples, 2, 2)
    components : list of int
        The two components that are drawn.
    n_std : float or None, default=1.0
        Half axes of the ellipses in posterior standard deviations. Where a point hides its ellipse, the model is almost
        certain of z. None draws no ellipses.
    y : ndarray of shape (n_samples,) or None, default=None
        Values that colour the points: numbers and dates with a colorbar, or classes with a legend. Whole numbers with
        at most ten different values count as classes.
    y_name : str or None, default=None

    Attributes
    ----------
    points_ : list of PathCollection
        One for each class, or a single one.
    ellipses_ : EllipseCollection or None
        The ellipses in the order of the rows.
    colorbar_ : Colorbar or None
    legend_ : Legend or None
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import LatentDisplay
    >>> len(LatentDisplay.from_estimator(vae, X).points_)
    1
    """

    points_: "list[PathCollection]"
    ellipses_: "EllipseCollection | None"
    colorbar_: "Colorbar | None"
    legend_: "Legend | None"

    def __init__(
        self,
        *,
        means: Floats,
        covariances: Floats,
        components: Sequence[int],
        n_std: float | None = 1.0,
        y: NDArray[Any] | None = None,
        y_name: str | None = None,
    ) -> None:
        self.means = means
        self.covariances = covariances
        self.components = components
        self.n_std = n_std
        self.y = y
        self.y_name = y_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        components: Sequence[int] = (0, 1),
        n_std: float | None = 1.0,
        y_name: str | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "LatentDisplay":
        """Draw rows of X in the latent space of a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or None, default=None
            Values that colour the points. Whole numbers with more than ten different values get a colorbar; given as
            strings, they get a legend.
        components : (int, int), default=(0, 1)
        n_std : float or None, default=1.0
            Half axes of the ellipses in posterior standard deviations. None draws no ellipses.
        y_name : str or None, default=None
            Label of y in the figure. None takes the name of y, if y is a Series that has one.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.scatter``.

        Returns
        -------
        display : LatentDisplay
        """
        model = Model(estimator)
        components = check_indices("components", components, model.n_components_, "components")
        if len(components) != 2 or components[0] == components[1]:
            raise ValueError(f"components must be two different ones, got {components}.")
        if n_std is not None and not n_std > 0:
            raise ValueError(f"n_std must be positive or None, got {n_std!r}.")
        means = np.asarray(model.transform(X))[:, components]
        if y is not None:
            y_name = getattr(y, "name", None) if y_name is None else y_name
            y = np.asarray(y)
            if y.shape != (len(means),):
                raise ValueError(f"y must have shape ({len(means)},), one value for each row of X, got {y.shape}.")
        covariances = np.asarray(model.posterior_covariance(X))[:, components][:, :, components]
        display = cls(means=means, covariances=covariances, components=components, n_std=n_std, y=y, y_name=y_name)
        return display.plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "LatentDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.scatter``.

        Returns
        -------
        display : LatentDisplay
            The display itself.
        """
        plt = self._open(ax)
        self.colorbar_ = self.legend_ = self.ellipses_ = None
        options = style(plt.matplotlib.collections.PathCollection, kwargs, s=12, linewidths=0)
        classes, values = grouped(self.y)
        colors = np.zeros((len(self.means), 4))
        self.points_ = []
        if values is not None:
            viridis = plt.get_cmap("viridis").with_extremes(bad="0.7")  # grey where y is NaN
            options = {"c": values, "cmap": viridis, "plotnonfinite": True, **options}
            self.points_.append(self.ax_.scatter(*self.means.T, **options))
            self.colorbar_ = self.figure_.colorbar(self.points_[0], ax=self.ax_, label=self.y_name or "y")
            if is_dates(self.y):
                locator = plt.matplotlib.dates.AutoDateLocator()
                formatter = plt.matplotlib.dates.ConciseDateFormatter(locator)
                self.colorbar_.ax.yaxis.set(major_locator=locator, major_formatter=formatter)
            colors[:] = self.points_[0].to_rgba(values)
        else:
            many = len(classes) > len(COLORS)
            palette = plt.get_cmap("viridis")(np.linspace(0, 1, len(classes))) if many else COLORS
            for color, (label, rows) in zip(palette, classes.items(), strict=False):
                points = self.ax_.scatter(*self.means[rows].T, **{"color": color, "label": label, **options})
                self.points_.append(points)
                colors[rows] = points.get_facecolor()[0]
        if self.n_std is not None:
            self._draw_ellipses(plt, colors, self.n_std)
        if self.y is not None and values is None:
            # A new figure has room beside the points.
            place: dict[str, Any] = (
                {"loc": "upper left", "bbox_to_anchor": (1, 1), "ncols": -(-len(classes) // 15)} if ax is None else {}
            )
            self.legend_ = self.ax_.legend(title=self.y_name, markerscale=1.5, **place)
        first, second = self.components
        self.ax_.set(xlabel=f"component {first}", ylabel=f"component {second}")
        return self

    def _draw_ellipses(self, plt: ModuleType, colors: Floats, n_std: float) -> None:
        variances, axes = np.linalg.eigh(self.covariances)
        minor, major = 2 * n_std * np.sqrt(variances.clip(min=0)).T
        angle = np.degrees(np.arctan2(axes[:, 1, 1], axes[:, 0, 1]))
        to_rgba = plt.matplotlib.colors.to_rgba_array
        self.ellipses_ = plt.matplotlib.collections.EllipseCollection(
            major,
            minor,
            angle,
            units="xy",
            offsets=self.means,
            offset_transform=self.ax_.transData,
            facecolors=to_rgba(colors, 0.12),
            edgecolors=to_rgba(colors, 0.5),
            linewidths=0.5,
            zorder=0.9,  # under the points
        )
        self.ax_.add_collection(self.ellipses_)
        # A collection reports only its centres to the axes, so the extent of the ellipses is added here.
        half = n_std * np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        self.ax_.update_datalim(np.concatenate([self.means - half, self.means + half]))
        self.ax_.autoscale_view()


def is_dates(y: NDArray[Any] | None) -> bool:
    return y is not None and y.dtype.kind == "M"


def days(y: NDArray[Any]) -> Floats:
    """Dates as matplotlib counts them, in days since 1970; NaN where there is none."""
    return np.where(np.isnat(y), np.nan, y.astype("datetime64[us]").astype(float) / 8.64e10)


def grouped(y: NDArray[Any] | None) -> tuple[dict[str | None, Any], Floats | None]:
    """Return (rows of each class by its label, None) or, if y is continuous, ({}, y as floats)."""
    if y is None:
        return {None: slice(None)}, None
    if is_dates(y):
        return {}, days(y)
    numeric = y.dtype.kind in "iuf"
    labels, codes = np.unique(y if numeric else y.astype(str), return_inverse=True)
    if numeric and (len(labels) > MOST_CLASSES or not np.isfinite(labels).all() or (labels != np.round(labels)).any()):
        return {}, y.astype(float)
    return {str(int(label) if numeric else label): codes == code for code, label in enumerate(labels)}, None
