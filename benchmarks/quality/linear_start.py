"""Before any training, on real spectra: the start's score beside PCA's and factor analysis's, in nats per row.

    python -m benchmarks.quality.linear_start

Sets with more rows than channels (channels thinned where needed), scored on the rows they were fitted to. For `rho`,
whose covariance has one scale, the start is PCA's score less a gap that has a closed form.
"""

from sklearn.decomposition import PCA, FactorAnalysis

from benchmarks.common.arguments import parser_of
from benchmarks.common.linear_gaps import rho_gap
from benchmarks.common.markdown import heading, line
from benchmarks.common.sets import load
from skvae import VAETransformer

THINNED = {"soil": 1, "SSP.460": 4, "SP.231": 2, "fermentation": 1}


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sets", nargs="+", default=list(THINNED), choices=THINNED)
    args = parser.parse_args()
    exact = ("diag", "rho_diag", "full")
    print(heading("data", "d", "PCA", *exact, "PCA - gap", "rho", "FactorAnalysis", *exact))
    for name in args.sets:
        step = THINNED[name]
        X = load(name)[0][:, ::step]
        for d in (2, 4, 8):
            pca = PCA(d).fit(X)

            def start(posterior, likelihood, n_draws=16, X=X, d=d):
                model = VAETransformer(d, posterior=posterior, likelihood=likelihood, max_iter=0, random_state=0)
                return model.set_params(n_importance_samples=n_draws).fit(X).score(X)

            cells = [pca.score(X), *(start(posterior, "gaussian_isotropic") for posterior in exact)]
            # One draw per row is the ELBO. One draw for all rows is noisy, so that the mean over draws is taken.
            model = VAETransformer(
                d, posterior="rho", likelihood="gaussian_isotropic", max_iter=0, n_importance_samples=1
            )
            elbo = [model.set_params(random_state=seed).fit(X).score(X) for seed in range(200)]
            gap = rho_gap(pca.explained_variance_ / pca.noise_variance_, power=0.5)
            cells += [pca.score(X) - gap, sum(elbo) / len(elbo)]
            cells += [FactorAnalysis(d).fit(X).score(X), *(start(posterior, "gaussian") for posterior in exact)]
            print(line(f"{name} {X.shape[0]} x {X.shape[1]}", d, *(f"{cell:.2f}" for cell in cells)), flush=True)


if __name__ == "__main__":
    main()
