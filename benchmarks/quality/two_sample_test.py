"""Generated spectra: can a classifier tell samples of PCA, factor analysis and VAEs from real rows held out?

    python -m benchmarks.quality.two_sample_test

Each model is fitted to one half of 460 soil spectra (LimeSoDa's SSP.460, reflectance in % at 830 wavelengths) and gives
as many samples as the other half has spectra, which it has not seen. A classifier is cross-validated on the two
together (a classifier two-sample test): an accuracy of 0.5 says that it cannot tell them apart, 1 that it always can.
Three classifiers look at three things: a logistic regression at the means, a random forest at the spectra, and the
same forest at the differences of neighbouring channels, which shows how smooth a spectrum is. The first model is the
real training half itself, as a check of the test. The mixtures draw z not from one Gaussian but from a mixture of five
fitted to the training rows' z.

Prints a table (mean ± standard deviation over splits) and draws a figure; takes a minute and a half.
"""

import matplotlib.pyplot as plt
import numpy as np
from LimeSoDa import load_dataset
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks.common.arguments import parser_of
from skvae import VAETransformer

N_COMPONENTS = 8
N_SPLITS = 3
N_SHUFFLES = 40

LINEAR = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
FOREST = RandomForestClassifier(n_jobs=2, random_state=0)
CLASSIFIERS = {
    "logistic": LINEAR,
    "forest": FOREST,
    "forest, differences": make_pipeline(FunctionTransformer(np.diff), FOREST),
}


def sample(model, n, seed):
    """`n` rows from a fitted model, noise included; PCA and FactorAnalysis do not sample of themselves."""
    if isinstance(model, VAETransformer):
        return model.sample(n, random_state=seed)
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(n, N_COMPONENTS))
    if isinstance(model, PCA):  # its covariance: the variances along the components hold noise, too
        z = z * np.sqrt(model.explained_variance_ - model.noise_variance_)
    return add_noise(model, z @ model.components_ + model.mean_, generator)


def sample_mixture(model, train, n, seed):
    """`n` rows whose z come from a mixture of five Gaussians fitted to those of the rows `train`."""
    z = model.transform(train)
    mixture = GaussianMixture(5, reg_covar=1e-3 * z.var(axis=0).mean(), n_init=3, random_state=seed).fit(z)
    return add_noise(model, model.inverse_transform(mixture.sample(n)[0]), np.random.default_rng(seed))


def add_noise(model, means, generator):
    return means + np.sqrt(model.noise_variance_) * generator.normal(size=means.shape)


def accuracies(classifier, samples, real, shuffle=None):
    """Cross-validated accuracy of telling the two apart, or of labels dealt at random by the generator `shuffle`."""
    labels = np.repeat([0, 1], [len(samples), len(real)])
    labels = labels if shuffle is None else shuffle.permutation(labels)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(classifier, np.concatenate([samples, real]), labels, cv=folds).mean()


def draw(wavelengths, real, generated, results, half_width, path):
    figure, axes = plt.subplot_mosaic("ABCDD", figsize=(15, 4.2), layout="constrained")
    for axis, (title, rows) in zip("ABC", {"real, held out": real, **generated}.items(), strict=True):
        axes[axis].plot(wavelengths, rows[:20].T, color="C0" if axis == "A" else "C1", lw=0.6)
        axes[axis].set(title=title, xlabel="wavelength, nm", ylim=(0, 45))
    axes["A"].set_ylabel("reflectance, %")
    place = np.arange(len(results))
    axes["D"].axvspan(0.5 - half_width, 0.5 + half_width, color="0.85", label="95 % of guesses")
    for j, classifier in enumerate(CLASSIFIERS):
        values = np.array([[split[classifier] for split in result] for result in results.values()])
        style = {"fmt": "osD"[j], "color": f"C{j + 2}", "ms": 5, "capsize": 2, "label": classifier}
        axes["D"].errorbar(values.mean(axis=1), place + 0.15 * (j - 1), xerr=values.std(axis=1), **style)
    axes["D"].set_yticks(place, results)
    axes["D"].invert_yaxis()
    axes["D"].set(xlabel="accuracy (0.5: cannot tell them apart)", title="Telling samples from real spectra")
    axes["D"].legend(loc="center", bbox_to_anchor=(0.72, 0.4))
    figure.savefig(path, dpi=100)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--output", default="two_sample_test.png")
    args = parser.parse_args()
    table = load_dataset("SSP.460")["Dataset"].filter(regex="^wl_")
    wavelengths = [float(column.removeprefix("wl_")) for column in table.columns]

    models = {
        "PCA": PCA(N_COMPONENTS),
        "FactorAnalysis": FactorAnalysis(N_COMPONENTS),
        "VAE": VAETransformer(N_COMPONENTS),
        "VAE diag noise": VAETransformer(N_COMPONENTS, likelihood="gaussian_diag"),
    }
    results = {}
    for seed in range(N_SPLITS):
        train, test = train_test_split(table.to_numpy(), test_size=0.5, random_state=seed)
        generated = {"real training rows": train}
        for name, model in models.items():
            model.set_params(random_state=seed).fit(train)
            generated[name] = sample(model, len(test), seed)
            if not isinstance(model, FactorAnalysis):  # which has no inverse_transform
                generated[f"{name} mixture"] = sample_mixture(model, train, len(test), seed)
        for name, rows in generated.items():
            found = {title: accuracies(classifier, rows, test) for title, classifier in CLASSIFIERS.items()}
            results.setdefault(name, []).append(found)

    shuffle = np.random.default_rng(0)
    guesses = [accuracies(LINEAR, train, test, shuffle) for _ in range(N_SHUFFLES)]
    half_width = 1.96 * np.std(guesses)
    n = len(train) + len(test)
    print(f"{N_COMPONENTS} components; {len(train)} spectra to train on, {len(test)} held out and as many samples.")
    print(
        f"Guesses of {n} independent labels are right in 0.5 ± {np.sqrt(0.25 / n):.3f} (binomial standard error); the"
    )
    print(
        f"logistic regression, cross-validated with shuffled labels {N_SHUFFLES} times, in {np.mean(guesses):.3f}",
        end=" ",
    )
    print(f"± {np.std(guesses):.3f}.\nAccuracy, mean ± standard deviation of {N_SPLITS} splits:\n")
    print(f"{'samples of':<24}" + "".join(f"{title:>21}" for title in CLASSIFIERS))
    for name, result in results.items():
        values = [[split[title] for split in result] for title in CLASSIFIERS]
        print(f"{name:<24}" + "".join(f"{np.mean(value):>13.3f} ± {np.std(value):.3f}" for value in values))

    print(
        f"\nWithin 0.5 ± {half_width:.3f}, 95 % of the shuffled (of one split, so more than a mean of splits varies):"
    )
    for title in CLASSIFIERS:
        means = {name: np.mean([split[title] for split in result]) for name, result in results.items()}
        untold = [name for name, mean in means.items() if mean < 0.5 + half_width]
        print(f"    {title}: {', '.join(untold) or 'none'}")
    shown = {f"samples of {name}": generated[name] for name in ("PCA", "VAE")}
    draw(wavelengths, test, shown, results, half_width, args.output)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
