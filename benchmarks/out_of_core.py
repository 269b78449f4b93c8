"""A fit of more rows than memory holds: a mapped file under a limit on the private memory of the process (Linux).

    OMP_NUM_THREADS=2 python benchmarks/out_of_core.py --gigabytes 20 --limit 4

The limit is RLIMIT_DATA, which the system enforces: what the process allocates beyond it fails. Pages of the mapped
file are the system's cache, which it takes back when others need memory. A resident copy of the rows would be of the
file's size. Needs that much disk in `--folder`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
import torch

from skvae import VAETransformer

N_FEATURES = 500


def write(path, n_bytes):
    """float32 rows near a curved surface, a block at a time; returns their number."""
    rng = np.random.RandomState(0)
    first, second = rng.standard_normal((5, 20)), rng.standard_normal((20, N_FEATURES))
    n = int(n_bytes / 4 / N_FEATURES)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n, N_FEATURES))
    noise = 0.3 * np.random.default_rng(0).standard_normal((40_000, N_FEATURES), dtype=np.float32)
    for start in range(0, n, 20_000):
        block = X[start : start + 20_000]
        curved = np.tanh(rng.standard_normal((len(block), 5)) @ first) @ second
        block[:] = curved + noise[(at := rng.randint(20_000)) : at + len(block)]
    X.flush()
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        run = [sys.executable, __file__, "--fit", str(path), "--limit", str(args.limit)]
        found = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout)
        threads = torch.get_num_threads()
        print(f"one epoch and all passes before it in {args.limit:g} GB of private memory, {threads} threads:")
        print("\n".join(f"{name}: {value:,.1f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
