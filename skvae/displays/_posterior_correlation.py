from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._base import Display, Fitted, Floats, Steps
from ._model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.image import AxesImage
    from matplotlib.text import Text

MOST_ANNOTATED = 10


class PosteriorCorrelationDisplay(Display):
    """Heat map of the posterior's correlations between components, mean over rows.

    A diagonal posterior leaves these correlations out, and the picture says so.

    Parameters
    ----------
    correlation : ndarray of shape (n_components, n_components)

    Attributes
    ----------
    image_ : AxesImage
    texts_ : list of Text
        The values, row by row; empty with more than 10 components.
    colorbar_ : Colorbar
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> from skvae.displays import PosteriorCorrelationDisplay
    >>> vae = VAETransformer(2, posterior="full", max_iter=2, random_state=0).fit(X)
    >>> PosteriorCorrelationDisplay.from_estimator(vae, X).correlation.shape
    (2, 2)
    """

    image_: "AxesImage"
    texts_: "list[Text]"
    colorbar_: "Colorbar"

    def __init__(self, *, correlation: Floats) -> None:
        self.correlation = correlation

    @classmethod
    def from_estimator(
        cls, estimator: Fitted | Steps, X: ArrayLike, *, ax: "Axes | None" = None, **kwargs: Any
    ) -> "PosteriorCorrelationDisplay":
        """Draw the correlations of a fitted VAETransformer's posterior.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
            Rows to take the mean over.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.imshow``.

        Returns
        -------
        display : PosteriorCorrelationDisplay
        """
        model = Model(estimator)
        covariance = np.asarray(model.posterior_covariance(X))
        deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        correlation = covariance / (deviation[:, :, None] * deviation[:, None, :])
        return cls(correlation=correlation.mean(axis=0)).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "PosteriorCorrelationDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.imshow``.

        Returns
        -------
        display : PosteriorCorrelationDisplay
            The display itself.
        """
        plt = self._open(ax)
        self.image_ = self.ax_.imshow(
            self.correlation, **{"cmap": "RdBu_r", "vmin": -1, "vmax": 1, "aspect": "equal", **kwargs}
        )
        self.texts_ = []
        if len(self.correlation) <= MOST_ANNOTATED:
            for (row, column), value in np.ndenumerate(self.correlation):
                color = "white" if abs(value) > 0.6 else "black"
                text = f"{value:.2f}".replace("-0.00", "0.00")
                place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "small", "color": color}
                self.texts_.append(self.ax_.text(column, row, text, **place))
        for axis in (self.ax_.xaxis, self.ax_.yaxis):
            axis.set_major_locator(plt.MaxNLocator(integer=True))
        self.ax_.set(xlabel="component", ylabel="component")
        apart = ~np.eye(len(self.correlation), dtype=bool)
        if not self.correlation[apart].any():
            why = "a diagonal posterior has none" if apart.any() else "there is one component"
            self.ax_.set_title(f"No correlations by construction: {why}", fontsize="small")
        self.colorbar_ = self.figure_.colorbar(self.image_, ax=self.ax_, label="posterior correlation, mean over rows")
        return self
