"""Seconds an epoch of VAETransformer's engine against the loop a user writes by hand, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/engine.py
    OMP_NUM_THREADS=2 python benchmarks/engine.py

All train the same network on the same rows from the same weights with the same batch size, rate and dtype, for the
same number of epochs, and end at the same loss within 1 %, or the run fails. Turns are interleaved; a figure is
the median of the ratios of neighbouring turns.
"""

import argparse
import copy
import math
import time

import numpy as np
import torch
from skorch import NeuralNet
from torch.utils.data import DataLoader, TensorDataset

from skvae import VAETransformer
from skvae._training import new_net, start_linear, to_device
from skvae.posteriors import POSTERIORS

CASES = {
    "small": dict(n=4000, p=256, hidden=(128,), d=10, batch=64),
    "large": dict(n=10_000, p=784, hidden=(400,), d=20, batch=128),
}
EPOCHS = 4
LOG_2PI = math.log(2 * math.pi)
RATE = 1e-4


def data(n, p, d, seed=0):
    """Rows near a curved surface of d dimensions."""
    rng = np.random.RandomState(seed)
    z = rng.standard_normal((n, d))
    X = np.tanh(z @ rng.standard_normal((d, 2 * d))) @ rng.standard_normal((2 * d, p))
    return (X + 0.3 * rng.standard_normal((n, p))).astype(np.float32)


def engine(case, posterior, X):
    """(module at its start, function that trains a net for EPOCHS epochs and returns its last loss)."""
    params = VAETransformer(
        case["d"],
        posterior=posterior,
        hidden_layer_sizes=case["hidden"],
        activation="relu",
        batch_size=case["batch"],
        learning_rate_init=RATE,
        weight_decay=0.0,
        random_state=0,
    )
    net = new_net(params, X, 0)
    u = to_device(net, X)
    start_linear(net, params, u)

    def run():
        net.fit_loop((u, None), epochs=EPOCHS)
        return net.history[-1, "train_loss"]

    return net.module_, u, run


def loss_of(module, x):
    """Minus the ELBO of a diagonal posterior and Gaussian noise, as the tutorials write it."""
    mean, log_var = module.encoder(x).chunk(2, dim=-1)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    log_noise = module.likelihood.log_v
    log_likelihood = -0.5 * ((x - module.decoder(z)).pow(2) / log_noise.exp() + log_noise + LOG_2PI).sum(-1)
    kl = -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(-1)
    return (kl - log_likelihood).mean() + module.log_volume


def by_hand(module, u, batch):
    """DataLoader over a TensorDataset, Adam, loss.item() for the log: the tutorial's loop."""
    loader = DataLoader(TensorDataset(u), batch_size=batch, shuffle=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE)

    def run():
        for _ in range(EPOCHS):
            total = 0.0
            for (x,) in loader:
                optimizer.zero_grad()
                loss = loss_of(module, x)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(x)
        return total / len(u)

    return run


class PlainSkorch(torch.nn.Module):
    """The module as skorch wants it: a forward that returns the loss."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x):
        return loss_of(self.vae, x)


class LossItself(torch.nn.Module):
    def forward(self, loss, y):
        return loss


def skorch_as_it_comes(module, u, batch):
    net = NeuralNet(
        PlainSkorch(module),
        LossItself,
        optimizer=torch.optim.Adam,
        lr=RATE,
        batch_size=batch,
        max_epochs=EPOCHS,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).initialize()
    rows, targets = u.numpy(), np.zeros(len(u), np.float32)

    def run():
        net.partial_fit(rows, targets)
        return net.history[-1, "train_loss"]

    return run


def products(case, module, u):
    """The matrix products alone: forward and backward of the linear layers, no step."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = {layer: torch.randn(case["batch"], layer.in_features, requires_grad=True) for layer in layers}

    def run():
        for _ in range(EPOCHS * len(u) // case["batch"]):
            torch.cat([layer(inputs[layer]).reshape(-1) for layer in layers]).sum().backward()

    return run


def interleaved(runs, turns):
    """Median seconds of each run, its ratio to the first, and its last result."""
    seconds = {name: [] for name in runs}
    last = {}
    for turn in range(turns + 1):  # the first warms up
        for name, run in runs.items():
            start = time.perf_counter()
            last[name] = run()
            if turn:
                seconds[name].append((time.perf_counter() - start) / EPOCHS)
    first = np.array(seconds[next(iter(runs))])
    return {name: (np.median(s), np.median(np.array(s) / first), last[name]) for name, s in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.get_default_dtype()}")
    for name in args.cases:
        case = CASES[name]
        X = data(case["n"], case["p"], case["d"])
        torch.manual_seed(0)
        module, u, run = engine(case, "diag", X)
        runs = {"by hand": by_hand(copy.deepcopy(module), u, case["batch"])}
        runs["skorch as it comes"] = skorch_as_it_comes(copy.deepcopy(module), u, case["batch"])
        runs["VAETransformer"] = run
        runs["matrix products alone"] = products(case, copy.deepcopy(module), u)
        for posterior in [name for name in POSTERIORS if name != "diag"]:
            runs[f"VAETransformer, {posterior}"] = engine(case, posterior, X)[2]
        print(f"\n{name}: {case}\n\n| run | ms an epoch | ratio to by hand | last loss |\n|---|---|---|---|")
        results = interleaved(runs, args.turns)
        for label, (seconds, ratio, loss) in results.items():
            print(f"| {label} | {1000 * seconds:.0f} | {ratio:.2f} | {'' if loss is None else f'{loss:.2f}'} |")
        reference = results["by hand"][2]
        for label in ("skorch as it comes", "VAETransformer"):
            assert abs(results[label][2] / reference - 1) < 0.01, f"{label} does not train alike"


if __name__ == "__main__":
    main()
