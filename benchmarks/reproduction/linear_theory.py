"""The linear case against theory: each posterior's bound on linear-Gaussian data, beside the closed forms.

    OMP_NUM_THREADS=1 python -m benchmarks.reproduction.linear_theory

x = W z + e with isotropic noise. Given x, z has the precision P = I + W^T W / sigma^2, of chosen eigenvalues p_j; a
rotation of z turns P and changes no density of x. All in nats per row; "a ± b" is a mean of draws and
its standard error.
"""

import copy

import numpy as np
import torch
from scipy.stats import multivariate_normal, ortho_group
from sklearn.decomposition import PCA

from benchmarks.common.arguments import parser_of
from benchmarks.common.linear_gaps import gaps_without_rotation, rho_gap
from benchmarks.common.markdown import heading, line
from skvae import VAETransformer
from skvae.posteriors import POSTERIORS

PRECISIONS = {
    "equal": lambda d: np.full(d, 30.0),
    "geometric": lambda d: np.geomspace(3000, 3, d),
    "one large": lambda d: np.r_[1000, np.full(d - 1, 3.0)],
}
EXACT = [name for name in POSTERIORS if name != "rho"]  # contain the exact posterior once z is rotated


def divergence(posterior, P):
    """Draws of log q(z) / p(z), p = N(0, P^-1), q the nearest to p that two searches found (one may stick)."""
    d, P = len(P), torch.from_numpy(P)
    raw = torch.tensor([[-1.0], [1.0]], dtype=P.dtype).repeat(1, posterior.n_raw(d)).requires_grad_()
    optimizer = torch.optim.LBFGS([raw], max_iter=2000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def losses():
        q = posterior(raw, d)
        return 0.5 * ((P * q.covariance()).sum((1, 2)) + (q.mean @ P * q.mean).sum(1) - q.log_det())

    def total():
        optimizer.zero_grad()
        loss = losses().sum()
        loss.backward()
        return loss

    optimizer.step(total)
    p = torch.distributions.MultivariateNormal(P.new_zeros(d), precision_matrix=P)
    q = posterior(raw[losses().argmin()].detach(), d)
    z = q.rsample(torch.randn(100_000, d, dtype=P.dtype))
    return (q.log_prob(z) - p.log_prob(z)).numpy()


def elbo(X, rows, d, posterior, n_draws=50, **params):
    """Of a model of X, draws (n_draws, n) of log p(x | z) p(z) / q(z | x), whose expectation is a row's ELBO."""
    vae = VAETransformer(d, posterior=posterior, likelihood="gaussian_isotropic", random_state=0, **params).fit(X)
    module = copy.deepcopy(vae.net_.module_).double()
    u = module.standardise(torch.from_numpy(rows))
    draws = (torch.randn(len(u), d, dtype=u.dtype) for _ in range(n_draws))
    with torch.no_grad():
        return np.stack([sum(module.importance_terms(u, eps)).numpy() for eps in draws])


def row(*cells):
    """Print a line of a table; an array of draws as mean and standard error."""
    shown = (str(c) if isinstance(c, str | int) else f"{round(np.mean(c), 3) + 0.0:.3f}" for c in cells)
    error = (f" ± {np.std(c) / len(c) ** 0.5:.3f}" if isinstance(c, np.ndarray) else "" for c in cells)
    print(line(*map("".join, zip(shown, error, strict=True))), flush=True)


def header(title, *cells):
    print(f"\n{title}\n\n{heading(*cells)}")


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="small, and hardly trained")
    quick = parser.parse_args().quick
    sizes, n, epochs = ((2, 4), 500, 30) if quick else ((2, 4, 8, 20), 2000, 250)
    linear = dict(
        hidden_layer_sizes=(), validation_fraction=None, weight_decay=0.0, batch_size=256, learning_rate_init=0.03
    )
    cases = [(name, d, precisions(d)) for name, precisions in PRECISIONS.items() for d in sizes]
    models = [(name, max_iter) for name in (*EXACT, "rho") for max_iter in (0, epochs)]
    names = [f"{name}, {'trained' if max_iter else 'start'}" for name, max_iter in models]
    rng, _ = np.random.RandomState(0), torch.manual_seed(0)

    def generate(p, n_features=50):
        """Training rows, as many new ones, and what the generating model says of these."""
        W = ortho_group.rvs(n_features, random_state=rng)[:, : len(p)] * np.sqrt(p - 1)
        X = rng.randn(2 * n, len(p)) @ W.T + rng.randn(2 * n, n_features)
        return X[:n], X[n:], multivariate_normal(cov=np.eye(n_features) + W @ W.T).logpdf(X[n:])

    title = "A linear model, on the rows it was fitted to: bounds less PCA.score, the greatest log-likelihood"
    theory = "rho at PCA's loadings: theory", "rho: theory"
    header(title, "p", "d", "PCA.score", *names[:-2], *theory, *names[-2:])
    for name, d, p in cases:
        X = generate(p)[0]
        pca = PCA(d).fit(X)
        fitted, exact = pca.explained_variance_ / pca.noise_variance_, pca.score(X)
        bounds = [elbo(X, X, d, posterior, max_iter=m, **linear).mean(1) - exact for posterior, m in models]
        row(name, d, exact, *bounds[:-2], -rho_gap(fitted, 1), -rho_gap(fitted, 0.5), *bounds[-2:])

    title = "Where z may not rotate: the least KL(q || N(0, P^-1)), P turned at random"
    header(title, "p", "d", "diag: theory", "diag", "rho: theory", "rho", *EXACT[1:], "rho, z rotated: theory")
    for name, d, p in cases:
        turn = ortho_group.rvs(d, random_state=rng)
        P = turn.T * p @ turn
        (diag, rho), found = gaps_without_rotation(P), {key: divergence(q, P) for key, q in POSTERIORS.items()}
        row(name, d, diag, found["diag"], rho, found["rho"], *(found[key] for key in EXACT[1:]), rho_gap(p, 1))

    title = "The default network, on new rows: bounds less the generating model's log-likelihood of the same rows"
    header(title, "p", "d", "PCA", *names)
    for name, d, p in cases:
        if name == "geometric" and d < 20:
            X, new, truth = generate(p)
            bounds = [elbo(X, new, d, posterior, 10, max_iter=m).mean(0) - truth for posterior, m in models]
            row(name, d, PCA(d).fit(X).score_samples(new) - truth, *bounds)


if __name__ == "__main__":
    main()
