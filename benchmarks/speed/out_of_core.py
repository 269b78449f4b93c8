"""A fit of more rows than memory holds: a mapped file under a limit on the private memory of the process (Linux).

    OMP_NUM_THREADS=2 python -m benchmarks.speed.out_of_core --gigabytes 20 --limit 4

The limit is RLIMIT_DATA, which the system enforces: what the process allocates beyond it fails. Pages of the mapped
file are the system's cache, which it takes back when others need memory. A resident copy of the rows would be of the
file's size. Needs that much disk in `--folder`.
"""

import argparse
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
from benchmarks.common.processes import answer
from skvae import VAETransformer

N_FEATURES = 500
BLOCK = 20_000


def write(path, n_bytes):
    """A file of rows near a curved surface; returns their number. All blocks take their noise from one table."""
    n = int(n_bytes / 4 / N_FEATURES)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n, N_FEATURES))
    noise = 0.3 * np.random.default_rng(0).standard_normal((2 * BLOCK, N_FEATURES), dtype=np.float32)

    def rows_of_noise(rng, shape):
        start = rng.randint(BLOCK)
        return noise[start : start + shape[0]]

    fill(X, d=5, n_hidden=20, noise=rows_of_noise, block=BLOCK).flush()
    return n


def fit(path, limit):
    X = np.load(path, mmap_mode="r")
    vae = VAETransformer(5, max_iter=1, refit=False, random_state=0)
    vae.fit(np.array(X[:1000]))  # libraries take their memory
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9), resource.RLIM_INFINITY))
    with sklearn.config_context(working_memory=256):
        start = time.perf_counter()
        vae.fit(X)
        seconds = time.perf_counter() - start
        held_out = np.random.RandomState(1).randint(len(X), size=20_000)
        rows = X[np.sort(held_out)]
    start_score = VAETransformer(5, max_iter=0, random_state=0).fit(np.array(X[:20_000])).score(rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"seconds": seconds, "score": vae.score(rows), "linear model's": start_score, "most resident, MB": peak}
    print(json.dumps(result))


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the file (default 1)")
    parser.add_argument("--limit", type=float, default=4.0, help="GB of private memory (default 4)")
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        fit(args.fit, args.limit)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, start = Path(folder) / "X.npy", time.perf_counter()
        n = write(path, args.gigabytes * 1e9)
        print(f"{n:,} x {N_FEATURES} float32, {args.gigabytes:g} GB, written in {time.perf_counter() - start:.0f} s")
        found = answer(__spec__.name, "--fit", path, "--limit", args.limit)
        threads = torch.get_num_threads()
        print(f"one epoch and all passes before it in {args.limit:g} GB of private memory, {threads} threads:")
        print("\n".join(f"{name}: {value:,.1f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
