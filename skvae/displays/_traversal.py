from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._base import Display, Fitted, Floats, Numbers, Steps, check_image_shape, check_index, feature_axis, style, take
from ._model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.lines import Line2D


class TraversalDisplay(Display):
    """What the model decodes along one component, as coloured lines or as a strip of images.

    Parameters
    ----------
    decoded : ndarray of shape (n_values, n_features)
        Decoded rows in X's units.
    values : ndarray of shape (n_values,)
        Values of the component, in standard deviations of the prior.
    component : int
    axis : ndarray of shape (n_features,)
    axis_name : str, default="channel"
    image_shape : tuple or None, default=None
        (height, width) or (channels, height, width) where each row is an image.
    units : str, default="units of X"

    Attributes
    ----------
    lines_ : list of Line2D or None
        One for each value.
    colorbar_ : Colorbar or None
    image_ : AxesImage or None
        All images as one image.
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import TraversalDisplay
    >>> TraversalDisplay.from_estimator(vae, values=[-2, -1, 0, 1, 2]).decoded.shape
    (5, 4)
    """

    lines_: "list[Line2D] | None"
    colorbar_: "Colorbar | None"

    def __init__(
        self,
        *,
        decoded: Floats,
        values: Floats,
        component: int,
        axis: Numbers,
        axis_name: str = "channel",
        image_shape: Sequence[int] | None = None,
        units: str = "units of X",
    ) -> None:
        self.decoded = decoded
        self.values = values
        self.component = component
        self.axis = axis
        self.axis_name = axis_name
        self.image_shape = image_shape
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        X: ArrayLike | None = None,
        *,
        component: int = 0,
        row: int = 0,
        values: ArrayLike | None = None,
        wavelengths: ArrayLike | None = None,
        unit: str | None = None,
        axis_name: str | None = None,
        image_shape: Sequence[int] | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "TraversalDisplay":
        """Decode along a component of a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features) or None, default=None
            The other components are at the posterior mean of one row of X, or at 0 if X is None.
        component : int, default=0
        row : int, default=0
            Index of that row of X.
        values : array-like of shape (n_values,) or None, default=None
            Values of the component. None takes 9 values from -2 to 2 standard deviations of the prior.
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
            Keyword arguments of ``ax.plot``, or of ``ax.imshow`` for images.

        Returns
        -------
        display : TraversalDisplay
        """
        model = Model(estimator)
        component = check_index("component", component, model.n_components_, "components")
        values = np.linspace(-2, 2, 9) if values is None else np.asarray(values, dtype=float)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError("values must be a sequence of finite numbers.")
        image_shape = check_image_shape(image_shape, model.n_features_in_)
        axis, axis_name = feature_axis(model, wavelengths, unit, axis_name)
        Z = np.zeros((len(values), model.n_components_))
        if X is not None:
            row = check_index("row", row, np.shape(X)[0], "rows")
            Z[:] = np.asarray(model.transform(take(X, [row])))
        Z[:, component] = values
        return cls(
            decoded=np.asarray(model.inverse_transform(Z)),
            values=values,
            component=component,
            axis=axis,
            axis_name=axis_name,
            image_shape=image_shape,
            units=model.units,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "TraversalDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.plot`` or ``ax.imshow``.

        Returns
        -------
        display : TraversalDisplay
            The display itself.
        """
        self.lines_ = self.colorbar_ = self.image_ = None
        name = f"component {self.component}"
        if self.image_shape is not None:
            _, columns = self._show_images(ax, self.decoded[None], self.image_shape, kwargs)
            self.ax_.set_xticks(columns, [f"{value:.3g}" for value in self.values])
            self.ax_.set(yticks=[], xlabel=f"{name}, standard deviations of the prior")
            return self
        plt = self._open(ax)
        norm = plt.Normalize(self.values.min(), self.values.max())
        mappable = plt.cm.ScalarMappable(norm, plt.get_cmap("viridis"))
        self.lines_ = []
        for value, line in zip(self.values, self.decoded, strict=True):
            options = style(plt.Line2D, kwargs, color=mappable.to_rgba(value), linewidth=1)
            self.lines_ += self.ax_.plot(self.axis, line, **options)
        self.ax_.set(xlabel=self.axis_name, ylabel=f"decoded, {self.units}")
        self.ax_.margins(x=0)
        self.colorbar_ = self.figure_.colorbar(mappable, ax=self.ax_, label=f"{name}, standard deviations of the prior")
        return self
