"""A posterior of one's own: errors of all components shared along one direction, which differs from row to row.

Where two bands overlap, a spectrum says little about which of them is the higher: the components are uncertain along
one direction, and more so the nearer the bands. The posterior written here has a covariance of that kind, a diagonal
and one direction, S^(1/2) (I + v v^T) S^(1/2) with S = diag(s). With d components it takes 3 d numbers a row, where
"full" takes d + d (d + 1) / 2, and no operation on it builds or factorises a d x d matrix.

First its identities are checked against dense linear algebra and torch.distributions. Then it is compared with "diag"
and "full" on 460 soil spectra (LimeSoDa's SSP.460), where training starts at the linear optimum, whose posterior is
diagonal, and on generated counts of two overlapping bands, where training starts plainly. Prints a table (mean ±
standard deviation over splits) and draws a figure; takes about a minute on one core.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from LimeSoDa import load_dataset
from sklearn.model_selection import train_test_split
from torch.distributions import MultivariateNormal, kl_divergence

from skvae import VAETransformer
from skvae.posteriors import Posterior

N_SPLITS = 4


class SharedPosterior(Posterior):
    r"""q(z | x) = N(mean, L L^T), L = S^(1/2) (I + v v^T)^(1/2), S = diag(s); raw = (mean, log s, v), 3 d numbers.

    With g = 1 + |v|^2, the root is I + v v^T / (1 + sqrt(g)), its inverse I - v v^T / (sqrt(g) (1 + sqrt(g))), and the
    determinant of its square is g. Where v is 0 the components are independent.
    """

    def __init__(self, raw, n_components):
        self.mean, self.log_s, self.v = raw.chunk(3, dim=-1)
        self.std = torch.exp(0.5 * self.log_s)
        self.g = 1 + self.v.square().sum(dim=-1, keepdim=True)

    @staticmethod
    def n_raw(n_components):
        return 3 * n_components

    def scale(self, eps):  # L eps
        along = (self.v * eps).sum(dim=-1, keepdim=True)
        return self.std * (eps + self.v * along / (1 + self.g.sqrt()))

    def whiten(self, delta):  # L^-1 delta
        delta = delta / self.std
        along = (self.v * delta).sum(dim=-1, keepdim=True)
        return delta - self.v * along / (self.g.sqrt() + self.g)

    def log_det(self):  # log det L L^T
        return self.log_s.sum(dim=-1) + self.g.log().squeeze(-1)

    def variance(self):  # the diagonal of L L^T
        return self.log_s.exp() * (1 + self.v.square())

    @classmethod
    def init_from_precision(cls, precision):
        # v and -v are the same, so that v = 0 has no gradient, and training would never leave it
        rotation, precision, raw = super().init_from_precision(precision)
        raw[len(precision) :] = 0.1
        return rotation, precision, raw


def check(d=5, n=7):
    """Assert what a posterior promises, in float64."""
    generator = torch.Generator().manual_seed(0)
    raw, eps = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (SharedPosterior.n_raw(d), d))
    q, z = SharedPosterior(raw, d), torch.randn(n, d, generator=generator, dtype=torch.float64)
    mean, s, v = raw[:, :d], raw[:, d : 2 * d].exp(), raw[:, 2 * d :]
    root = torch.diag_embed(s.sqrt())
    dense = root @ (torch.eye(d) + v[:, :, None] * v[:, None, :]) @ root
    normal, prior = MultivariateNormal(mean, dense), MultivariateNormal(torch.zeros(d).double(), torch.eye(d).double())
    pairs = {
        "covariance": (q.covariance(), dense),
        "variance": (q.variance(), dense.diagonal(dim1=1, dim2=2)),
        "log_det": (q.log_det(), torch.linalg.slogdet(dense).logabsdet),
        "whiten(scale(eps)) = eps": (q.whiten(q.scale(eps)), eps),
        "log_prob": (q.log_prob(z), normal.log_prob(z)),
        "kl": (q.kl(), kl_divergence(normal, prior)),
        "entropy": (q.entropy(), normal.entropy()),
    }
    for name, (got, expected) in pairs.items():
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10, msg=name)
    print(f"As dense linear algebra and torch.distributions have them: {', '.join(pairs)}\n")


def overlapping_bands(n, seed):
    """Counts (n, 100) of two bands whose heights and places vary, on a background."""
    generator = np.random.default_rng(seed)
    x = np.linspace(0, 10, 100)
    heights, background = generator.gamma(4, 10, size=(n, 2, 1)), generator.gamma(3, 1, size=(n, 1))
    places = np.array([[4.5], [5.5]]) + generator.normal(0, 0.5, size=(n, 2, 1))
    return generator.poisson(background + np.sum(heights * np.exp(-0.5 * ((x - places) / 0.6) ** 2), axis=1))


def correlation(model, X):
    """Posterior correlation matrices of the rows, (n, d, d)."""
    covariance = model.posterior_covariance(X)
    std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return covariance / std[:, :, None] / std[:, None, :]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="custom_posterior.png")
    args = parser.parse_args()
    check()

    soil = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_").to_numpy()
    bands = overlapping_bands(2000, seed=0).astype(float)
    plain = {"likelihood": "poisson", "max_iter": 40, "learning_rate_init": 3e-3}  # fewer, longer steps save time
    sets = {
        "soil spectra": (soil, VAETransformer(4, likelihood="gaussian_diag")),
        "overlapping bands": (bands, VAETransformer(5, **plain)),
    }
    posteriors = {"diag": "diag", "shared": SharedPosterior, "full": "full"}
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), width_ratios=[1, 1, 0.9, 0.9], layout="constrained")
    print(f"Held-out rows, mean ± standard deviation of {N_SPLITS} splits; less diag's: within each split.\n")
    print(f"{'':30}{'numbers a row':>15}{'nats a row':>18}{'less diag':>15}{'mean |correlation|':>22}")
    for axis, (title, (X, model)) in zip(axes, sets.items(), strict=False):
        scores, matrices = {}, {}
        for name, posterior in posteriors.items():
            scores[name], matrices[name] = np.empty(N_SPLITS), []
            for seed in range(N_SPLITS):
                train, test = train_test_split(X, test_size=0.25, random_state=seed)
                model.set_params(posterior=posterior, random_state=seed).fit(train)
                scores[name][seed] = model.score(test)
                matrices[name].append(np.abs(correlation(model, test)).mean(axis=0))
        d = model.n_components
        sizes = {"diag": 2 * d, "shared": SharedPosterior.n_raw(d), "full": d + d * (d + 1) // 2}
        for place, (name, score) in enumerate(scores.items()):
            less = score - scores["diag"]
            off = [(matrix.sum() - d) / (d * (d - 1)) for matrix in matrices[name]]
            cells = f"{f'{score.mean():.1f} ± {score.std():.1f}':>18}{f'{less.mean():+.1f} ± {less.std():.1f}':>15}"
            print(f"{title + ', ' + name:<30}{sizes[name]:>15}{cells}{f'{np.mean(off):.3f} ± {np.std(off):.3f}':>22}")
            axis.plot(place + np.linspace(-0.15, 0.15, N_SPLITS), less, ".", color="0.6")
            axis.errorbar(place, less.mean(), less.std(), fmt="o", capsize=3)
        axis.set_xticks(range(len(scores)), scores)
        axis.set(ylabel="nats a row, less diag's", title=f"{title} (dots: splits)")
    for axis, name in zip(axes[2:], ("shared", "full"), strict=True):
        image = axis.imshow(matrices[name][0], vmin=0, vmax=1, cmap="Blues")
        axis.set(title=f"bands, {name}", xticks=range(d), yticks=range(d), xlabel="component")
    figure.colorbar(image, ax=axes[2:], label="posterior |correlation|,\nmean of held-out rows")
    figure.savefig(args.output, dpi=110)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
