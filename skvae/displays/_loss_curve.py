from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import COLORS, Display, Fitted, Floats, Numbers, Steps, style
from ._model import Model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


class LossCurveDisplay(Display):
    """Loss by epoch, in nats per row, and the epoch whose weights were kept.

    Parameters
    ----------
    epoch : ndarray of shape (n_epochs,)
        Epoch numbers; 0 is the start.
    losses : dict of str to ndarray of shape (n_epochs,)
        Losses by name. NaN where an epoch has no such loss.
    kl : ndarray of shape (n_epochs,) or None, default=None
        KL term of the training loss.
    best_epoch : int or None, default=None

    Attributes
    ----------
    lines_ : list of Line2D
        One for each loss.
    best_line_ : Line2D or None
    kl_ax_ : Axes or None
        Axes of the KL term, with a scale of its own at the right.
    kl_line_ : Line2D or None
    legend_ : Legend
    ax_, figure_ : Axes, Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skvae import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> from skvae.displays import LossCurveDisplay
    >>> list(LossCurveDisplay.from_estimator(vae).losses)
    ['training', 'validation rows']
    """

    lines_: "list[Line2D]"
    best_line_: "Line2D | None"
    kl_ax_: "Axes | None"
    kl_line_: "Line2D | None"
    legend_: "Legend"

    def __init__(
        self, *, epoch: Numbers, losses: dict[str, Floats], kl: Floats | None = None, best_epoch: int | None = None
    ) -> None:
        self.epoch = epoch
        self.losses = losses
        self.kl = kl
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(
        cls, estimator: Fitted | Steps, *, kl: bool = False, ax: "Axes | None" = None, **kwargs: Any
    ) -> "LossCurveDisplay":
        """Draw the losses in the ``history_`` of a fitted VAETransformer.

        The training loss is the mean over an epoch, with the `beta` and `free_bits` of training. The loss of validation
        rows (or, without them, of a few training rows) is their score after an epoch, with its sign changed. Where only
        the start and the end were scored, it is two points.

        Parameters
        ----------
        estimator : fitted VAETransformer, or Pipeline that ends in one
        kl : bool, default=False
            Whether to draw the KL term as well, on an axis at the right.
        ax : Axes or None, default=None
        **kwargs : dict
            Keyword arguments of ``ax.plot``.

        Returns
        -------
        display : LossCurveDisplay
        """
        model = Model(estimator)
        history = model.history_

        def column(key: str) -> Floats:
            return np.array([row.get(key, np.nan) for row in history], dtype=float)  # the start has no training loss

        names = {"valid_score": "validation rows", "train_score": "a few training rows"}
        scores = {name: -column(key) for key, name in names.items() if any(key in row for row in history)}
        return cls(
            epoch=np.array([row["epoch"] for row in history]),
            losses={"training": column("train_loss"), **scores},
            kl=column("train_kl") if kl else None,
            best_epoch=model.best_iter_,
        ).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "LossCurveDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes to draw on. None draws on a new figure.
        **kwargs : dict
            Keyword arguments of ``ax.plot``.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        plt = self._open(ax)
        self.lines_, self.best_line_, self.kl_ax_, self.kl_line_ = [], None, None, None
        for color, (name, loss) in zip(COLORS, self.losses.items(), strict=False):
            marker = "o" if np.isnan(loss[1:]).any() else "None"  # what few epochs have makes no line
            own = {"color": color, "label": name, "marker": marker}
            self.lines_ += self.ax_.plot(self.epoch, loss, **style(plt.Line2D, kwargs, **own))
        handles = [*self.lines_]
        if self.best_epoch is not None:
            label = f"kept: epoch {self.best_epoch}"
            self.best_line_ = self.ax_.axvline(self.best_epoch, color="0.4", linestyle=":", zorder=1, label=label)
            handles.append(self.best_line_)
        if self.kl is not None:
            self.kl_ax_ = self.ax_.twinx()
            (self.kl_line_,) = self.kl_ax_.plot(self.epoch, self.kl, color=COLORS[3], linestyle="--", label="KL")
            self.kl_ax_.set_ylabel("KL, nats per row")
            handles.append(self.kl_line_)
        if len(self.epoch) == 1:
            self.ax_.set_title("No curve: no epoch was trained, and the model is its start", fontsize="small")
        self.ax_.set(xlabel="epoch (0: the start)", ylabel="loss, nats per row")
        self.ax_.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
        # The axes drawn last hold the legend, so that it lies above all lines. With the KL term, it is placed where the
        # falling losses and the rising KL leave room.
        if self.kl_ax_ is None:
            self.legend_ = self.ax_.legend(handles=handles, loc="best")
        else:
            self.legend_ = self.kl_ax_.legend(handles=handles, loc="center right")
        return self
