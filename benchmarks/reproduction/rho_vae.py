"""The rho-VAE paper's experiments (Ferdowsi et al., arXiv:1909.06236), its formulas right; why its figures differ.

    export OMP_NUM_THREADS=1
    python -m benchmarks.reproduction.rho_vae curves --jobs 2
    python -m benchmarks.reproduction.rho_vae mistake --jobs 2
    python -m benchmarks.reproduction.rho_vae --quick    # both on small images: every code path, no result

`curves`: -ELBO of test rows after each epoch, in nats at beta = 1, by one draw per row whose noise is the same for all
models. Four models, four posteriors, in the paper's setting: 10 components, one hidden layer of 400, Adam at 1e-3,
batches of 128, 15 epochs, summed binary cross-entropy of grey pixels - which is no normalised density, so that its
nats compare only with one another. The beta-VAE is Higgins et al.'s (beta = 4) and the info-VAE Zhao et al.'s, as
published: the paper's figures for these two come from code without a beta and without an MMD term, on images of
64 x 64 pixels, so none of them is set beside ours. The convolutional networks train in bf16, which halves their time.

`mistake`: the paper's code averages the covariance part of the KL over the batch of 128 that the rest of the loss is
summed over, and its sampler leaves rho out, which makes z a random walk. Both are put in on purpose here, as
posteriors. The table has what such a model reports as its loss and what its -ELBO is: with the KL of what it samples
from.

Finished fits are lines of --results; a second run, or another part that needs the same fit, does not repeat them.
"""

import tempfile
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import MaxNLocator
from skorch.callbacks import Callback

from benchmarks.common.arguments import parser_of
from benchmarks.common.images import IMAGES, load
from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import recorded
from skvae import VAETransformer
from skvae.objectives import ModelOutput
from skvae.posteriors import DiagPosterior, RhoPosterior

PAPER = {
    "n_components": 10,
    "likelihood": "bernoulli",
    "init": "random",
    "hidden_layer_sizes": (400,),
    "activation": "relu",
    "learning_rate_init": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 128,
    "validation_fraction": None,
    "refit": False,
    "net_params": {"lr_scheduler": None},
}
CONVOLUTIONAL = {"encoder": "conv2d", "decoder": "conv2d", "hidden_layer_sizes": (1024,), "precision": "bf16"}
MODELS = {"VAE": {}, "beta-VAE": {"beta": 4.0}, "CNN": CONVOLUTIONAL, "info-VAE": {"objective": "info"}}
EPOCHS = 15
COLUMNS = ("data", "model", "posterior", "seed", "epochs")
POSTERIORS = ("diag", "rho", "rho_diag", "full")
PUBLISHED = {  # where the paper's curves end, read off its figures: one seed
    ("VAE", "mnist"): {"diag": 107.7, "rho": 86.6},
    ("VAE", "fashion_mnist"): {"diag": 241.1, "rho": 221.6},
    ("CNN", "mnist"): {"diag": 98.7, "rho": 77.3},
    ("CNN", "fashion_mnist"): {"diag": 241.4, "rho": 217.3},
}


def divided(kl, mean):
    """MISTAKE: the covariance part of the KL divided by the batch size."""
    of_mean = 0.5 * mean.square().sum(-1)
    return of_mean + (kl - of_mean) / PAPER["batch_size"]


class DividedKLDiag(DiagPosterior):
    """MISTAKE, for comparison only: the diagonal posterior, right but for the reported KL."""

    def kl(self):
        return divided(super().kl(), self.mean)

    def true_kl(self):
        return super().kl()


class DividedKLRandomWalk(RhoPosterior):
    """MISTAKE, for comparison only: divided KL of s rho^|i-j|, but samples of s min(i, j), a walk."""

    def kl(self):
        return divided(super().kl(), self.mean)

    def scale(self, eps):
        return torch.exp(0.5 * self.log_s) * eps.cumsum(-1)

    def true_kl(self):
        """Of N(mean, s min(i, j)), i and j from 1: the trace is s d (d + 1) / 2, the determinant s^d."""
        d = self.mean.shape[-1]
        covariance = d * ((d + 1) / 2 * self.log_s.exp() - self.log_s - 1).squeeze(-1)
        return 0.5 * (self.mean.square().sum(-1) + covariance)


MISTAKES = {cls.__name__: cls for cls in (DividedKLDiag, DividedKLRandomWalk)}


class TestCurve(Callback):
    """-ELBO and minus the trained objective of the test rows after each epoch, always for the same noise."""

    def __init__(self, X, n_components, block=500):
        generator = torch.Generator().manual_seed(0)
        self.u = torch.from_numpy(X).split(block)
        self.eps = torch.randn(len(X), n_components, generator=generator).split(block)
        self.n = len(X)
        self.loss, self.trained = [], []

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        net.module_.eval()
        sums = np.zeros(2)
        for u, eps in zip(self.u, self.eps, strict=True):
            u, eps = u.to(net.device), eps.to(net.device)
            log_likelihood, q, z = net.module_(u, eps)
            kl = q.kl()
            true_kl = q.true_kl() if hasattr(q, "true_kl") else kl
            trained = net.criterion_(ModelOutput(log_likelihood, q, kl, z, eps))
            sums += [(true_kl - log_likelihood).sum().item(), -trained.sum().item()]
        for curve, total in zip((self.loss, self.trained), sums, strict=True):
            curve.append(total / self.n)


def measure(data, model, posterior, seed, epochs, verbose=0):
    """One fit in the paper's setting."""
    train, test, shape = load(data)
    curve = TestCurve(test, PAPER["n_components"])
    params = {**PAPER, **MODELS[model], "posterior": MISTAKES.get(posterior, posterior), "max_iter": epochs}
    if "encoder" in params:
        params["input_shape"] = shape
    vae = VAETransformer(**params, callbacks=[curve], random_state=seed, verbose=verbose).fit(train)
    seconds = np.median([row["dur"] for row in vae.history_[1:]])
    return {"loss": curve.loss, "trained": curve.trained, "seconds_per_epoch": float(seconds)}


def recorded_fits(args, models, posteriors):
    """A table of fits, of which the results file keeps those that are done."""

    def with_task(*task):
        return [dict(zip(COLUMNS, task, strict=True)) | measure(*task, verbose=args.verbose)]

    tasks = list(product(args.data, models, posteriors, range(args.seeds), [args.epochs]))
    rows = recorded(args.results, COLUMNS, tasks, None if args.no_fit else with_task, args.jobs, progress=True)
    if not rows:
        raise SystemExit(f"{args.results} has none of these fits.")
    frame = pd.DataFrame(rows)
    return frame.assign(final=frame["loss"].str[-1], reported=frame["trained"].str[-1])


def over_seeds(values):
    """Their mean, and their standard deviation where there are several."""
    return spread(values, digits=2) if len(values) > 1 else f"{values.mean():.2f}"


def curves(args):
    frame = recorded_fits(args, args.models, args.posteriors)
    draw(frame, args.output / "rho_vae_curves.png")
    lines = [f"-ELBO of test rows after {frame['epochs'][0]} epochs, nats; mean ± standard deviation over the seeds.\n"]
    heads = ["model", "data", "posterior", "seeds", "-ELBO", "the paper's", "minus trained objective", "s an epoch"]
    lines.append(heading(*heads))
    for (model, data, posterior), group in frame.groupby(["model", "data", "posterior"], sort=False):
        published = PUBLISHED.get((model, data), {}).get(posterior, "-")
        cells = [model, data, posterior, len(group), over_seeds(group["final"]), published]
        cells += [over_seeds(group["reported"]), f"{group['seconds_per_epoch'].median():.1f}"]
        lines.append(line(*cells))
    return lines


def draw(frame, path):
    """A panel a model and set, a colour a posterior: each seed thin, their mean thick, the paper's end a cross."""
    models, sets = frame["model"].unique(), frame["data"].unique()
    shape = {"figsize": (5.5 * len(sets), 3 * len(models)), "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(len(models), len(sets), **shape)
    for ax in axes.flat:
        ax.set_visible(False)  # until there are fits
    for (model, data), panel in frame.groupby(["model", "data"], sort=False):
        ax = axes[list(models).index(model), list(sets).index(data)]
        ax.set_visible(True)
        ax.set_title(f"{model}, {data}")
        for posterior, group in panel.groupby("posterior", sort=False):
            colour = f"C{POSTERIORS.index(posterior)}"
            loss = np.stack(group["loss"]).T
            epochs = np.arange(1, len(loss) + 1)
            ax.plot(epochs, loss, color=colour, linewidth=0.5, alpha=0.5)
            ax.plot(epochs, loss.mean(axis=1), color=colour, linewidth=1.5, label=posterior)
            if end := PUBLISHED.get((model, data), {}).get(posterior):
                ax.plot(EPOCHS, end, "x", color=colour, clip_on=False, label=f"{posterior}, the paper's")
        ax.set_ylim(top=max(loss[min(1, len(loss) - 1)] for loss in panel["loss"]))  # the first epoch flattens the rest
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("epoch")
    figure.supylabel("-ELBO of test rows, nats")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def mistake(args):
    frame = recorded_fits(args, ["VAE"], ["diag", "rho", *MISTAKES])
    lines = [f"VAE, {frame['epochs'][0]} epochs, test rows, nats; mean ± standard deviation over the seeds.\n"]
    heads = ["data", "posterior", "seeds", "reported loss", "less diag's", "its -ELBO", "less diag's"]
    lines.append(heading(*heads))
    for (data, posterior), group in frame.groupby(["data", "posterior"], sort=False):
        diag = frame[(frame["data"] == data) & (frame["posterior"] == "diag")]
        cells = [data, posterior, len(group)]
        for column in ("reported", "final"):
            cells += [over_seeds(group[column]), f"{group[column].mean() - diag[column].mean():+.2f}"]
        lines.append(line(*cells))
    for data in frame["data"].unique():
        if published := PUBLISHED.get(("VAE", data)):
            gain = published["rho"] - published["diag"]
            lines.append(f"\n{data}: the paper's rho is {gain:+.1f} nats from its diag ({published['diag']}).")
    return lines


PARTS = {"curves": curves, "mistake": mistake}
QUICK = {"data": ["digits"], "seeds": 1, "epochs": 2}


def main():
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("part", nargs="?", default="all", choices=[*PARTS, "all"])
    add("--quick", action="store_true", help=f"{QUICK}, results and output in a temporary folder")
    add("--data", nargs="+", default=["mnist", "fashion_mnist"], choices=IMAGES)
    add("--models", nargs="+", default=list(MODELS), choices=MODELS, help="of curves")
    add("--posteriors", nargs="+", default=POSTERIORS, choices=POSTERIORS, help="of curves")
    add("--seeds", type=int, default=3, help="how many")
    add("--epochs", type=int, default=EPOCHS)
    add("--jobs", type=int, default=1, help="fits at a time")
    add("--no-fit", action="store_true", help="tables and figure of what --results holds")
    add("--results", type=Path, default=Path("rho_vae_results.jsonl"))
    add("--output", type=Path, default=Path(), help="folder of the figure and the tables")
    args = parser.parse_args()
    if args.quick:
        folder = Path(tempfile.mkdtemp())
        parser.set_defaults(**QUICK, results=folder / "results.jsonl", output=folder)
        args = parser.parse_args()
    args.verbose = int(args.jobs == 1 and not args.quick)  # two fits' progress lines would overwrite each other
    for part in PARTS if args.part == "all" else [args.part]:
        text = "\n".join(PARTS[part](args))
        (args.output / f"rho_vae_{part}.md").write_text(text + "\n")
        print(f"\n## {part}\n\n{text}\n")
    print(f"Figure and tables are in {args.output}")


if __name__ == "__main__":
    main()
