"""Images of handwritten digits: PCA, a VAE of dense layers and one of convolutions.

scikit-learn's digits are 8 x 8 images whose pixels count how many of 4 x 4 scanned points are black, 0 to 16. So the
likelihood is Poisson's: for whole, nonnegative numbers, noisier where there are more. It does not know that a pixel
ends at 16; the share of sampled pixels outside 0..16 is printed. X / 16 with "continuous_bernoulli" would keep within
both ends, but with more noise: a pixel of mean 8 is uniform over 0..16. A VAE with PCA's own noise, Gaussian and one
for all pixels, stands beside, as only its nats are comparable with PCA's: Poisson's are log-probabilities of counts,
not log-densities.

Held-out images say how well they are reconstructed from eight components, and how well a linear classifier and one of
nearest neighbours read the digit from these. Prints a table (mean ± standard deviation over splits) and draws a figure;
takes about a minute on one core.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAETransformer

N_COMPONENTS = 8
N_SPLITS = 3
N_SHOWN = 10
CLASSIFIERS = {
    "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "5 neighbours": KNeighborsClassifier(),
}


def sample(model, n, seed):
    if isinstance(model, VAETransformer):
        return model.sample(n, random_state=seed)
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(n, N_COMPONENTS)) * np.sqrt(model.explained_variance_ - model.noise_variance_)
    return model.inverse_transform(z) + np.sqrt(model.noise_variance_) * generator.normal(size=(n, 64))


def say(values, form):
    return f"{np.mean(values):{form}} ± {np.std(values):{form}}" if values else ""


def strip(images):
    """Images of 8 x 8 beside each other, a grey line between each two."""
    padded = np.pad(images.reshape(-1, 8, 8), ((0, 0), (0, 0), (0, 1)), constant_values=4)
    return np.concatenate(list(padded), axis=1)[:, :-1]


def draw(originals, images, accuracy, path):
    shown = [name for name in images if name != "mlp, one noise"]
    rows = {"held out": originals}
    rows |= {f"back from {name}": images[name][0] for name in shown}
    rows |= {f"sample of {name}": images[name][1] for name in shown}
    mosaic = [[title, "accuracy"] for title in rows]
    figure, axes = plt.subplot_mosaic(mosaic, figsize=(13, 5), width_ratios=[1.7, 1], layout="constrained")
    for title, row in rows.items():
        axes[title].imshow(strip(row), cmap="gray_r", vmin=0, vmax=16)
        axes[title].set_xticks([])
        axes[title].set_yticks([3.5], [title], fontsize=11)
        axes[title].tick_params(length=0)
    axis = axes["accuracy"]
    names = list(dict.fromkeys(name for name, _ in accuracy))
    for j, title in enumerate(CLASSIFIERS):
        values = np.array([accuracy[name, title] for name in names])
        place = np.arange(len(names)) + 0.2 * (j - 0.5)
        axis.errorbar(values.mean(axis=1), place, xerr=values.std(axis=1), fmt="o", capsize=3, label=title)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlabel="accuracy on held-out images", title=f"Digit read from {N_COMPONENTS} components")
    axis.legend(title="classifier")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="images.png")
    args = parser.parse_args()
    X, digit = load_digits(return_X_y=True)

    poisson = {"likelihood": "poisson"}  # which has no linear optimum to start from
    convolutions = {"encoder": "conv2d", "decoder": "conv2d", "input_shape": (1, 8, 8)}
    models = {
        "PCA": PCA(N_COMPONENTS),
        "mlp, one noise": VAETransformer(N_COMPONENTS, likelihood="gaussian_isotropic"),
        "mlp": VAETransformer(N_COMPONENTS, **poisson),
        "conv2d": VAETransformer(N_COMPONENTS, **poisson, **convolutions),
    }
    nats, r2, beyond, images = ({name: [] for name in models} for _ in range(4))
    accuracy = {(name, title): [] for name in (*models, "all pixels") for title in CLASSIFIERS}
    for seed in range(N_SPLITS):
        split = train_test_split(X, digit, test_size=0.25, stratify=digit, random_state=seed)
        train, test, digit_train, digit_test = split
        z = {"all pixels": (train, test)}
        for name, model in models.items():
            model.set_params(random_state=seed).fit(train)
            z[name] = model.transform(train), model.transform(test)
            back, new = model.inverse_transform(z[name][1]), sample(model, 1000, seed)
            nats[name].append(model.score(test))
            r2[name].append(r2_score(test, back, multioutput="variance_weighted"))
            beyond[name].append(np.mean((new < 0) | (new > 16)))
            images[name] = back[:N_SHOWN], new[:N_SHOWN]
        for name, title in accuracy:
            classifier = CLASSIFIERS[title].fit(z[name][0], digit_train)
            accuracy[name, title].append(classifier.score(z[name][1], digit_test))

    print(f"{len(train)} images to train on, {len(test)} held out; mean ± standard deviation of {N_SPLITS} splits\n")
    print(f"{'':16}{'nats':>16}{'R2':>16}{'sampled off 0..16':>22}", *(f"{title:>16}" for title in CLASSIFIERS))
    for name in (*models, "all pixels"):
        cells = [say(values.get(name, []), form) for values, form in ((nats, ".1f"), (r2, ".3f"), (beyond, ".3f"))]
        print(
            f"{name:16}{cells[0]:>16}{cells[1]:>16}{cells[2]:>22}",
            *(f"{say(accuracy[name, title], '.3f'):>16}" for title in CLASSIFIERS),
        )
    draw(test[:N_SHOWN], images, accuracy, args.output)
    print(f"\nThe figure is in {args.output}")


if __name__ == "__main__":
    main()
