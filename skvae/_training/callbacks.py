"""scikit-learn's callbacks (`sklearn.callback`, from 1.9 on) are told of a fit's phases and their epochs."""

from typing import Any

from skorch.callbacks import Callback

from .._sklearn_compat import open_callback_context


class FitTask:
    """One fit, whose subtasks are phases of training, whose subtasks are epochs.

    Parameters
    ----------
    estimator : VAETransformer
    n_phases : int
    attributes_of : callable
        (net) -> dict: the fitted attributes that the estimator would have with such a net.
    X, y, **metadata : as `fit` was given them
        Where y is None, hooks get X for it, which is what an autoencoder learns to return: `ScoringMonitor` takes no
        score without a y.
    """

    def __init__(self, estimator, n_phases, attributes_of, X, y, **metadata):
        metadata = {name: value for name, value in metadata.items() if value is not None}
        self.arguments = {"estimator": estimator, "X": X, "y": X if y is None else y, "metadata": metadata}
        self.attributes_of = attributes_of
        self.context = open_callback_context(estimator, n_phases)
        self.context.call_on_fit_task_begin(**self.arguments)

    def phase(self, name, n_epochs):
        """The skorch callback that tells of one phase."""
        return PhaseTask(self, name, n_epochs)

    def end(self):
        self.context.call_on_fit_task_end(**self.arguments, reconstruction_attributes={})


class PhaseTask(Callback):
    """Tells of one phase of training. A callback that returns True when an epoch ends stops this phase."""

    def __init__(self, fit, name, n_epochs):
        self.fit, self.name, self.n_epochs = fit, name, n_epochs
        self.epoch_: Any = None

    def on_train_begin(self, net, **kwargs):
        self.context_ = self.fit.context.subcontext(self.name, max_subtasks=self.n_epochs)
        self.context_.call_on_fit_task_begin(**self.fit.arguments)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = self.context_.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(**self.fit.arguments)

    def on_epoch_end(self, net, **kwargs):
        epoch, self.epoch_ = self.epoch_, None
        if self._end(epoch, net):
            raise KeyboardInterrupt  # how skorch's callbacks stop training

    def on_train_end(self, net, **kwargs):
        if self.epoch_ is not None:  # the epoch is not complete
            self.epoch_.call_on_fit_task_end(**self.fit.arguments)
        self._end(self.context_, net)

    def _end(self, context, net):
        return context.call_on_fit_task_end(
            **self.fit.arguments, reconstruction_attributes=lambda: self.fit.attributes_of(net)
        )
