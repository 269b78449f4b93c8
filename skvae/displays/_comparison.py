from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ._base import COLORS, Display, Floats, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.container import ErrorbarContainer

LABELS = {
    "nats": "nats per held-out row",
    "r2": "R2 of held-out rows",
    "downstream": "prediction of held-out rows",
    "seconds": "seconds of a fit",
}


class Compared(Protocol):
    """What the display needs of a `skvae.Comparison`."""

    @property
    def models(self) -> list[str]: ...
    @property
    def scores(self) -> dict[str, Floats]: ...


class ComparisonDisplay(Display):
    """One score of several models: each split, and mean and standard deviation over splits.

    Parameters
    ----------
    models : list of str
    scores : ndarray of shape (n_models, n_splits)
        Models with NaN are left out.
    measure : {"nats", "r2", "downstream", "seconds"}

    Attributes
    ----------
    points_ : PathCollection
        The splits.
    bars_ : ErrorbarContainer
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA, FactorAnalysis
    >>> from skvae import compare
    >>> X, _ = load_iris(return_X_y=True)
    >>> from skvae.displays import ComparisonDisplay
    >>> display = ComparisonDisplay.from_comparison(compare(X, [PCA(2), FactorAnalysis(2)]), "r2")
    >>> display.scores.shape
    (2, 5)
    """

    points_: "PathCollection"
    bars_: "ErrorbarContainer"

    def __init__(self, *, models: Sequence[str], scores: Floats, measure: str) -> None:
        self.models = models
        self.scores = scores
        self.measure = measure

    @classmethod
    def from_comparison(
        cls,
        comparison: Compared,
        measure: Literal["nats", "r2", "downstream", "seconds"] = "nats",
        *,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> "ComparisonDisplay":
        """Draw a measure of a comparison.

        Parameters
        ----------
        comparison : Comparison
            What `skvae.compare` returned.
        measure : {"nats", "r2", "downstream", "seconds"}, default="nats"
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.errorbar``.

        Returns
        -------
        display : ComparisonDisplay
        """
        if measure not in comparison.scores:
            raise ValueError(f"measure must be one of {', '.join(comparison.scores)}, got {measure!r}.")
        return cls(models=comparison.models, scores=comparison.scores[measure], measure=measure).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "ComparisonDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.errorbar``.

        Returns
        -------
        display : ComparisonDisplay
            The display itself.
        """
        plt = self._open(ax)
        known = np.flatnonzero(np.isfinite(self.scores).all(axis=1)).tolist()
        scores, places = self.scores[known], np.arange(len(known))
        self.points_ = self.ax_.scatter(scores.ravel(), np.repeat(places, scores.shape[1]), s=12, color="0.7")
        options = style(plt.Line2D, kwargs, color=COLORS[0], marker="o", linestyle="none")
        self.bars_ = self.ax_.errorbar(
            scores.mean(axis=1), places, xerr=scores.std(axis=1), **{"capsize": 3, **options}
        )  # fmt: skip
        self.ax_.set_yticks(places, [self.models[i] for i in known])
        self.ax_.invert_yaxis()
        self.ax_.set(xlabel=LABELS[self.measure], ylabel="model")
        if not known:
            self.ax_.set_title("No model has this score in all splits")
        return self
