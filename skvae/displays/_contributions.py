from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ._base import (
    COLORS,
    Display,
    Fitted,
    Floats,
    Numbers,
    Steps,
    check_index,
    check_level,
    feature_axis,
    names_of_rows,
    style,
    take,
)
from ._model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class ContributionsDisplay(Display):
    """What each channel contributes to one row's T2 or Q, with the limits of rows that are in order.

    Parameters
    ----------
    contributions : ndarray of shape (n_features,)
    statistic : {"t2", "q"}
    value, limit : float
        T2 or Q of the row, and its limit.
    low, high : ndarray of shape (n_features,) or None, default=None
        The limits of each channel's contribution. None draws none.
    level : float, default=0.95
        The share of rows under the limits.
    row_name : str, default=""
    axis : ndarray of shape (n_features,)
    axis_name : str, default="channel"
    units : str, default="units of X"
        Of the rows whose Q it is.

    Attributes
    ----------
    line_ : Line2D
    band_ : PolyCollection or None
        Between the limits of each channel.
    legend_ : Legend or None
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import ContributionsDisplay
    >>> display = ContributionsDisplay.from_estimator(vae, X, row=7, reference=X[:50])
    >>> bool(abs(display.contributions).sum().round(9) == vae.q_residuals(X[[7]])[0].round(9))
    True
    """

    line_: "Line2D"
    band_: "PolyCollection | None"
    legend_: "Legend | None"

    def __init__(
        self,
        *,
        contributions: Floats,
        statistic: Literal["t2", "q"],
        value: float,
        limit: float,
        low: Floats | None = None,
        high: Floats | None = None,
        level: float = 0.95,
        row_name: str = "",
        axis: Numbers,
        axis_name: str = "channel",
        units: str = "units of X",
    ) -> None:
        self.contributions = contributions
        self.statistic = statistic
        self.value = value
        self.limit = limit
        self.low = low
        self.high = high
        self.level = level
        self.row_name = row_name
        self.axis = axis
        self.axis_name = axis_name
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        X: ArrayLike,
        *,
        row: int = 0,
        statistic: Literal["t2", "q"] = "q",
        reference: ArrayLike | None = None,
        level: float = 0.95,
        wavelengths: ArrayLike | None = None,
        unit: str | None = None,
        axis_name: str | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "ContributionsDisplay":
        """Draw the contributions to one row's T2 or Q under a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
        row : int, default=0
            Index of the row of X.
        statistic : {"t2", "q"}, default="q"
            `t2_contributions` or `q_contributions`.
        reference : array-like of shape (n_reference_samples, n_features) or None, default=None
            Rows that are in order, such as those of the training. The limits of a channel are then quantiles of its
            contributions to them (Westerhuis, Gurden and Smilde, Generalized contribution plots in multivariate
            statistical process monitoring, 2000).
        level : float, default=0.95
            The share of rows under the limit of T2 or Q, and between a channel's limits, in (0, 1).
        wavelengths : array-like of shape (n_features,) or None, default=None
            Positions of the features on their axis. None takes the numbers that label X's columns (350.5, "350 nm",
            "wl_350_nm") if all labels have one, else 0, 1, ...
        unit : str or None, default=None
            Of the wavelengths, such as "nm" or "cm-1". None takes that of the labels, if they have one.
        axis_name : str or None, default=None
            Label of that axis. None makes one of the unit, such as "wavelength, nm".
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.plot``.

        Returns
        -------
        display : ContributionsDisplay
        """
        model = Model(estimator)
        check_level(level)
        if statistic not in ("t2", "q"):
            raise ValueError(f"statistic must be 't2' or 'q', got {statistic!r}.")
        axis, axis_name = feature_axis(model, wavelengths, unit, axis_name)
        row = check_index("row", row, np.shape(X)[0], "rows")
        is_q = statistic == "q"
        values = partial(model.statistic, "q_residuals" if is_q else "hotelling_t2")
        contributions = partial(model.statistic, "q_contributions" if is_q else "t2_contributions")
        if model.last.n_features_in_ != model.n_features_in_:
            raise ValueError(
                "The steps before the last have another number of features, so that there are no contributions of X's. "
                "Draw those of the last step: from_estimator(pipeline[-1], pipeline[:-1].transform(X))."
            )
        limit = model.q_residuals_limit(level) if is_q else model.hotelling_t2_limit(level)
        low = high = None
        if reference is not None:
            tail = (1 - level) / 2
            low, high = np.nanquantile(contributions(reference), [tail, 1 - tail], axis=0)
        one = take(X, [row])
        return cls(
            contributions=contributions(one)[0],
            statistic=statistic,
            value=float(values(one)[0]),
            limit=limit,
            low=low,
            high=high,
            level=level,
            row_name=f"row {names_of_rows(X)[row]}",
            axis=axis,
            axis_name=axis_name,
            units=model.units_seen,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "ContributionsDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.plot``.

        Returns
        -------
        display : ContributionsDisplay
            The display itself.
        """
        plt = self._open(ax)
        name, units = {"t2": ("T2", ""), "q": ("Q", f", {self.units} squared")}[self.statistic]
        self.band_ = self.legend_ = None
        self.ax_.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        share = f"{100 * self.level:g} %"
        if self.low is not None and self.high is not None:
            label = f"{share} of the reference rows"
            self.band_ = self.ax_.fill_between(self.axis, self.low, self.high, color="0.85", linewidth=0, label=label)
        options = style(plt.Line2D, kwargs, color=COLORS[0], linewidth=1, label=self.row_name or None)
        (self.line_,) = self.ax_.plot(self.axis, self.contributions, **options)
        self.ax_.set(
            xlabel=self.axis_name,
            ylabel=f"contribution to {name}{units}",
            title=f"{self.row_name}: {name} {self.value:.3g}, {share} limit {self.limit:.3g}".removeprefix(": "),
        )
        self.ax_.margins(x=0)
        if self.band_ is not None:
            self.legend_ = self.ax_.legend()
        return self
