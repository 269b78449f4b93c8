"""How the seconds of a fit grow with rows, features, components, network and workers: each from one base, on its own.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.growth

A fit is a start (checks, scaling, the linear optimum, and what attributes tell of the rows) and epochs; the two are
read apart, as a fit of no epochs and the rest of one of a few. "grows as" is the exponent between a row and the one
before. Processes have one thread each. That of `distributed` needs its extra.
"""

import argparse
import json
import time
import warnings

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from benchmarks.common.arguments import parser_of
from benchmarks.common.curved_surface import fill
from benchmarks.common.markdown import heading, line
from benchmarks.common.processes import answer
from skvae import VAETransformer

BASE = {"rows": 10_000, "features": 200, "components": 8, "width": 256}
GROWTH = {
    "rows": ("default batches: 16 rows up to 256", [1000, 10_000, 100_000, 1_000_000]),
    "features": ("", [50, 200, 800, 3200]),
    "width": ("of both hidden layers", [64, 256, 1024]),
}
COMPONENTS = [2, 8, 32, 128]
POSTERIORS = ["diag", "rho", "rho_diag", "full"]


def spectra(n, p):
    return fill(np.empty((n, p), np.float32), d=6, n_hidden=40, height=1 / 6)


def seconds(rows, features, components, width, epochs=2, turns=3, **params):
    """(s of the start, s an epoch), medians."""
    X = spectra(rows, features)

    def fit(max_iter):
        vae = VAETransformer(
            components,
            hidden_layer_sizes=(width, width),
            max_iter=max_iter,
            validation_fraction=None,
            random_state=0,
            device="cpu",
            **params,
        )
        begin = time.perf_counter()
        vae.fit(X)
        return time.perf_counter() - begin

    fit(1 if rows <= 10_000 else 0)
    found = [(fit(0), fit(epochs)) for _ in range(turns)]
    start, whole = np.median(found, axis=0)
    return start, (whole - start) / epochs


def show(value, start, epoch, before):
    """Print a row of a table; `before` is the row before it."""
    exponents = ["", ""]
    if before is not None:
        steps = [np.log(b / a) / np.log(value / before[0]) for a, b in zip(before[1:], (start, epoch), strict=True)]
        exponents = [f"{step:.2f}" for step in steps]
    print(line(f"{value:,}", f"{start:.2f}", exponents[0], f"{epoch:.3f}", exponents[1]), flush=True)
    return value, start, epoch


def grow(most):
    for name, (remark, values) in GROWTH.items():
        others = ", ".join(f"{value:,} {other}" for other, value in BASE.items() if other != name)
        print(f"\nBy {name}{remark and f' ({remark})'}; {others}\n")
        print(heading(name, "start, s", "grows as", "an epoch, s", "grows as"))
        before = None
        for value in values:
            if name != "rows" or value <= most:
                turns = 1 if value > 100_000 else 3
                before = show(value, *seconds(**{**BASE, name: value}, turns=turns), before)


def components():
    n, p = BASE["rows"], BASE["features"]
    print(f"\nBy components and posterior, {n:,} x {p}: s an epoch, and as a ratio to diag's of the same components\n")
    print(heading("components", "start, s", *POSTERIORS))
    for d in COMPONENTS:
        found = {name: seconds(**{**BASE, "components": d}, posterior=name) for name in POSTERIORS}
        start, diag = found["diag"]
        ratios = [f"{found[name][1] / diag:.2f}" for name in POSTERIORS[1:]]
        print(line(d, f"{start:.2f}", f"{diag:.3f}", *ratios), flush=True)


def workers(most):
    X, grid = spectra(2000, 200), {"random_state": [0, 1, 2, 3], "beta": [1.0, 4.0]}
    vae = VAETransformer(8, max_iter=10, validation_fraction=None, device="cpu")
    print("\nBy workers: a search of 16 fits of 1,000 x 200, s; ratio to one worker\n")
    print(heading("n_jobs", "s", "ratio"))
    first = None
    for n_jobs in range(1, most + 1):
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            GridSearchCV(vae, grid, cv=2, refit=False, n_jobs=n_jobs).fit(X)
            taken.append(time.perf_counter() - begin)
        first = first or min(taken)
        print(line(n_jobs, f"{min(taken):.1f}", f"{min(taken) / first:.2f}"), flush=True)


def distributed(most):
    print("\nBy processes that train one model (`distributed=True`), 20,000 x 200: s an epoch; ratio to one\n")
    print(heading("batch", "width", *(f"{k} processes" for k in range(1, most + 1)), "ratio"))
    for batch, width in ((256, 256), (4096, 256), (256, 1024), (4096, 1024)):
        taken = []
        for k in range(1, most + 1):
            launcher = [] if k == 1 else ["-m", "torch.distributed.run", "--nproc-per-node", str(k), "--standalone"]
            taken.append(answer(__spec__.name, "--job", batch, width, launcher=launcher))
        print(line(batch, width, *(f"{s:.3f}" for s in taken), f"{taken[-1] / taken[0]:.2f}"), flush=True)


def job(batch, width):
    """One process's part of a distributed fit."""
    torch.set_num_threads(1)
    own = {"batch_size": batch, "width": width, "epochs": 4}
    print(json.dumps(seconds(**{**BASE, "rows": 20_000, **own}, distributed=True)[1]), flush=True)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--most-rows", type=int, default=1_000_000)
    parser.add_argument("--most-workers", type=int, default=2)
    parser.add_argument("--job", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.job:
        return job(*args.job)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    grow(args.most_rows)
    components()
    workers(args.most_workers)
    distributed(args.most_workers)


if __name__ == "__main__":
    main()
