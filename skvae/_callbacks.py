"""scikit-learn's callbacks (`sklearn.callback`, from 1.9 on) are told of a fit's stages and their epochs."""

from typing import Any

from skorch.callbacks import Callback


class FitTask:
    """One fit, whose subtasks are stages of training, whose subtasks are epochs.

    Parameters
    ----------
    estimator : VAETransformer
    n_stages : int
    attributes_of : callable
        (net) -> dict: the fitted attributes that the estimator would have with such a net.
    X, y, sample_weight : as `fit` was given them
        Where y is None, hooks get X for it, which is what an autoencoder learns to return: `ScoringMonitor` takes no
        score without a y.
    """

    def __init__(self, estimator, n_stages, attributes_of, X, y, sample_weight):
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.given = {"estimator": estimator, "X": X, "y": X if y is None else y, "metadata": metadata}
        self.attributes_of = attributes_of
        self.context = estimator._init_callback_context(max_subtasks=n_stages)
        self.context.call_on_fit_task_begin(**self.given)

    def stage(self, name, n_epochs):
        """The skorch callback that tells of one net's training."""
        return StageTask(self, name, n_epochs)

    def end(self):
        self.context.call_on_fit_task_end(**self.given, reconstruction_attributes={})


class StageTask(Callback):
    """Tells of one net's training. A callback that returns True when an epoch ends stops this stage."""

    def __init__(self, fit, name, n_epochs):
        self.fit, self.name, self.n_epochs = fit, name, n_epochs
        self.epoch_: Any = None

    def on_train_begin(self, net, **kwargs):
        self.context_ = self.fit.context.subcontext(self.name, max_subtasks=self.n_epochs)
        self.context_.call_on_fit_task_begin(**self.fit.given)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = self.context_.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(**self.fit.given)

    def on_epoch_end(self, net, **kwargs):
        epoch, self.epoch_ = self.epoch_, None
        if self._ended(epoch, net):
            raise KeyboardInterrupt  # how skorch's callbacks stop training

    def on_train_end(self, net, **kwargs):
        if self.epoch_ is not None:  # it was not whole
            self.epoch_.call_on_fit_task_end(**self.fit.given)
        self._ended(self.context_, net)

    def _ended(self, context, net):
        return context.call_on_fit_task_end(
            **self.fit.given, reconstruction_attributes=lambda: self.fit.attributes_of(net)
        )
