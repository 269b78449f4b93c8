"""Seconds an epoch of VAETransformer's engine against what a user would otherwise run, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/engine.py
    OMP_NUM_THREADS=2 python benchmarks/engine.py
    python benchmarks/engine.py --memory

All train the same network on the same rows from the same weights with the same batch size, rate and dtype, for the
same number of epochs; those that minimise the same loss end at the same within 1 %, or the run fails. Turns are
interleaved; a ratio is the median of the ratios of neighbouring turns. Then the seconds of what else a fit does, or,
with --memory, the bytes that a posterior keeps for its gradient.
"""

import argparse
import copy
import time
from functools import partial

import numpy as np
import torch
from competitors import EPOCHS, RATE, by_hand, dense, pythae_as_it_comes, row_by_row, skorch_as_it_comes

from skvae import VAETransformer
from skvae._rows import Rows
from skvae._training import new_net, start_linear, to_device
from skvae._watch import Watch
from skvae.posteriors import POSTERIORS

CASES = {
    "small": dict(n=4000, p=256, hidden=(128,), d=10, batch=64),
    "large": dict(n=10_000, p=784, hidden=(400,), d=20, batch=128),
    "wide latent": dict(n=4000, p=784, hidden=(400,), d=64, batch=128),
}
PRODUCTS = "matrix products alone"
DIAG, FULL = "VAETransformer, diag", "VAETransformer, full"
COMPILED = "VAETransformer, diag, compile=True"
DENSE = "by hand, full by torch.distributions"
ROW_BY_ROW = "by hand, full row by row, scaled from two batches"


def data(n, p, d, seed=0):
    """Rows near a curved surface of d dimensions."""
    rng = np.random.RandomState(seed)
    z = rng.standard_normal((n, d))
    X = np.tanh(z @ rng.standard_normal((d, 2 * d))) @ rng.standard_normal((2 * d, p))
    return (X + 0.3 * rng.standard_normal((n, p))).astype(np.float32)


def engine(case, posterior, X, **options):
    """(module at its start, its rows, function that trains it for EPOCHS epochs and returns the last loss)."""
    params = VAETransformer(
        case["d"],
        posterior=posterior,
        hidden_layer_sizes=case["hidden"],
        activation="relu",
        batch_size=case["batch"],
        learning_rate_init=RATE,
        weight_decay=0.0,
        random_state=0,
        **options,
    )
    net = new_net(params, Rows(X), 0)
    u = to_device(net, Rows(X))
    start_linear(net, params, u)

    def run():
        net.fit_loop((u, None), epochs=EPOCHS)
        return net.history[-1, "train_loss"]

    return net.module_, u, run


def products(module, u, batch):
    """The matrix products alone, forward and backward, of as many batches. The rows themselves need no gradient."""
    weights = [weight for weight in module.parameters() if weight.ndim == 2]
    inputs = [torch.randn(batch, w.shape[1], requires_grad=w.shape[1] != u.shape[1]) for w in weights]
    gradients = [torch.randn(batch, len(w)) for w in weights]
    wanted = [*weights, *(x for x in inputs if x.requires_grad)]

    def run():
        for _ in range(EPOCHS * len(u) // batch):
            outputs = [x @ weight.T for x, weight in zip(inputs, weights, strict=True)]
            torch.autograd.grad(outputs, wanted, gradients)

    return run


def competition(case):
    """Named runs of a case, and the epochs that each does; the slowest does one over a few of the rows."""
    X = data(case["n"], case["p"], case["d"])
    torch.manual_seed(0)
    starts, ours = {}, {}
    for posterior in POSTERIORS:
        starts[posterior], u, ours[f"VAETransformer, {posterior}"] = engine(case, posterior, X)
    batch, few = case["batch"], 2 * case["batch"]

    def start(posterior):
        return copy.deepcopy(starts[posterior])

    runs = {
        "by hand": by_hand(start("diag"), u, batch),
        "skorch as it comes": skorch_as_it_comes(start("diag"), u, batch),
        "pythae as it comes": pythae_as_it_comes(start("diag"), u, batch),
        **ours,
        COMPILED: engine(case, "diag", X, compile=True)[2],
        PRODUCTS: products(start("diag"), u, batch),
        f"{PRODUCTS}, full": products(start("full"), u, batch),
        DENSE: by_hand(start("full"), u, batch, dense),
        ROW_BY_ROW: by_hand(start("full"), u[:few], batch, row_by_row, epochs=1),
    }
    return runs, dict.fromkeys(runs, EPOCHS) | {ROW_BY_ROW: few / len(u)}


def interleaved(runs, turns):
    """Seconds of each run in each turn, and its last result."""
    seconds = {name: [] for name in runs}
    last = {}
    for turn in range(turns + 1):  # the first warms up
        for name, run in runs.items():
            start = time.perf_counter()
            last[name] = run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(s) for name, s in seconds.items()}, last


def compare(name, turns):
    """Print the table of a case."""
    runs, epochs = competition(CASES[name])
    seconds, last = interleaved(runs, turns)

    def ratio(label, reference):
        return np.median(seconds[label] / seconds[reference]) * epochs[reference] / epochs[label]

    print(f"\n{name}: {CASES[name]}\n")
    print("| run | ms an epoch | ratio to by hand | ratio to diag | last loss |\n|---|---|---|---|---|")
    for label in runs:
        ms = 1000 * np.median(seconds[label]) / epochs[label]
        loss = f"{last[label]:.2f}" if last[label] and epochs[label] == EPOCHS else ""
        print(f"| {label} | {ms:.0f} | {ratio(label, 'by hand'):.2f} | {ratio(label, DIAG):.2f} | {loss} |")
    grown = ratio(f"{PRODUCTS}, full", PRODUCTS)
    print(f"\nfull to diag: {ratio(FULL, DIAG):.2f}, their matrix products alone: {grown:.2f}")
    for label, reference in (("skorch as it comes", "by hand"), (DIAG, "by hand"), (COMPILED, DIAG), (DENSE, FULL)):
        assert abs(last[label] / last[reference] - 1) < 0.01, f"{label} does not train alike"


def rest_of_fit(turns):
    """Print the seconds of what a fit does beside its epochs: the way to its start, and a look at validation rows."""
    X = data(5000, 500, 10)
    runs = {}
    for likelihood in ("gaussian", "gaussian_isotropic"):
        model = VAETransformer(10, likelihood=likelihood, max_iter=0, random_state=0).fit(X)
        u = to_device(model.net_, Rows(X))
        watch = Watch(model.net_, u[500:], u[:500])
        runs[f"{likelihood}, all before and after the epochs"] = partial(model.fit, X)
        runs[f"{likelihood}, validation pass"] = partial(watch.look, 1)
        runs[f"{likelihood}, an epoch"] = partial(model.net_.fit_loop, (u[500:], None), epochs=1)
    print("\n5,000 x 500, 10 components, defaults\n\n| part of fit | s |\n|---|---|")
    for label, seconds in interleaved(runs, turns)[0].items():
        print(f"| {label} | {np.median(seconds):.4f} |")


def kept_for_backward(posterior, n, d):
    """Bytes that a draw of each row and its KL hold until backward: of their results and of what autograd saves."""
    held = []

    def hold(tensor):
        held.append(tensor)
        return tensor

    raw = torch.zeros(n, posterior.n_raw(d), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(hold, hold):
        q = posterior(raw, d)
        hold(q.rsample(torch.zeros(n, d)))
        hold(q.kl())
    storages = [tensor.untyped_storage() for tensor in held]  # views share theirs
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def memory(n=256):
    print(f"\nMB kept for backward by a draw of each of {n} rows and its KL (numbers a row and component)\n")
    print(f"| d | {' | '.join(POSTERIORS)} |\n|{'---|' * (len(POSTERIORS) + 1)}")
    for d in (64, 128, 256, 512):
        cells = []
        for name, posterior in POSTERIORS.items():
            if name == "full" and d > 128:
                cells.append("")
                continue
            kept = kept_for_backward(posterior, n, d)
            cells.append(f"{kept / 1e6:.2f} ({kept / (4 * n * d):.1f})")
        print(f"| {d} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.get_default_dtype()}")
    if args.memory:
        return memory()
    for name in args.cases:
        compare(name, args.turns)
    rest_of_fit(args.turns)


if __name__ == "__main__":
    main()
