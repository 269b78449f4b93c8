from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._base import COLORS, Display, Fitted, Floats, Indices, Numbers, Steps, check_indices, feature_axis, style
from ._model import LinearModel, Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class LoadingsDisplay(Display):
    """Loadings by channel: how X changes with a component, as mean and standard deviation over rows.

    The standard deviation is drawn as a band around the mean. PCA's loadings are the same in every row, so that their
    band would have no width; here the width shows how much a component bends.

    Parameters
    ----------
    mean, std : ndarray of shape (n_drawn, n_features)
        Mean and standard deviation of the loadings over rows, in X's units per standard deviation of the prior.
    components : list of int
        The components that are drawn.
    axis : ndarray of shape (n_features,)
    axis_name : str, default="channel"
    units : str, default="units of X"
    beside : ndarray of shape (n_beside, n_features) or None, default=None
        Loadings of a linear model, for the first of the components that are drawn.
    beside_name : str, default="PCA"

    Attributes
    ----------
    lines_ : list of Line2D
        One for each component.
    bands_ : list of PolyCollection
    beside_lines_ : list of Line2D
        Those of the linear model, dashed.
    legend_ : Legend
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import LoadingsDisplay
    >>> len(LoadingsDisplay.from_estimator(vae, X).lines_)
    2
    """

    lines_: "list[Line2D]"
    bands_: "list[PolyCollection]"
    beside_lines_: "list[Line2D]"
    legend_: "Legend"

    def __init__(
        self,
        *,
        mean: Floats,
        std: Floats,
        components: Sequence[int],
        axis: Numbers,
        axis_name: str = "channel",
        units: str = "units of X",
        beside: Floats | None = None,
        beside_name: str = "PCA",
    ) -> None:
        self.mean = mean
        self.std = std
        self.components = components
        self.axis = axis
        self.axis_name = axis_name
        self.units = units
        self.beside = beside
        self.beside_name = beside_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        X: ArrayLike,
        *,
        components: Indices | None = None,
        beside: Any = None,
        wavelengths: ArrayLike | None = None,
        unit: str | None = None,
        axis_name: str | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "LoadingsDisplay":
        """Draw the loadings of a fitted VAETransformer at rows of X.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
            A few hundred rows are enough: the loadings have n_samples * n_components * n_features numbers.
        components : int, sequence of int or None, default=None
            Components to draw. None draws the first three, or all if there are fewer.
        beside : fitted PCA, FactorAnalysis or None, default=None
            A linear model of the same X, whose loadings, per standard deviation of its components, are drawn for
            components of the same numbers, with the sign that is nearer to the estimator's.
        wavelengths : array-like of shape (n_features,) or None, default=None
            Positions of the features on their axis. None takes the numbers that label X's columns (350.5, "350 nm",
            "wl_350_nm") if all labels have one, else 0, 1, ...
        unit : str or None, default=None
            Of the wavelengths, such as "nm" or "cm-1". None takes that of the labels, if they have one.
        axis_name : str or None, default=None
            Label of that axis. None makes one of the unit, such as "wavelength, nm".
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.plot`` for the lines.

        Returns
        -------
        display : LoadingsDisplay
        """
        model = Model(estimator)
        n = model.n_components_
        components = list(range(min(n, 3))) if components is None else components
        components = check_indices("components", components, n, "components")
        axis, axis_name = feature_axis(model, wavelengths, unit, axis_name)
        loadings = np.asarray(model.loadings(X))[:, components]
        mean, std = loadings.mean(axis=0), loadings.std(axis=0)
        linear, name = None, ""
        if beside is not None:
            theirs = LinearModel(beside, model.n_features_in_)
            known = [i for i, component in enumerate(components) if component < len(theirs.loadings())]
            linear, name = theirs.loadings()[[components[i] for i in known]], theirs.name
            linear = linear * np.where((linear * mean[known]).sum(axis=1, keepdims=True) < 0, -1, 1)
        return cls(
            mean=mean,
            std=std,
            components=components,
            axis=axis,
            axis_name=axis_name,
            units=model.units,
            beside=linear,
            beside_name=name,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "LoadingsDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.plot``.

        Returns
        -------
        display : LoadingsDisplay
            The display itself.
        """
        plt = self._open(ax)
        self.lines_, self.bands_, self.beside_lines_ = [], [], []
        self.ax_.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        for i, (component, mean, std) in enumerate(zip(self.components, self.mean, self.std, strict=True)):
            options = style(plt.Line2D, kwargs, color=COLORS[i % len(COLORS)], label=f"component {component}")
            (line,) = self.ax_.plot(self.axis, mean, **options)
            band: dict[str, Any] = {"color": line.get_color(), "alpha": 0.25, "linewidth": 0}
            self.bands_.append(self.ax_.fill_between(self.axis, mean - std, mean + std, **band))
            self.lines_.append(line)
        for line, linear in zip(self.lines_, () if self.beside is None else self.beside, strict=False):
            own: dict[str, Any] = {"color": line.get_color(), "linestyle": "--", "linewidth": 1}
            label = None if self.beside_lines_ else self.beside_name
            self.beside_lines_ += self.ax_.plot(self.axis, linear, label=label, **own)
        self.ax_.set(xlabel=self.axis_name, ylabel=f"loading, {self.units}")
        self.ax_.margins(x=0)
        self.legend_ = self.ax_.legend()
        return self
