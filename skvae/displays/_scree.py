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

    Components stand in the estimator's order, in which shares of a nonlinear model need not descend.

    Parameters
    ----------
    explained_variance_ratio : ndarray of shape (n_components,)
    pca_explained_variance_ratio : ndarray of shape (n_pca_components,) or None, default=None
        At most the first n_components of them are drawn.
    name : str, default="VAE"

    Attributes
    ----------
    bars_ : list of BarContainer
        The bars of the model and, if a PCA is given, of PCA.
    lines_ : list of Line2D
        Cumulative sums, in the same order.
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
    legend_: "Legend"

    def __init__(
        self,
        *,
        explained_variance_ratio: Floats,
        pca_explained_variance_ratio: Floats | None = None,
        name: str = "VAE",
    ) -> None:
        self.explained_variance_ratio = explained_variance_ratio
        self.pca_explained_variance_ratio = pca_explained_variance_ratio
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
        self.bars_, self.lines_ = [], []
        for i, (label, ratio) in enumerate(series.items()):
            place = np.arange(len(ratio)) + (i - (len(series) - 1) / 2) * width
            bar_style = style(plt.Rectangle, kwargs, color=COLORS[i], width=0.9 * width, label=label)
            self.bars_.append(self.ax_.bar(place, ratio, **bar_style))
            # The points lie over the middles of the bars, so that lines of nearly the same height stay apart.
            cumulative = np.cumsum(ratio)
            self.lines_ += self.ax_.plot(place, cumulative, color=COLORS[i], marker="o", markersize=4, linewidth=1)
        self.ax_.set(xlabel="component", ylabel="explained variance ratio (lines: cumulative)")
        self.ax_.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        self.legend_ = self.ax_.legend()
        return self
