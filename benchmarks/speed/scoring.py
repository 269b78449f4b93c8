"""What `score` costs beside PCA and factor analysis, and what share of a fit the noise per channel takes.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.scoring

CPU seconds, medians over repeats, methods in turn. Rows lie near a curved surface, with noise. The noise's share is one
minus the ratio of a fit under "gaussian_isotropic" to one under "gaussian": both train the same means.
"""

import time
import warnings

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis

from benchmarks.common.arguments import parser_of
from benchmarks.common.curved_surface import sample
from benchmarks.common.machine import machine
from benchmarks.common.markdown import heading, line
from skvae import VAETransformer


def medians(functions, repeats):
    """Median CPU seconds of each function (a dict), called in turn."""
    seconds = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            begin = time.process_time()
            function()
            seconds[name].append(time.process_time() - begin)
    return {name: np.median(values[1:]) for name, values in seconds.items()}  # the first is a warm-up


def measure(n, p, d, repeats):
    X = sample(2 * n, p, d, n_hidden=32, noise=0.3).astype(np.float64)
    train, test = X[:n], X[n:]
    models = {"gaussian": VAETransformer(d, random_state=0)}
    models["gaussian_isotropic"] = VAETransformer(d, random_state=0, likelihood="gaussian_isotropic")
    fits = medians({name: lambda model=model: model.fit(train) for name, model in models.items()}, repeats=1)
    vae, pca, analysis = models["gaussian"], PCA(d).fit(train), FactorAnalysis(d, random_state=0).fit(train)
    single = test.astype(np.float32)
    scores = {
        "float64": lambda: vae.score(test),
        "float32": lambda: vae.score(single),
        "one row": lambda: vae.score_samples(test[:1]),
        "PCA": lambda: pca.score(test),
        "FactorAnalysis": lambda: analysis.score(test),
    }
    milliseconds = [f"{1000 * seconds:.1f}" for seconds in medians(scores, repeats).values()]
    share = 1 - fits["gaussian_isotropic"] / fits["gaussian"]
    return line(f"{n} x {p}", d, *milliseconds, f"{fits['gaussian']:.2f}", f"{share:.0%}")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--shapes", nargs="+", default=["2000,200,4", "2000,800,4", "200,2000,4", "2000,200,8"])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # factor analysis that needs more iterations
    heads = [
        "rows x channels",
        "d",
        "score, float64, ms",
        "float32, ms",
        "one row, ms",
        "PCA, ms",
        "FactorAnalysis, ms",
    ]
    print(machine(), "\n")
    print(heading(*heads, "fit, CPU s", "of which the noise"))
    for shape in args.shapes:
        print(measure(*map(int, shape.split(",")), args.repeats), flush=True)


if __name__ == "__main__":
    main()
