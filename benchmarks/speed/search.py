"""A search of many small models: VAESearchCV beside GridSearchCV, as ratios of seconds in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.search

Each search fits 16 models (4 seeds x 2 betas x 2 folds), or 64, of one shape for a fixed number of epochs, or with
patience, or with every setting at its default; the two take turns. The last column is the part of scikit-learn's search
that scoring takes. On a GPU: ``--device cuda``.
"""

import time
import warnings
from functools import partial

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from benchmarks.common.arguments import parser_of
from benchmarks.common.curved_surface import sample
from benchmarks.common.markdown import heading, line
from skvae import VAESearchCV, VAETransformer

DEFAULTS = "every setting at its default"
SETTINGS = {  # seeds, rows, features, parameters
    **{f"{n:,} x {p}, {DEFAULTS}": (4, n, p, {}) for n, p in ((300, 60), (300, 200), (1000, 200), (300, 1000))},
    "400 x 60, hidden (32, 32)": (4, 400, 60, {"hidden_layer_sizes": (32, 32)}),
    "400 x 60, hidden (32, 32), 64 of them": (16, 400, 60, {"hidden_layer_sizes": (32, 32)}),
    "400 x 60, hidden (32, 32), patience 10, refit": (
        *(4, 400, 60),
        {"hidden_layer_sizes": (32, 32), "early_stopping": True, "validation_fraction": 0.1},
    ),
    "1,000 x 200, hidden (64, 64)": (4, 1000, 200, {"hidden_layer_sizes": (64, 64)}),
    "1,000 x 200, full, hidden (64, 64)": (4, 1000, 200, {"hidden_layer_sizes": (64, 64), "posterior": "full"}),
}


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads\n")
    print(heading("16 models of", "s, one by one", "s, together", "ratio", "scores differ by, nats", "scoring"))
    for name, (n_seeds, n, p, settings) in SETTINGS.items():
        X = sample(n, p, d=4, n_hidden=12, noise=0.1)
        grid = {"random_state": list(range(n_seeds)), "beta": [1.0, 4.0]}
        fixed = {} if DEFAULTS in name else {"validation_fraction": None, "max_iter": args.epochs}
        vae = partial(VAETransformer, 4, **{"device": args.device, **fixed, **settings})
        seconds, results = {GridSearchCV: [], VAESearchCV: []}, {}
        for _ in range(args.turns):
            for kind, taken in seconds.items():
                search = kind(vae(), grid, cv=2, refit=False)
                begin = time.perf_counter()
                search.fit(X)
                taken.append(time.perf_counter() - begin)
                results[kind] = search.cv_results_
        alone, together = seconds.values()
        ratio = np.median(np.array(together) / alone)
        apart = np.abs(results[GridSearchCV]["mean_test_score"] - results[VAESearchCV]["mean_test_score"]).max()
        fitting, scoring = (results[GridSearchCV][f"mean_{part}_time"].sum() for part in ("fit", "score"))
        cells = [f"{np.median(alone):.2f}", f"{np.median(together):.2f}", f"{ratio:.2f}", f"{apart:.3f}"]
        print(line(name, *cells, f"{scoring / (fitting + scoring):.1%}"), flush=True)


if __name__ == "__main__":
    main()
