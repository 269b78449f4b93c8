from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ._base import COLORS, Display, Fitted, Floats, Steps, check_level, names_of_rows, style
from ._model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

MOST_NAMED = 25


class InfluenceDisplay(Display):
    """T2 of rows against their Q, with both limits; rows beyond a limit are named.

    Parameters
    ----------
    t2, q : ndarray of shape (n_samples,)
    t2_limit, q_limit : float
    level : float, default=0.95
        The share of rows under each limit.
    row_names : sequence of shape (n_samples,) or None, default=None
        None takes 0, 1, ...
    log : bool, default=False
        Whether the axes are logarithmic.
    units : str, default="units of X"
        Of the rows whose Q it is.

    Attributes
    ----------
    points_ : PathCollection
        Rows under both limits, beyond the limit of T2, of Q, and of both have four colours.
    limit_lines_ : list of Line2D
        The limits of T2 and of Q. One that is infinite is not drawn, and None stands for it.
    names_ : list of Annotation
        Of the rows beyond a limit or, if there are more, of the 25 that are farthest beyond it.
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import InfluenceDisplay
    >>> display = InfluenceDisplay.from_estimator(vae, X)
    >>> bool((display.t2 == vae.hotelling_t2(X)).all())
    True
    """

    points_: "PathCollection"
    limit_lines_: "list[Line2D | None]"
    names_: "list[Annotation]"

    def __init__(
        self,
        *,
        t2: Floats,
        q: Floats,
        t2_limit: float,
        q_limit: float,
        level: float = 0.95,
        row_names: Sequence[Any] | None = None,
        log: bool = False,
        units: str = "units of X",
    ) -> None:
        self.t2 = t2
        self.q = q
        self.t2_limit = t2_limit
        self.q_limit = q_limit
        self.level = level
        self.row_names = row_names
        self.log = log
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        X: ArrayLike,
        *,
        level: float = 0.95,
        row_names: ArrayLike | None = None,
        log: bool = False,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "InfluenceDisplay":
        """Draw rows of X by their T2 and Q under a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        X : array-like of shape (n_samples, n_features)
        level : float, default=0.95
            The share of new rows that each limit leaves under it, in (0, 1).
        row_names : array-like of shape (n_samples,) or None, default=None
            None takes the index of a frame of pandas', else 0, 1, ...
        log : bool, default=False
            Whether the axes are logarithmic, for rows that are far out.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.scatter``.

        Returns
        -------
        display : InfluenceDisplay
        """
        model = Model(estimator)
        check_level(level)
        t2, q = model.statistic("hotelling_t2", X), model.statistic("q_residuals", X)
        names = names_of_rows(X) if row_names is None else list(np.asarray(row_names))
        if len(names) != len(t2):
            raise ValueError(f"row_names must hold a name for each of the {len(t2)} rows of X, got {len(names)}.")
        return cls(
            t2=t2,
            q=q,
            t2_limit=model.hotelling_t2_limit(level),
            q_limit=model.q_residuals_limit(level),
            level=level,
            row_names=names,
            log=log,
            units=model.units_seen,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "InfluenceDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.scatter``.

        Returns
        -------
        display : InfluenceDisplay
            The display itself.
        """
        plt = self._open(ax)
        beyond = 1 * (self.t2 > self.t2_limit) + 2 * (self.q > self.q_limit)
        palette = np.array(["0.6", COLORS[0], COLORS[1], COLORS[2]])
        options = style(plt.matplotlib.collections.PathCollection, kwargs, s=14, linewidths=0)
        colors: dict[str, Any] = {} if {"c", "color"} & set(options) else {"c": palette[beyond]}
        self.points_ = self.ax_.scatter(self.t2, self.q, **colors, **options)
        if self.log:
            self.ax_.set(xscale="log", yscale="log")
        line: dict[str, Any] = {"color": "0.3", "linestyle": "--", "linewidth": 0.8, "zorder": 0}
        self.limit_lines_ = [
            draw(limit, **line) if np.isfinite(limit) else None
            for draw, limit in ((self.ax_.axvline, self.t2_limit), (self.ax_.axhline, self.q_limit))
        ]
        excess = np.maximum(self.t2 / self.t2_limit, self.q / self.q_limit)
        named: Any = np.flatnonzero(beyond)
        named = named[np.argsort(-excess[named], kind="stable")[:MOST_NAMED]].tolist()
        names = range(len(self.t2)) if self.row_names is None else self.row_names
        place: dict[str, Any] = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": "x-small"}
        self.names_ = [self.ax_.annotate(str(names[row]), (self.t2[row], self.q[row]), **place) for row in named]
        share = f"{100 * self.level:g} % limit"
        self.ax_.set(
            xlabel=f"T2 ({share} {self.t2_limit:.3g})", ylabel=f"Q, {self.units} squared ({share} {self.q_limit:.3g})"
        )
        return self
