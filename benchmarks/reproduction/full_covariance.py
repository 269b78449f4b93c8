"""Does a full posterior covariance help on spectra, what does it cost, and why did a hand-written one fail?

In a forum thread a full-covariance VAE on spectra took 12 times as long as a diagonal one and never converged. Here
each ingredient of its code is run on 460 soil spectra (LimeSoDa's SSP.460, reflectance in %), beside what replaces it.
Prints two tables and findings, draws a figure; takes two to three minutes on one core.

    python -m benchmarks.reproduction.full_covariance
"""

import warnings
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import train_test_split
from torch.distributions import MultivariateNormal, kl_divergence
from torch.nn.functional import elu

from benchmarks.common.arguments import parser_of
from skvae import VAETransformer
from skvae.posteriors import FullPosterior

D = 4  # components


class EluDiagonal(FullPosterior):
    """Mistake: ELU to make L's diagonal positive. It ends at -1, not at 0, and the log of a negative number is NaN."""

    def __init__(self, raw, n_components):  # FullPosterior takes the mean, log L_ii^2 and what lies below the diagonal
        mean, diagonal, below = raw.tensor_split([n_components, 2 * n_components], dim=-1)
        super().__init__(torch.cat([mean, 2 * elu(diagonal).log(), below], dim=-1), n_components)

    @classmethod
    def init_from_precision(cls, precision):  # the linear start, as positive as it should be
        rotation, precision, raw = super().init_from_precision(precision)
        raw[: len(precision)] = precision.rsqrt()  # above 0, elu(x) = x
        return rotation, precision, raw


class ReluHead(FullPosterior):
    """Mistake: a ReLU before the head, so that no mean and no entry below L's diagonal can be negative."""

    def __init__(self, raw, n_components):
        mean, diagonal, below = raw.tensor_split([n_components, 2 * n_components], dim=-1)
        super().__init__(torch.cat([mean.relu(), diagonal, below.relu()], dim=-1), n_components)


class RowByRow(FullPosterior):
    """Mistake: a Python loop, a distribution a row. (The thread's went by the host, too: a cost on a GPU only.)"""

    def __init__(self, raw, n_components):
        super().__init__(raw, n_components)
        self.prior = MultivariateNormal(torch.zeros(n_components), torch.eye(n_components))
        self.rows = [MultivariateNormal(*row) for row in zip(self.mean, self.covariance(), strict=True)]

    def rsample(self, eps):  # torch.distributions draws noise of its own
        return torch.stack([q.rsample(eps.shape[:-2]) for q in self.rows], dim=-2)

    def kl(self):
        return torch.stack([kl_divergence(q, self.prior) for q in self.rows])


def times(train, n_components, turns):
    """Least seconds per epoch, in batches of 64 and over interleaved turns, as ratios to diag's."""
    options = {"batch_size": 64, "max_iter": 3, "validation_fraction": None, "random_state": 0}
    posteriors = {name: name for name in ("diag", "rho", "rho_diag", "full")} | {"row by row": RowByRow}
    seconds = {name: [] for name in posteriors}
    for _ in range(turns):
        for name, posterior in posteriors.items():
            model = VAETransformer(n_components, posterior=posterior, **{"likelihood": "gaussian_diag", **options}).fit(
                train
            )
            seconds[name] += [epoch["dur"] for epoch in model.history_[1:]]
    return {name: min(taken) / min(seconds["diag"]) for name, taken in seconds.items()}


def measure(model, train, test, unit):
    """What held-out rows say of a model fitted to X in units of `unit` %; nothing if its loss is NaN at the start."""
    try:
        model.fit(train / unit)
    except ValueError as refusal:
        if "not finite" not in str(refusal):
            raise
        return {"refused": 1}
    z = model.transform(test / unit)
    linear = isinstance(model, FactorAnalysis)  # which has no inverse_transform
    residual = test - unit * (z @ model.components_ + model.mean_ if linear else model.inverse_transform(z))
    volume = test.shape[1] * np.log(unit)  # so that every score is of a density in %
    found = {"refused": 0, "score": model.score(test / unit) - volume}
    found["R2"] = 1 - np.sum(residual**2) / np.sum((test - test.mean(axis=0)) ** 2)
    if isinstance(model, VAETransformer):
        covariance = model.posterior_covariance(test / unit)
        std, log_det = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), np.linalg.slogdet(covariance)[1]
        found["KL"] = np.mean(np.sum(std**2 + z**2 - 1, axis=1) - log_det) / 2
        found["correlation"] = covariance / std[:, :, None] / std[:, None, :]
        found["tilt"] = np.mean(np.abs(found["correlation"] - np.eye(D))) * D / (D - 1)
        found["loss"] = volume - np.array([epoch.get("valid_score", np.nan) for epoch in model.history_])
        found |= {"best": model.best_iter_, "finite": np.sum(np.isfinite(found["loss"]))}
        found["noise"] = unit * np.sqrt(np.mean(model.noise_variance_))
    return found


def draw(splits, path):
    figure, axes = plt.subplot_mosaic("ABC;ABD", figsize=(14, 4.8), width_ratios=[1.2, 1.2, 0.6], layout="constrained")
    mistakes = {"all but the ELU, X in [0, 1]": "C6", "random start": "C4", "noise 1, X in %": "C3", "full": "C2"}
    for axis, colors in (axes["A"], {"diag": "C0", "rho": "C1", "full": "C2"}), (axes["B"], mistakes | {"ELU": "k"}):
        for name, color in colors.items():
            for split, line in zip(splits, ("-", "--", ":"), strict=False):
                label, marker = ("ELU, while finite", "x") if name == "ELU" else (name, None)
                label = label if split is splits[0] else None  # one entry for all splits
                axis.plot(split[name]["loss"], ls=line, color=color, lw=1.3, marker=marker, label=label)
        axis.set(xlabel="epoch (0: the start)", ylabel="validation loss, nats per row")
        axis.legend(loc="upper right", bbox_to_anchor=(1, 1 if axis is axes["A"] else 0.9))
    axes["A"].set_title("Posterior families, a line for each split")
    axes["B"].set_title("Full covariance, and the thread's ingredients")
    for axis, name, title in ("C", "full", "full, linear start"), ("D", "random start", "full, random start"):
        image = axes[axis].imshow(splits[0][name]["correlation"][0], vmin=-1, vmax=1, cmap="RdBu_r")
        axes[axis].set(title=title, xticks=range(D), yticks=range(D))
    figure.colorbar(image, ax=[axes["C"], axes["D"]], label="posterior correlation of a held-out row")
    figure.savefig(path, dpi=110)


def report(splits, families, mistakes):
    forms = {"score": ".1f", "R2": ".4f", "KL": ".1f", "best": ".0f", "finite": ".0f", "refused": ".0%"}

    def say(name, key, minus=None):
        """Mean ± standard deviation over the splits, of the difference from another model where one is named."""
        if not all(key in split[name] for split in splits):
            return ""
        values = [split[name][key] - (split[minus][key] if minus else 0) for split in splits]
        form, sign = forms.get(key, ".2f"), "+" if minus else ""
        return f"{np.mean(values):{sign}{form}} ± {np.std(values):{form}}" if np.isfinite(values).all() else "NaN"

    for title, names, last in ("posterior", families, "time 4"), ("full, with", mistakes, "finite"):
        print(f"\n| {title} | nats per row | from diag's | R2 | KL, nats | best epoch | {last} |\n|{'---|' * 7}")
        for name in names:
            cells = [say(name, key) for key in ("R2", "KL", "best", last)]
            print(f"| {name} | {say(name, 'score')} | {say(name, 'score', 'diag')} | {' | '.join(cells)} |")

    start, relu, percent, unit = "random start", "random start, ReLU", "noise 1, X in %", "noise 1, X in [0, 1]"
    print(f"""
Time 4: seconds per epoch, in batches of 64, as a ratio to diag's, 4 components. Finite: losses that are.

Does it help? Full is {say("full", "score", "diag")} nats from diag, which is at {say("diag", "score")}.
The linear start turns z until the linear model's exact posterior is diagonal: it leaves full correlations of
{say("full", "tilt")} (mean of absolute values). From a random start they are {say(start, "tilt")}, and full is
{say(start, "score", "diag, random start")} nats from diag.
What does it cost? An epoch takes {say("full", "time 4")} times diag's with 4 components, {say("full", "time 16")}
with 16. In a loop over the rows it takes {say("row by row", "time 4")} and {say("row by row", "time 16")}.
Why did it fail?
- ELU: from a random start L's diagonal has negative numbers, and the loss is NaN before the first step: fit refuses
  {say("random start, ELU", "refused")} of the splits. From a positive one, {say("ELU", "finite")} losses are finite,
  the start's included.
- Noise of variance 1: the learned noise is {say("full", "noise")} %. Where it is taken for 1 %, z tells
  {say(percent, "KL")} nats of a spectrum in place of {say("full", "KL")}, and R2 is {say(percent, "R2")}; for 1 of
  X in [0, 1], {say(unit, "KL")} nats, and R2 is {say(unit, "R2")}.
- Random start: {say(start, "score", "full")} nats from full; the best epoch is {say(start, "best")}.
- ReLU: {say(relu, "score", start)} nats and {say(relu, "R2", start)} of R2 from the same random start.""")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--output", default="full_covariance.png")
    parser.add_argument("--quick", action="store_true", help="one split, a few epochs: shows that it runs, no more")
    args = parser.parse_args()
    n_splits, max_iter, turns = (1, 3, 1) if args.quick else (3, 100, 3)
    warnings.simplefilter("ignore")  # the tables say what diverges

    vae = partial(VAETransformer, D, max_iter=max_iter, early_stopping=True)
    full, identity, plain = partial(vae, posterior="full"), {"likelihood": "gaussian_unit"}, {"init": "random"}
    families = {"PCA": PCA(D), "FactorAnalysis": FactorAnalysis(D)}
    families |= {name: vae(posterior=name) for name in ("diag", "rho", "rho_diag", "full")}
    mistakes = {
        "diag, random start": vae(**plain),
        "random start": full(**plain),
        "random start, ReLU": full(posterior=ReluHead, **plain),
        "random start, ELU": full(posterior=EluDiagonal, **plain),
        "ELU": full(posterior=EluDiagonal),
        "noise 1, X in %": full(**identity),
        "noise 1, X in [0, 1]": full(**identity),
        "all but the ELU, X in [0, 1]": full(posterior=ReluHead, **identity, **plain),
    }
    X = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").drop_duplicates().to_numpy()
    splits = []
    for seed in range(n_splits):
        train, test = train_test_split(X, test_size=0.25, random_state=seed)
        split = {}
        for name, model in (families | mistakes).items():
            model.set_params(random_state=seed)
            split[name] = measure(model, train, test, unit=100 if "[0, 1]" in name else 1)
        for d in (4, 16):
            for name, ratio in times(train, d, turns).items():
                split.setdefault(name, {})[f"time {d}"] = ratio
        splits.append(split)
    print(f"{len(train)} spectra to train on, {len(test)} held out; mean ± standard deviation of {n_splits} splits")
    report(splits, families, mistakes)
    draw(splits, args.output)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
