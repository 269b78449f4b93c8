"""How time and memory grow with the rows, each measurement in a process of its own (Linux).

    OMP_NUM_THREADS=2 python -m benchmarks.speed.scale

Memory is the most that a process holds beyond what it held before the call, X being held before. A fit of a mapped
file runs with a limit on its private memory instead (RLIMIT_DATA), which the system enforces.
"""

import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
import torch

from benchmarks.common.arguments import parser_of
from benchmarks.common.curved_surface import fill
from benchmarks.common.markdown import heading, line
from benchmarks.common.processes import answer
from skvae import VAETransformer

N_FEATURES = 200
EPOCHS = 2
N_WIDE = 50  # rows of a table of many channels


def rows(n, into=None):
    return fill(np.empty((n, N_FEATURES), np.float32) if into is None else into, d=5, n_hidden=10)


def estimator(max_iter=EPOCHS):
    return VAETransformer(5, max_iter=max_iter, refit=False, random_state=0)


def held(field):
    """A memory figure of this process in MB, by Linux's account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


def watched(call):
    """Seconds of a call, and the most MB held beyond the memory before it."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the present
    before, start = held("VmRSS"), time.perf_counter()
    call()
    return {"s": time.perf_counter() - start, "MB": held("VmHWM") - before}


def fit(n):
    X = rows(n)
    estimator().fit(X[:1000])  # libraries take their memory
    return watched(lambda: estimator().fit(X))


def fit_wide(p):
    """All settings at their defaults, on few rows of p channels."""
    X = fill(np.empty((N_WIDE, p), np.float32), d=5, n_hidden=10)
    VAETransformer(5, random_state=0).fit(X[:, :N_FEATURES])
    vae = VAETransformer(5, random_state=0)
    found = watched(lambda: vae.fit(X))
    return {**found, "weights": sum(weight.nbytes for weight in vae.net_.module_.parameters()) / 2**20}


def fit_mapped(n):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        rows(n, np.lib.format.open_memmap(path, "w+", np.float32, (n, N_FEATURES))).flush()
        X = np.load(path, mmap_mode="r")
        estimator().fit(np.array(X[:1000]))
        limit = max(200, X.nbytes / 2**20 / 4)  # two chunks and what else a fit needs are some 100 MB
        resource.setrlimit(resource.RLIMIT_DATA, (int((held("VmData") + limit) * 2**20), resource.RLIM_INFINITY))
        with sklearn.config_context(working_memory=limit):
            start = time.perf_counter()
            estimator().fit(X)
        return {"s": time.perf_counter() - start, "MB": limit}


def infer(n):
    """A method of the estimator on n rows beside the bare module call on all of them at once."""
    X = rows(n)
    vae = estimator(max_iter=0).fit(X[:5000])
    module, x = vae.net_.module_, torch.from_numpy(X)
    Z, eps = vae.transform(X), torch.randn(vae.n_importance_samples, 1, 5)
    z = torch.from_numpy(Z)
    few = slice(0, n // 20)  # score holds n_importance_samples times as much
    calls = {
        "transform": (lambda: vae.transform(X), lambda: module.encode(module.standardise(x)).mean, n),
        "inverse_transform": (lambda: vae.inverse_transform(Z), lambda: module.restore(module.decoder(z)), n),
        "score_samples": (
            lambda: vae.score_samples(X[few]),
            lambda: module.importance_terms(module.standardise(x[few]), eps),
            n // 20,
        ),
        "sample": (lambda: vae.sample(n), lambda: module.restore(module.decoder(torch.randn(n, 5))), n),
    }
    result = {}
    with torch.no_grad():
        for name, (ours, bare, n_rows) in calls.items():
            turns = [(watched(ours), watched(bare)) for _ in range(3)]
            seconds, bare_seconds = (np.median([turn[i]["s"] for turn in turns]) for i in (0, 1))
            memory, bare_memory = (max(turn[i]["MB"] for turn in turns) for i in (0, 1))
            ratio = np.median([a["s"] / b["s"] for a, b in turns])
            result[name] = [n_rows / seconds, n_rows / bare_seconds, ratio, memory, bare_memory]
    return result


def apart(function, n):
    """The result of a function of this file in a fresh process."""
    return answer(__spec__.name, "--only", function.__name__, n)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="rows")
    parser.add_argument("--only", nargs=2, metavar=("FUNCTION", "ROWS"), help="one measurement, here, as JSON")
    args = parser.parse_args()
    if args.only:
        function, n = args.only
        return print(json.dumps({f.__name__: f for f in (fit, fit_wide, fit_mapped, infer)}[function](int(n))))

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {N_FEATURES} features")
    print(f"\n`fit`, {EPOCHS} epochs of 90 % of the rows, default batch size\n")
    print(heading("rows", "X, MB", "s", "s per 100,000 rows", "memory beyond X, MB", "in X's"))
    sizes = [n for n in (1000, 10_000, 100_000, 1_000_000) if n <= args.most]
    for n in sizes:
        size, found = 4 * n * N_FEATURES / 2**20, apart(fit, n)
        cells = [f"{n:,}", f"{size:.0f}", f"{found['s']:.1f}", f"{found['s'] / n * 100_000:.1f}"]
        print(line(*cells, f"{found['MB']:.0f}", f"{found['MB'] / size:.2f}"))
    found = apart(fit_mapped, sizes[-1])
    print(f"\nThe last from a mapped file, with {found['MB']:.0f} MB of private memory allowed: {found['s']:.1f} s")

    print(f"\n`fit` of {N_WIDE} rows of many channels, every setting at its default\n")
    print(heading("channels", "X, MB", "weights, MB", "s", "memory beyond X, MB", "in X's and 6 times the weights"))
    for p in (2000, 20_000):
        size, found = 4 * N_WIDE * p / 2**20, apart(fit_wide, p)
        share = found["MB"] / (3 * size + 6 * found["weights"])
        cells = [f"{p:,}", f"{size:.1f}", f"{found['weights']:.1f}", f"{found['s']:.1f}", f"{found['MB']:.0f}"]
        print(line(*cells, f"{share:.2f}"))

    print("\nInference, beside the bare module call on all rows at once\n")
    print(heading("method", "rows", "rows/s", "bare", "seconds, ratio to bare", "memory, MB", "bare"))
    for name, (ours, bare, ratio, memory, bare_memory) in apart(infer, sizes[-1]).items():
        n = sizes[-1] // (20 if name == "score_samples" else 1)
        cells = [name, f"{n:,}", f"{ours:,.0f}", f"{bare:,.0f}", f"{ratio:.2f}"]
        print(line(*cells, f"{memory:.0f}", f"{bare_memory:.0f}"))


if __name__ == "__main__":
    main()
