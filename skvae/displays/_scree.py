from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import COLORS, Display, Fitted, Floats, Steps, style
from ._model import LinearModel, Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class ScreeDisplay(Display):
    """Share of X's variance that each component explains, beside a linear model's shares, with cumulative sums.

    Where the number of components was chosen ("auto"), the curve that it was chosen by has an axis at the right.
    Components stand in the estimator's order, in which shares of a nonlinear model need not descend.

    Parameters
    ----------
    explained_variance_ratio : ndarray of shape (n_components,)
    beside : ndarray of shape (n_beside,) or None, default=None
        Shares of a linear model, of which at most the first n_components are drawn.
    beside_name : str, default="PCA"
    scores : ndarray of shape (n_tried,) or None, default=None
        Nats per held-out row under linear models of 1, 2, ... components.
    name : str, default="VAE"

    Attributes
    ----------
    bars_ : list of BarContainer
        The bars of the model and, if one is given, of the linear model.
    lines_ : list of Line2D
        Cumulative sums, in the same order.
    scores_ax_ : Axes or None
    scores_line_ : Line2D or None
        The score of the first components, up to each, with a mark at those that were taken.
    legend_ : Legend
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from sklearn.decomposition import PCA
    >>> from skvae.displays import ScreeDisplay
    >>> len(ScreeDisplay.from_estimator(vae, PCA(2).fit(X)).bars_)
    2
    """

    bars_: "list[BarContainer]"
    lines_: "list[Line2D]"
    scores_ax_: "Axes | None"
    scores_line_: "Line2D | None"
    legend_: "Legend"

    def __init__(
        self,
        *,
        explained_variance_ratio: Floats,
        beside: Floats | None = None,
        beside_name: str = "PCA",
        scores: Floats | None = None,
        name: str = "VAE",
    ) -> None:
        self.explained_variance_ratio = explained_variance_ratio
        self.beside = beside
        self.beside_name = beside_name
        self.scores = scores
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Fitted | Steps,
        beside: Any = None,
        *,
        name: str | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "ScreeDisplay":
        """Draw the scree of a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        beside : fitted PCA, FactorAnalysis or None, default=None
            A linear model of the same X.
        name : str or None, default=None
            Name of the model in the legend. None takes the name of the estimator's class.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.bar``.

        Returns
        -------
        display : ScreeDisplay
        """
        model = Model(estimator)
        linear = None if beside is None else LinearModel(beside, model.n_features_in_)
        return cls(
            explained_variance_ratio=np.asarray(model.explained_variance_ratio_),
            beside=None if linear is None else linear.explained_variance_ratio(),
            beside_name="" if linear is None else linear.name,
            scores=getattr(model, "n_components_scores_", None),
            name=type(model.last).__name__ if name is None else name,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "ScreeDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.bar``.

        Returns
        -------
        display : ScreeDisplay
            The display itself.
        """
        plt = self._open(ax)
        n = len(self.explained_variance_ratio)
        series = {self.name: self.explained_variance_ratio}
        if self.beside is not None:
            series[self.beside_name] = self.beside[:n]
        width = 0.8 / len(series)
        self.bars_, self.lines_, self.scores_ax_, self.scores_line_ = [], [], None, None
        for i, (label, ratio) in enumerate(series.items()):
            place = np.arange(len(ratio)) + (i - (len(series) - 1) / 2) * width
            bar_style = style(plt.Rectangle, kwargs, color=COLORS[i], width=0.9 * width, label=label)
            self.bars_.append(self.ax_.bar(place, ratio, **bar_style))
            # The points lie over the middles of the bars, so that lines of nearly the same height stay apart.
            cumulative = np.cumsum(ratio)
            self.lines_ += self.ax_.plot(place, cumulative, color=COLORS[i], marker="o", markersize=4, linewidth=1)
        self.ax_.set(xlabel="component", ylabel="explained variance ratio (lines: cumulative)")
        self.ax_.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        handles: list[Any] = [*self.bars_]
        if self.scores is not None:
            self.scores_ax_ = self.ax_.twinx()
            label = "linear models of the first components"
            own: dict[str, Any] = {"color": "0.3", "linestyle": ":", "marker": "D", "markersize": 5, "label": label}
            places = np.arange(len(self.scores))
            (self.scores_line_,) = self.scores_ax_.plot(places, self.scores, markevery=[n - 1], **own)
            self.scores_ax_.set_ylabel("nats per held-out row")
            handles.append(self.scores_line_)
        # The axes drawn last hold the legend, so that it lies above all lines.
        self.legend_ = (self.scores_ax_ or self.ax_).legend(handles=handles, loc="center right")
        return self
