"""Seconds an epoch of VAETransformer's engine against what a user would otherwise run, side by side in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.engine
    OMP_NUM_THREADS=2 python -m benchmarks.speed.engine
    python -m benchmarks.speed.engine --memory

All train the same network on the same rows from the same weights with the same batch size, rate and dtype, for the
same number of epochs; those that minimise the same loss end at the same within 1 %, or the run fails. Turns are
interleaved; a ratio is the median of the ratios of neighbouring turns. Then the posteriors' epochs at 20 components and
the seconds of what else a fit does, or, with --memory, the bytes that a posterior keeps for its gradient.
"""

import copy
from functools import partial

import numpy as np
import torch

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line
from benchmarks.common.turns import interleaved
from benchmarks.speed.competitors import (
    EPOCHS,
    by_hand,
    dense,
    loaded,
    pythae_as_it_comes,
    row_by_row,
    skorch_as_it_comes,
)
from benchmarks.speed.nets import CASES, at_start, data, on_device, training
from skvae import VAETransformer
from skvae._training.early_stopping import EarlyStopping, scored_rows
from skvae.posteriors import POSTERIORS

PRODUCTS = "matrix products alone"
DIAG, FULL = "VAETransformer, diag", "VAETransformer, full"
COMPILED = "VAETransformer, diag, compile=True"
DENSE = "by hand, full by torch.distributions"
ROW_BY_ROW = "by hand, full row by row, scaled from two batches"


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
        net, u = at_start(case, X, posterior=posterior)
        starts[posterior], ours[f"VAETransformer, {posterior}"] = net.module_, training(net, u)
    batch, few = case["batch"], 2 * case["batch"]

    def start(posterior):
        return copy.deepcopy(starts[posterior])

    runs = {
        "by hand": by_hand(start("diag"), loaded(u, batch)),
        "skorch as it comes": skorch_as_it_comes(start("diag"), u, batch),
        "pythae as it comes": pythae_as_it_comes(start("diag"), u, batch),
        **ours,
        COMPILED: training(*at_start(case, X, compile=True)),
        PRODUCTS: products(start("diag"), u, batch),
        f"{PRODUCTS}, full": products(start("full"), u, batch),
        DENSE: by_hand(start("full"), loaded(u, batch), dense),
        ROW_BY_ROW: by_hand(start("full"), loaded(u[:few], batch), row_by_row, epochs=1),
    }
    return runs, dict.fromkeys(runs, EPOCHS) | {ROW_BY_ROW: few / len(u)}


def compare(name, turns):
    """Print the table of a case."""
    runs, epochs = competition(CASES[name])
    seconds, last = interleaved(runs, turns)

    def ratio(label, reference):
        return np.median(seconds[label] / seconds[reference]) * epochs[reference] / epochs[label]

    print(f"\n{name}: {CASES[name]}\n")
    print(heading("run", "ms per epoch", "ratio to by hand", "to diag", "to its matrix products", "last loss"))
    for label in runs:
        ms = 1000 * np.median(seconds[label]) / epochs[label]
        loss = f"{last[label]:.2f}" if last[label] and epochs[label] == EPOCHS else ""
        own = f"{PRODUCTS}, full" if "full" in label else PRODUCTS
        ratios = [f"{ratio(label, reference):.2f}" for reference in ("by hand", DIAG, own)]
        print(line(label, f"{ms:.0f}", *ratios, loss))
    grown = ratio(f"{PRODUCTS}, full", PRODUCTS)
    print(f"\nfull to diag: {ratio(FULL, DIAG):.2f}, their matrix products alone: {grown:.2f}")
    for label, reference in (("skorch as it comes", "by hand"), (DIAG, "by hand"), (COMPILED, DIAG), (DENSE, FULL)):
        assert abs(last[label] / last[reference] - 1) < 0.01, f"{label} does not train alike"


def posteriors(turns):
    """Print the posteriors' epochs at 20 components, as a ratio to diag's and to their matrix products."""
    case = CASES["small"] | {"d": 20}
    X, runs = data(case["n"], case["p"], case["d"]), {}
    for posterior in POSTERIORS:
        net, u = at_start(case, X, posterior=posterior)
        runs[posterior] = training(net, u)
        runs[posterior, PRODUCTS] = products(copy.deepcopy(net.module_), u, case["batch"])
    seconds, _ = interleaved(runs, turns)
    print(f"\nPosteriors: {case}\n")
    print(heading("posterior", "ms per epoch", "ratio to diag", "to its matrix products", "its products to diag's"))
    for posterior in POSTERIORS:
        own = seconds[posterior, PRODUCTS]
        pairs = (seconds[posterior], seconds["diag"]), (seconds[posterior], own), (own, seconds["diag", PRODUCTS])
        ratios = [f"{np.median(above / below):.2f}" for above, below in pairs]
        print(line(posterior, f"{1000 * np.median(seconds[posterior]) / EPOCHS:.0f}", *ratios))


def validation_pass(net, u):
    """A function that scores 500 rows as training does at its end, and keeps the weights if they are to be kept."""
    scored = scored_rows(net, u[500:], u[:500])

    def score():
        return net.score_rows(scored.u, scored.noise)

    early_stopping = EarlyStopping.of(net, scored, score(), net.state_tensors)
    return lambda: early_stopping.update(1, score(), net.state_tensors)


def rest_of_fit(turns):
    """Print the seconds that a fit takes beside its epochs: for its start, and to score validation rows."""
    X = data(5000, 500, 10)
    runs = {}
    for likelihood in ("gaussian", "gaussian_isotropic"):
        model = VAETransformer(10, likelihood=likelihood, max_iter=0, random_state=0).fit(X)
        u = on_device(model.net_, X)
        runs[f"{likelihood}, validation pass"] = validation_pass(model.net_, u)
        runs[f"{likelihood}, an epoch"] = partial(model.net_.fit_loop, (u[500:], None), epochs=1)
    print("\n5,000 x 500, 10 components, defaults\n")
    print(heading("part of fit", "s"))
    for label, seconds in interleaved(runs, turns)[0].items():
        print(line(label, f"{np.median(seconds):.4f}"))


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
    print(f"\nMB kept for backward by a draw of each of {n} rows and its KL (numbers per row and component)\n")
    print(heading("d", *POSTERIORS))
    for d in (64, 128, 256, 512):
        cells = []
        for name, posterior in POSTERIORS.items():
            if name == "full" and d > 128:
                cells.append("")
                continue
            kept = kept_for_backward(posterior, n, d)
            cells.append(f"{kept / 1e6:.2f} ({kept / (4 * n * d):.1f})")
        print(line(d, *cells))


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.get_default_dtype()}")
    if args.memory:
        return memory()
    for name in args.cases:
        compare(name, args.turns)
    posteriors(args.turns)
    rest_of_fit(args.turns)


if __name__ == "__main__":
    main()
