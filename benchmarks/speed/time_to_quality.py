"""Epochs and seconds that training takes to a good held-out score, by batch size, schedule and stopping.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.time_to_quality

After every epoch the weights as they then are score rows of blocks that training never saw; seconds count from the call
of fit, without those of this scoring. The likelihood is "gaussian_diag", which has a noise per channel from the first
step on, as factor analysis has; all else is the default. One seed is one split. Curves are without the refit on all
rows, so training has nine tenths of the rows that FactorAnalysis has; "default, with refit" is what fit does by
default. FactorAnalysis is fitted anew before each fit. Rows are written to --output as they come, and a second run goes
on from there.
"""

import time
import warnings
from functools import partial
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter
from sklearn.decomposition import FactorAnalysis
from skorch.callbacks import Callback

from benchmarks.common.arguments import parser_of
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from benchmarks.common.sets import SPECTRA, load, split
from skvae import VAETransformer
from skvae._inference.predictor import Predictor
from skvae._training.schedules import one_cycle

LIKELIHOOD = "gaussian_diag"  # "gaussian" has factor analysis's noise only after the last epoch
DEFAULT = "default"
SETTINGS = {
    DEFAULT: {},
    "default, with refit": {"refit": "auto", "callbacks": None},  # two phases are no curve
    **{f"batch_size={size}": {"batch_size": size} for size in (32, 128, 256)},
    "cosine, no warm-up": {"net_params": {"lr_scheduler": partial(one_cycle, warmup=0.0)}},
    "constant rate": {"net_params": {"lr_scheduler": None}},
    **{f"max_iter={epochs}": {"max_iter": epochs} for epochs in (15, 60)},
    "early_stopping": {"early_stopping": True},
    "early_stopping, max_iter=100": {"early_stopping": True, "max_iter": 100},
}
DRAWN = [DEFAULT, *(setting for setting in SETTINGS if setting.startswith("batch_size"))]


def held_out(net, X):
    return float(Predictor(net.module_, X.dtype).score_samples(X, 16, seed=0).mean())


class Curve(Callback):
    """Held-out nats and seconds since now, at the start and after each epoch; `spent` is what scoring took."""

    def __init__(self, X):
        self.X, self.nats, self.seconds, self.spent = X, [], [], 0.0
        self.begin = time.perf_counter()

    def elapsed(self):
        return time.perf_counter() - self.begin - self.spent

    def on_train_begin(self, net, **kwargs):
        self.seconds.append(self.elapsed())
        self.nats.append(held_out(net, self.X))
        self.spent += self.elapsed() - self.seconds[-1]

    def on_epoch_end(self, net, **kwargs):
        self.on_train_begin(net)


def measure(name, n_components, seed, setting):
    X, _, groups = load(name)
    train, test = split(X, groups, seed)
    begin = time.perf_counter()
    analysis = FactorAnalysis(n_components, random_state=seed).fit(train)
    fa_seconds = time.perf_counter() - begin
    curve = Curve(test)
    params = {"likelihood": LIKELIHOOD, "refit": False, "callbacks": [curve], **SETTINGS[setting]}
    model = VAETransformer(n_components, random_state=seed, **params).fit(train)
    row = dict(
        data=name,
        n_train=len(train),
        n_features=train.shape[1],
        n_components=n_components,
        seed=seed,
        setting=setting,
        fa_seconds=fa_seconds,
        fa_nats=analysis.score(test),
        seconds=curve.seconds,
        nats=curve.nats,
        batch_size=model.net_.batch_size,
        epochs=model.n_iter_,
        total=curve.elapsed(),
        final=held_out(model.net_, test),
    )
    return [row]


def reach(row, level):
    """Epoch and seconds at which a curve first passes a level; infinite where it never does."""
    passed = np.flatnonzero(np.asarray(row["nats"]) > level)
    return (passed[0], row["seconds"][passed[0]]) if len(passed) else (np.inf, np.inf)


def most_of_gain(row, share=0.9):
    """The level of a share of the gain over the start; out of reach where the start was kept."""
    gain = row["final"] - row["nats"][0]
    return row["nats"][0] + share * gain if gain > 0 else np.inf


def cells(reached):
    """Medians over seeds of what `reach` tells, with the share of seeds that get there if not all do."""
    epochs, seconds = np.transpose(reached)
    n = np.isfinite(epochs).sum()
    if np.isinf(np.median(epochs)):
        return [f"{n} of {len(epochs)} do", "-"]
    share = "" if n == len(epochs) else f" ({n} of {len(epochs)} do)"
    return [f"{np.median(epochs):.0f}{share}", f"{np.median(seconds):.2f}"]


def table(rows):
    """A Markdown table with a line for each setting."""
    columns = ["setting", "epochs to FA", "s to FA", "epochs to 90 %", "s to 90 %", "epochs run", "total s (x FA's)"]
    columns += ["final held-out nats", "less default's, same split"]
    lines = []
    for (data, d), part in pd.DataFrame(rows).groupby(["data", "n_components"], sort=False):
        rows_used, analysis = part["n_train"].mean(), part.groupby("seed")["fa_nats"].first()
        default = part[part["setting"] == DEFAULT].set_index("seed")
        sizes = " or ".join(map(str, sorted(default["batch_size"].unique())))
        lines += [
            f"\n{data} (about {rows_used:.0f} training rows x {part['n_features'].iloc[0]}), n_components = {d}, "
            f'{len(analysis)} seeds, batch_size="auto" is {sizes}. FactorAnalysis: '
            f"{part['fa_seconds'].median():.2f} s, {analysis.mean():.1f} ± {analysis.std(ddof=0):.1f} nats; "
            f"the start: {default['nats'].str[0].mean():.1f} nats.\n",
            heading(*columns),
        ]
        for setting, group in part.groupby("setting", sort=False):
            values = [setting, "-", "-", "-", "-"]
            if group["nats"].str.len().all():
                curves = [row for _, row in group.iterrows()]
                values[1:3] = cells([reach(row, row["fa_nats"]) for row in curves])
                values[3:5] = cells([reach(row, most_of_gain(row)) for row in curves])
            times = (group["total"] / group["fa_seconds"]).median()
            values += [f"{group['epochs'].median():.0f}", f"{group['total'].median():.2f} ({times:.1f})"]
            final = group.set_index("seed")["final"]
            lines.append(line(*values, spread(final), spread(final - default["final"])))
    return "\n".join(lines)


def draw(rows, path):
    """A panel for each set and seed, as the splits lie further apart than the settings."""
    frame = pd.DataFrame(rows)
    sets, seeds = frame["data"].unique(), sorted(frame["seed"].unique())
    shape = dict(figsize=(4 * len(seeds), 3 * len(sets)), squeeze=False, layout="constrained", sharex="row")
    figure, axes = plt.subplots(len(sets), len(seeds), **shape)
    for (data, seed), part in frame.groupby(["data", "seed"], sort=False):
        ax = axes[list(sets).index(data), seeds.index(seed)]
        part = part.set_index("setting")
        for setting in DRAWN:
            row = part.loc[setting]
            label = f'{setting} ("auto")' if setting == DEFAULT else setting
            ax.plot(row["seconds"], row["nats"], label=label, linewidth=1.2)
        level = part["fa_nats"].iloc[0]
        ax.axhline(level, color="black", linestyle=":", linewidth=1)
        ax.plot(part["fa_seconds"].median(), level, "kD", markersize=6, label="FactorAnalysis: its fit, its score")
        ax.set(xscale="log", title=f"{data}, split {seed}")
        ticks = LogLocator(subs=(1, 2, 5))
        ax.xaxis.set(major_locator=ticks, major_formatter="{x:g}", minor_formatter=NullFormatter())
    figure.supxlabel("seconds of training")
    figure.supylabel("held-out nats per row")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(DRAWN) + 1)
    figure.savefig(path, dpi=120)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=["SSP.460", "soil", "NRW.115"], choices=SPECTRA)
    parser.add_argument("--components", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("time_to_quality.jsonl"))
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/speed/time_to_quality.png"))
    args = parser.parse_args()

    tasks = list(product(args.sets, [args.components], range(args.seeds), SETTINGS))
    warnings.simplefilter("ignore")
    VAETransformer(max_iter=1).fit(np.random.RandomState(0).randn(64, 8))  # a process's first fit is slower
    rows = recorded(args.output, ("data", "n_components", "seed", "setting"), tasks, measure)
    print(table(rows))
    draw(rows, args.figure)


if __name__ == "__main__":
    main()
