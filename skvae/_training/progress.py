"""The progress line of `verbose=1`."""

from skorch.callbacks import Callback
from tqdm.auto import tqdm


class ProgressLine(Callback):
    """A line with the epoch, the time left, and the losses of training and validation rows, in nats per row."""

    def __init__(self, n_epochs, description):
        self.n_epochs = n_epochs
        self.description = description

    def on_train_begin(self, net, **kwargs):
        self.first_ = max(len(net.history) - 1, 0)  # a phase may go on from the one before
        self.bar_ = tqdm(total=self.n_epochs, desc=self.description, unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        row = net.history[-1]
        losses = {"train loss": row["train_loss"]}
        if "valid_score" in row:
            losses["validation loss"] = -row["valid_score"]
        self.bar_.set_postfix({name: f"{loss:.2f}" for name, loss in losses.items()})
        self.bar_.update(row["epoch"] - self.first_ - self.bar_.n)  # or from a checkpoint

    def on_train_end(self, net, **kwargs):
        self.bar_.close()
        del self.bar_, self.first_
