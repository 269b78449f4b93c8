"""What a call costs, beside PCA and factor analysis: on one row, on a table, on a large one, and the fit itself.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.calls

Calls take turns, each in one process. Times are medians over the turns; the seconds of fits are CPU seconds. Rows lie
near a curved surface, with noise. The bare products are those of the encoder's network, float32, and nothing else. The
noise's share of a fit is one minus the ratio of a fit under "gaussian_isotropic" to one under "gaussian": both train
the same means.
"""

import time
import warnings

import numpy as np
import torch
from sklearn.decomposition import PCA, FactorAnalysis

from benchmarks.common.arguments import parser_of
from benchmarks.common.curved_surface import sample
from benchmarks.common.machine import machine
from benchmarks.common.markdown import heading, line
from benchmarks.common.turns import interleaved
from skvae import VAETransformer
from skvae.networks import weighted_layers

METHODS = {  # of ours; PCA and factor analysis have the first three
    "transform": lambda model, X, Z: model.transform(X),
    "score_samples": lambda model, X, Z: model.score_samples(X),
    "inverse_transform": lambda model, X, Z: model.inverse_transform(Z),
    "reconstruct": lambda model, X, Z: model.reconstruct(X),
    "hotelling_t2": lambda model, X, Z: model.hotelling_t2(X),
    "q_residuals": lambda model, X, Z: model.q_residuals(X),
}


def rows(n, p, d):
    return sample(n, p, d, n_hidden=32, noise=0.3)


def products(vae, n):
    """The matrix products of the encoder's network alone, on n rows."""
    weights = [layer.weight.detach() for layer in weighted_layers(vae.net_.module_.encoder.net)]
    inputs = [torch.randn(n, weight.shape[1]) for weight in weights]
    return lambda: [x @ weight.T for x, weight in zip(inputs, weights, strict=True)]


def call_costs(n, p, d, turns):
    """A table's lines: milliseconds of each method on n rows, after a fit to 2,000 others."""
    X = rows(2000 + n, p, d)
    train, new = X[:2000], X[2000:]
    models = {"float64": VAETransformer(d, random_state=0), "PCA": PCA(d), "FactorAnalysis": FactorAnalysis(d)}
    fitted = {name: model.fit(train.astype(np.float64)) for name, model in models.items()}
    tables = {"float64": new.astype(np.float64), "float32": new}
    fitted["float32"] = fitted["float64"]
    columns = ["float64", "float32", "PCA", "FactorAnalysis"]
    calls = {}
    for method, call in METHODS.items():
        for column in columns:
            model, table = fitted[column], tables.get(column, tables["float64"])
            if hasattr(model, method):
                Z = model.transform(table)
                calls[method, column] = lambda call=call, model=model, table=table, Z=Z: call(model, table, Z)
    calls["bare products", "float32"] = products(fitted["float32"], n)
    seconds, _ = interleaved(calls, turns)
    for method in [*METHODS, "bare products"]:
        cells = (seconds.get((method, column)) for column in columns)
        yield line(method, *("-" if cell is None else f"{1000 * np.median(cell):.3g}" for cell in cells))


def cpu_seconds(function):
    begin = time.process_time()
    function()
    return time.process_time() - begin


def fit_costs(n, p, d):
    """A line: CPU seconds of fits to n rows of p channels."""
    X = rows(n, p, d).astype(np.float64)
    models = {
        "gaussian": VAETransformer(d, random_state=0),
        "gaussian_isotropic": VAETransformer(d, random_state=0, likelihood="gaussian_isotropic"),
        "PCA": PCA(d, random_state=0),
        "FactorAnalysis": FactorAnalysis(d, random_state=0),
    }
    found = {name: cpu_seconds(lambda model=model: model.fit(X)) for name, model in models.items()}
    noise = 1 - found.pop("gaussian_isotropic") / found["gaussian"]
    return line(f"{n:,} x {p:,}", d, *(f"{seconds:.2f}" for seconds in found.values()), f"{noise:.0%}")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--turns", type=int, default=41)
    parser.add_argument("--tables", nargs="*", default=["1,200,8", "2000,200,8", "2000,800,4"])
    parser.add_argument("--large", default="200000,50,8")
    fits = ["300,60,4", "2000,200,4", "2000,800,4", "200,2000,4", "50,20000,4"]
    parser.add_argument("--fits", nargs="*", default=fits)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # factor analysis that needs more iterations
    print(machine())
    for shape, turns in [*((table, args.turns) for table in args.tables), (args.large, 3)]:
        n, p, d = map(int, shape.split(","))
        table = f"{n:,} x {p}" if n > 1 else f"one row of {p} channels"
        print(f"\nA call on {table}, {d} components, milliseconds\n")
        print(heading("method", "float64", "float32", "PCA", "FactorAnalysis"))
        for cells in call_costs(n, p, d, turns):
            print(cells, flush=True)
    print("\nA fit, CPU seconds\n")
    print(heading("rows x channels", "components", "VAETransformer", "PCA", "FactorAnalysis", "of ours, the noise"))
    for shape in args.fits:
        print(fit_costs(*map(int, shape.split(","))), flush=True)


if __name__ == "__main__":
    main()
