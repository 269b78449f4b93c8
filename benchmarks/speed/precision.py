"""What the precision of the networks' products in training does to the held-out score and to the seconds of a fit.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.precision

Held-out rows as in quality/pca_comparison.py; mean and standard deviation over seeds, each with its own split.
Differences are of the same seed and split. "tf32" acts on CUDA only.
"""

import numpy as np
import torch

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.sets import load, split
from skvae import VAETransformer


def measure(train, test, seed, precision, hidden):
    model = VAETransformer(4, precision=precision, hidden_layer_sizes=hidden, random_state=seed)
    model.fit(train)
    return model.score(test), np.median([row["dur"] for row in model.history_[1:]])


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=["SSP.460", "soil", "coffee"])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    precisions = ["float32", "bf16"] + ["tf32"] * torch.cuda.is_available()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, CUDA: {torch.cuda.is_available()}\n")
    heads = ["data", "hidden layers", "precision", "score, nats", "less float32's", "s per epoch, ratio to float32"]
    print(heading(*heads))
    for name in args.sets:
        X, _, groups = load(name)
        for hidden in ((256, 256), (1024, 1024)):
            found = np.array(
                [[measure(*split(X, groups, seed), seed, p, hidden) for p in precisions] for seed in range(args.seeds)]
            )
            for i, precision in enumerate(precisions):
                score, difference = found[:, i, 0], found[:, i, 0] - found[:, 0, 0]
                ratio = np.median(found[:, i, 1] / found[:, 0, 1])
                spreads = spread(score, ddof=1), spread(difference, ddof=1)
                print(line(name, hidden, precision, *spreads, f"{ratio:.2f}"))


if __name__ == "__main__":
    main()
