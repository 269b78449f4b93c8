"""The nets whose training is timed: their sizes, and how they are made and trained without the rest of a fit."""

from benchmarks.common.curved_surface import sample
from benchmarks.speed.competitors import EPOCHS, RATE
from skvae import VAETransformer
from skvae._data.fit_data import FitData
from skvae._data.rows import Rows
from skvae._training.fit import new_net, start_linear, to_device

CASES = {
    "small": dict(n=4000, p=256, hidden=(128,), d=10, batch=64),
    "large": dict(n=10_000, p=784, hidden=(400,), d=20, batch=128),
    "wide latent": dict(n=4000, p=784, hidden=(400,), d=64, batch=128),
}


def data(n, p, d, seed=0):
    """Rows near a curved surface of d dimensions."""
    return sample(n, p, d, n_hidden=2 * d, noise=0.3, seed=seed)


def untrained(case, X, **options):
    """A net for the rows X of a case, without the linear start, and the parameters it is made of."""
    settings = {"activation": "relu", "learning_rate_init": RATE, "weight_decay": 0.0, "random_state": 0, **options}
    params = VAETransformer(case["d"], hidden_layer_sizes=case["hidden"], batch_size=case["batch"], **settings)
    return new_net(params, FitData(Rows(X)), 0), params


def on_device(net, X):
    """The rows as training has them, on the net's device."""
    return to_device(net, Rows(X))


def at_start(case, X, **options):
    """A net of a case at its linear start, and its rows."""
    net, params = untrained(case, X, **options)
    u = on_device(net, X)
    start_linear(net, params, u)
    return net, u


def training(net, u):
    """A function that trains the net for EPOCHS epochs more and returns the last one's loss."""

    def run():
        net.fit_loop((u, None), epochs=EPOCHS)
        return net.history[-1, "train_loss"]

    return run
