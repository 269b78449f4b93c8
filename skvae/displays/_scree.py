from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import COLORS, Display, Fitted, Floats, fitted_n_features, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class ScreeDisplay(Display):
    """Share of X's variance that each component explains, beside PCA's shares, with cumulative sums.

    Where the number of components was chosen ("auto"), the curve that it was chosen by has an axis at the right.
    Components stand in the estimator's order, in which shares of a nonlinear model need not descend.

    Parameters
    ----------
    explained_variance_ratio : ndarray of shape (n_components,)
    pca_explained_variance_ratio : ndarray of shape (n_pca_components,) or None, default=None
        At most the first n_components of them are drawn.
    scores : ndarray of shape (n_tried,) or None, default=None
        Nats per held-out row under linear models of 1, 2, ... components.
    name : str, default="VAE"

    Attributes
    ----------
    bars_ : list of BarContainer
        The bars of the model and, if a PCA is given, of PCA.
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
    >>> len(ScreeDisplay.from_estimator(vae, pca=PCA(2).fit(X)).bars_)
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
        pca_explained_variance_ratio: Floats | None = None,
        scores: Floats | None = None,
        name: str = "VAE",
    ) -> None:
        self.explained_variance_ratio = explained_variance_ratio
        self.pca_explained_variance_ratio = pca_explained_variance_ratio
        self.scores = scores
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Fitted, pca: Any = None, *, name: str | None = None, ax: "Axes | None" = None, **kwargs: Any
    ) -> "ScreeDisplay":
        """Draw the scree of a fitted VAETransformer.

        Parameters
        ----------
        estimator : fitted VAETransformer
        pca : fitted sklearn.decomposition.PCA or None, default=None
            A PCA that was fitted to the same X.
        name : str or None, default=None
            Name of the model in the legend. None takes the name of the estimator's class.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.bar``.

        Returns
        -------
        display : ScreeDisplay
        """
        n_features = fitted_n_features(estimator)
        if pca is not None:
            ratio = getattr(pca, "explained_variance_ratio_", None)
            if ratio is None:
                raise ValueError(f"pca must be a fitted PCA, got {pca!r} without explained_variance_ratio_.")
            if pca.n_features_in_ != n_features:
                raise ValueError(f"pca has {pca.n_features_in_} features, the estimator {n_features}.")
        return cls(
            explained_variance_ratio=np.asarray(estimator.explained_variance_ratio_),
            pca_explained_variance_ratio=None if pca is None else np.asarray(ratio),
            scores=getattr(estimator, "n_components_scores_", None),
            name=type(estimator).__name__ if name is None else name,
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
        if self.pca_explained_variance_ratio is not None:
            series["PCA"] = self.pca_explained_variance_ratio[:n]
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
