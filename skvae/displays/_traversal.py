import numpy as np

from ._base import Display, check_image_shape, check_index, feature_axis, fitted_n_features, style, take


class TraversalDisplay(Display):
    """What the model decodes along one component: coloured lines, or a strip of images.

    Parameters
    ----------
    decoded : ndarray of shape (n_values, n_features)
        In X's units.
    values : ndarray of shape (n_values,)
        Of the component, in standard deviations of the prior.
    component : int
    axis : ndarray of shape (n_features,)
    axis_name : str, default="channel"
    image_shape : tuple or None, default=None
        (height, width) or (channels, height, width): rows are images.

    Attributes
    ----------
    lines_ : list of Line2D or None
        One for each value.
    colorbar_ : Colorbar or None
    image_ : AxesImage or None
        All images as one.
    ax_, figure_ : Axes, Figure
    """

    def __init__(self, *, decoded, values, component, axis, axis_name="channel", image_shape=None):
        self.decoded = decoded
        self.values = values
        self.component = component
        self.axis = axis
        self.axis_name = axis_name
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        component=0,
        row=0,
        values=None,
        axis=None,
        axis_name=None,
        image_shape=None,
        ax=None,
        **kwargs,
    ):
        """Decode along a component of a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer
        X : array-like of shape (n_samples, n_features) or None, default=None
            The other components are at the posterior mean of one of its rows. None: at 0.
        component : int, default=0
        row : int, default=0
            Of X.
        values : array-like of shape (n_values,) or None, default=None
            Of the component. None: 9 of them from -2 to 2 standard deviations of the prior.
        axis : array-like of shape (n_features,) or None, default=None
            Such as wavelengths. None: the numbers in the feature names ("wl_350"), if all have one, or 0, 1, ...
        axis_name : str or None, default=None
            Such as "wavelength, nm".
        image_shape : (height, width), (channels, height, width) or None, default=None
            Of a row, where rows are images; 1 or 3 channels.
        ax : Axes or None, default=None
        **kwargs : dict
            For ``ax.plot``, or ``ax.imshow`` of images.

        Returns
        -------
        display : TraversalDisplay
        """
        n_features = fitted_n_features(estimator)
        component = check_index("component", component, estimator.n_components_, "components")
        values = np.linspace(-2, 2, 9) if values is None else np.asarray(values, dtype=float)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise ValueError("values must be a sequence of finite numbers.")
        image_shape = check_image_shape(image_shape, n_features)
        axis, axis_name = feature_axis(estimator, axis, axis_name)
        Z = np.zeros((len(values), estimator.n_components_))
        if X is not None:
            row = check_index("row", row, len(X), "rows")
            Z[:] = np.asarray(estimator.transform(take(X, [row])))
        Z[:, component] = values
        return cls(
            decoded=np.asarray(estimator.inverse_transform(Z)),
            values=values,
            component=component,
            axis=axis,
            axis_name=axis_name,
            image_shape=image_shape,
        ).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw on ax, or on a new figure; kwargs are for ``ax.plot`` or ``ax.imshow``. Returns self."""
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
        self.ax_.set(xlabel=self.axis_name, ylabel="decoded, units of X")
        self.ax_.margins(x=0)
        self.colorbar_ = self.figure_.colorbar(mappable, ax=self.ax_, label=f"{name}, standard deviations of the prior")
        return self
