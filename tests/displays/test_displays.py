"""Each display draws what the estimator's methods give."""

import copy
import inspect
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_rgba
from matplotlib.dates import date2num
from scipy.stats import norm
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from skvae import VAETransformer, displays

from ..conftest import small

WAVELENGTHS = 400.0 + 2.5 * np.arange(60)
SHAPE = (6, 10)  # the 60 channels as an image


@pytest.fixture(scope="module")
def frame(spectra):
    return pd.DataFrame(spectra[:80], columns=[f"wl_{wavelength:g}" for wavelength in WAVELENGTHS])


@pytest.fixture(scope="module")
def vae(frame):
    return VAETransformer(3, posterior="full", **small()).fit(frame)


@pytest.fixture(scope="module")
def plain(spectra):
    """Fitted to an array, without validation rows."""
    return VAETransformer(2, **small(max_iter=2, validation_fraction=None)).fit(spectra[:80])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def draw(name, vae, X, **options):
    """A display by the name of its class, whatever it takes beside the estimator."""
    cls = getattr(displays, name)
    takes_rows = "X" in inspect.signature(cls.from_estimator).parameters
    return cls.from_estimator(vae, *([X] if takes_rows else []), **options)


def offsets(collections):
    return np.concatenate([np.asarray(collection.get_offsets()) for collection in collections])


OF_ESTIMATORS = [name for name in displays.__all__ if hasattr(getattr(displays, name), "from_estimator")]


@pytest.mark.parametrize("name", OF_ESTIMATORS)
def test_every_display_is_plotted_and_can_be_again(name, vae, frame):
    fig, ax = plt.subplots()
    display = draw(name, vae, frame, ax=ax)
    assert isinstance(display, getattr(displays, name))
    assert display.ax_ is ax and display.figure_ is fig
    assert display.plot() is display and display.ax_ is not ax  # a new figure
    assert display.plot(ax) is display and display.ax_ is ax
    fig.canvas.draw()
    assert ax.get_xlabel() and ax.get_ylabel()
    parameters = list(inspect.signature(type(display).__init__).parameters.values())[1:]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert {parameter.name for parameter in parameters} <= set(vars(display))
    again = type(display)(**{parameter.name: getattr(display, parameter.name) for parameter in parameters})
    assert not hasattr(again, "ax_") and again.plot() is again


@pytest.mark.parametrize("name", OF_ESTIMATORS)
def test_every_display_needs_a_fitted_estimator(name, frame):
    with pytest.raises(NotFittedError):
        draw(name, VAETransformer(), frame)


def test_matplotlib_is_imported_when_something_is_drawn(vae, monkeypatch):
    code = "import sys, skvae.displays; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "skvae\[plot\]"'):
        displays.LossCurveDisplay.from_estimator(vae)


@pytest.mark.parametrize("image_shape", [None, SHAPE])
def test_kwargs_reach_the_artists(vae, frame, image_shape):
    options = {"image_shape": image_shape, **({"lw": 3.0} if image_shape is None else {"cmap": "magma"})}
    for cls in (displays.ReconstructionDisplay, displays.TraversalDisplay):
        display = cls.from_estimator(vae, frame, **options)
        if image_shape is None:
            assert [line.get_linewidth() for line in display.lines_] == [3.0] * len(display.lines_)
        else:
            assert display.image_.get_cmap().name == "magma"


def test_rows_of_whatever_holds_them(vae, plain, frame):
    expected = displays.ReconstructionDisplay.from_estimator(vae, frame, rows=[3, 1]).mean
    display = displays.ReconstructionDisplay.from_estimator(vae, pl.from_pandas(frame), rows=[3, 1])
    np.testing.assert_array_equal(display.mean, expected)
    X = frame.to_numpy()
    display = displays.ReconstructionDisplay.from_estimator(plain, X.tolist(), rows=3)
    np.testing.assert_array_equal(display.mean, plain.reconstruct(X[[3]]))
    framed = copy.deepcopy(plain).set_output(transform="pandas")
    np.testing.assert_array_equal(displays.LatentDisplay.from_estimator(framed, X).means, plain.transform(X))
    z = displays.TraversalDisplay.from_estimator(framed, X, row=3, values=[0.5]).decoded
    np.testing.assert_allclose(z, plain.inverse_transform([[0.5, plain.transform(X)[3, 1]]]), rtol=1e-5)


# Loss curve


def test_loss_curve(vae, plain):
    display = displays.LossCurveDisplay.from_estimator(vae, kl=True)
    history = vae.history_[1:]
    train, valid = display.lines_
    epochs = [row["epoch"] for row in history]
    assert list(train.get_xdata()) == [0, *epochs] and np.isnan(train.get_ydata()[0])
    np.testing.assert_array_equal(train.get_ydata()[1:], [row["train_loss"] for row in history])
    np.testing.assert_array_equal(valid.get_ydata(), [-row.get("valid_score", np.nan) for row in vae.history_])
    assert valid.get_marker() == "o" and np.isfinite(valid.get_ydata()).sum() == 2  # the start and the end
    np.testing.assert_array_equal(display.kl_line_.get_ydata()[1:], [row["train_kl"] for row in history])
    assert list(display.best_line_.get_xdata()) == [vae.best_iter_] * 2
    assert "nats" in display.ax_.get_ylabel() and "nats" in display.kl_ax_.get_ylabel()
    _, score = displays.LossCurveDisplay.from_estimator(plain).lines_
    np.testing.assert_array_equal(score.get_ydata(), [-row.get("train_score", np.nan) for row in plain.history_])


def test_loss_curve_of_scores_after_each_epoch_and_of_training_that_went_on(spectra):
    watched = VAETransformer(2, **small(early_stopping=True)).fit(spectra[:80])
    _, score = displays.LossCurveDisplay.from_estimator(watched).lines_
    np.testing.assert_array_equal(score.get_ydata(), [-row["valid_score"] for row in watched.history_])
    assert score.get_marker() == "None"
    lines = displays.LossCurveDisplay.from_estimator(watched.partial_fit(spectra[:80])).lines_
    assert [line.get_label() for line in lines] == ["training", "validation rows", "a few training rows"]
    assert len(lines[0].get_xdata()) == 1 + watched.n_iter_


# Latent space


def test_latent_ellipses_are_those_of_the_posterior(vae, frame):
    display = displays.LatentDisplay.from_estimator(vae, frame, components=(2, 0), n_std=2)
    np.testing.assert_array_equal(offsets(display.points_), vae.transform(frame)[:, [2, 0]])
    np.testing.assert_array_equal(offsets([display.ellipses_]), vae.transform(frame)[:, [2, 0]])
    covariance = vae.posterior_covariance(frame)[:, [2, 0]][:, :, [2, 0]]
    # Each is the unit circle under a matrix, whose columns are its half axes, the longer first.
    display.figure_.canvas.draw()
    axes = display.ellipses_.get_transforms()[:, :2, :2]
    variances, directions = np.linalg.eigh(covariance)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 2 * np.sqrt(variances[:, ::-1]), rtol=1e-5)
    along = np.einsum("nij,nij->nj", axes / np.linalg.norm(axes, axis=1, keepdims=True), directions[:, :, ::-1])
    np.testing.assert_allclose(abs(along), 1, rtol=1e-5)
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), 4 * covariance, rtol=1e-5, atol=1e-9)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("component 2", "component 0")
    low, high = display.ax_.get_xlim()
    half = 2 * np.sqrt(covariance[:, 0, 0])
    assert low <= (display.means[:, 0] - half).min() and high >= (display.means[:, 0] + half).max()
    assert displays.LatentDisplay.from_estimator(vae, frame, n_std=None).ellipses_ is None


def test_latent_coloured_by_numbers_has_a_colorbar(vae, frame):
    y = pd.Series(np.linspace(0, 1, len(frame)), name="clay, %")
    y[3] = np.nan
    display = displays.LatentDisplay.from_estimator(vae, frame, y)
    np.testing.assert_array_equal(np.ma.filled(display.points_[0].get_array(), np.nan), y)
    assert display.colorbar_.ax.get_ylabel() == "clay, %" and display.legend_ is None
    colors = display.points_[0].to_rgba(y)
    np.testing.assert_array_equal(display.ellipses_.get_edgecolor()[:, :3], colors[:, :3])
    named = displays.LatentDisplay.from_estimator(vae, frame, np.arange(len(frame)), y_name="row")
    assert named.colorbar_.ax.get_ylabel() == "row"  # whole, but of too many values for classes


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (np.array(["sand", "clay"]), ["clay", "sand"]),
        (np.array([3, 1, 2]), ["1", "2", "3"]),
        (np.array([1.0, 0.0]), ["0", "1"]),
        (np.array([True, False]), ["False", "True"]),
        (np.array([f"site {i:02}" for i in range(20)]), [f"site {i:02}" for i in range(20)]),
    ],
)
def test_latent_coloured_by_classes_has_a_legend(vae, frame, classes, labels):
    y = np.resize(classes, len(frame))
    display = displays.LatentDisplay.from_estimator(vae, frame, y, y_name="soil")
    assert [text.get_text() for text in display.legend_.get_texts()] == labels
    assert display.legend_.get_title().get_text() == "soil" and display.colorbar_ is None
    z = vae.transform(frame)[:, :2]
    colors = set()
    for points, value in zip(display.points_, np.unique(classes), strict=True):
        np.testing.assert_array_equal(offsets([points]), z[y == value])
        color = tuple(points.get_facecolor()[0, :3])
        assert {tuple(edge) for edge in display.ellipses_.get_edgecolor()[y == value, :3]} == {color}
        colors.add(color)
    assert len(colors) == len(labels)


# Loadings


def test_loadings(vae, frame):
    display = displays.LoadingsDisplay.from_estimator(vae, frame, components=[2, 0], axis_name="wavelength, nm")
    loadings = vae.loadings(frame)[:, [2, 0]]
    mean, std = loadings.mean(axis=0), loadings.std(axis=0)
    for line, band, middle, spread in zip(display.lines_, display.bands_, mean, std, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), WAVELENGTHS)
        np.testing.assert_array_equal(line.get_ydata(), middle)
        assert_band(band, middle - spread, middle + spread)
    assert [text.get_text() for text in display.legend_.get_texts()] == ["component 2", "component 0"]
    assert display.ax_.get_xlabel() == "wavelength, nm"
    assert len(displays.LoadingsDisplay.from_estimator(vae, frame, components=1).lines_) == 1
    assert len(displays.LoadingsDisplay.from_estimator(vae, frame).lines_) == 3


def assert_band(band, low, high):
    """A band has its lower edge, and its upper one, each over the whole axis."""
    vertices = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"])
    edges = vertices.groupby("x")["y"].agg(["min", "max"])
    np.testing.assert_array_equal(edges.index, WAVELENGTHS)
    np.testing.assert_allclose(edges.to_numpy().T, [low, high], rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "axis", "label"),
    [
        (["350", "351.5", "-2"], [350, 351.5, -2], "channel"),
        (["wl_350", "wl_351.5", "wl_1e3"], [350, 351.5, 1000], "channel"),
        (["350 nm", "351.5 nm", "1e3 nm"], [350, 351.5, 1000], "wavelength, nm"),
        (["wl_350_nm", "wl_351.5_nm", "wl_352_nm"], [350, 351.5, 352], "wavelength, nm"),
        (["4000cm-1", "3998cm-1", "3996cm-1"], [4000, 3998, 3996], "wavenumber, cm-1"),
        ([350, 351, 352], [350, 351, 352], "channel"),  # of which scikit-learn keeps nothing
        (np.array([350.5, 351.5, 352.5], dtype=np.float32), [350.5, 351.5, 352.5], "channel"),
        (["a1", "b2", "b3"], None, "channel index"),  # the numbers of different things
        (["350 nm", "351 um", "352 nm"], None, "channel index"),
        (["pixel_0_0", "pixel_0_1", "pixel_0_2"], None, "channel index"),
        (["350 dogs", "351 dogs", "352 dogs"], None, "channel index"),
        (["sand", "1", "2"], None, "channel index"),
        (range(3), None, "channel index"),  # no labels
    ],
)
def test_the_axis_comes_from_the_labels_if_all_are_numbers(names, axis, label):
    X = np.random.RandomState(0).standard_normal((20, 3))
    vae = VAETransformer(1, **small(max_iter=0)).fit(pd.DataFrame(X, columns=names))
    display = displays.TraversalDisplay.from_estimator(vae)
    np.testing.assert_array_equal(display.axis, [0, 1, 2] if axis is None else axis)
    assert display.ax_.get_xlabel() == label
    given = displays.TraversalDisplay.from_estimator(vae, wavelengths=[1, 2, 4], unit="nm")
    np.testing.assert_array_equal(given.axis, [1, 2, 4])
    assert given.ax_.get_xlabel() == "wavelength, nm"
    named = displays.TraversalDisplay.from_estimator(vae, unit="dB", axis_name="level")
    assert named.ax_.get_xlabel() == "level"
    np.testing.assert_array_equal(named.axis, display.axis)


# Reconstruction


def test_reconstruction(vae, frame):
    X = frame.copy()
    X.iloc[[1, 4], 10:20] = np.nan
    X.iloc[4, [30, 32]] = np.nan
    display = displays.ReconstructionDisplay.from_estimator(vae, X, rows=[4, 1, 0], level=0.8)
    rows = X.iloc[[4, 1, 0]]
    mean, std = vae.reconstruct(rows, return_std=True)
    half = norm.ppf(0.9) * std
    for i, (measured, line, band) in enumerate(
        zip(display.measured_lines_, display.lines_, display.bands_, strict=True)
    ):
        np.testing.assert_array_equal(measured.get_ydata(), rows.iloc[i])  # NaN draws a gap
        np.testing.assert_array_equal(line.get_ydata(), mean[i])
        np.testing.assert_array_equal(line.get_xdata(), WAVELENGTHS)
        assert_band(band, (mean - half)[i], (mean + half)[i])
    assert [line.get_markevery() for line in display.measured_lines_] == [[31], [], []]  # alone between gaps
    assert "80 %" in display.legend_.get_texts()[2].get_text()
    first = displays.ReconstructionDisplay.from_estimator(vae, frame)
    np.testing.assert_array_equal(first.measured_lines_[0].get_ydata(), frame.iloc[0])
    assert len(first.lines_) == 1


def untile(image, n_rows, n_columns, shape):
    """The images (rows, columns, height, width, ...) of a tiled one, two pixels apart."""
    height, width = shape
    return np.array(
        [
            [image[i * (height + 2) :, j * (width + 2) :][:height, :width] for j in range(n_columns)]
            for i in range(n_rows)
        ]
    )


def test_reconstruction_of_images(vae, frame):
    X = frame.copy()
    X.iloc[2, :10] = np.nan
    display = displays.ReconstructionDisplay.from_estimator(vae, X, rows=[2, 5, 6], image_shape=SHAPE)
    rows = X.iloc[[2, 5, 6]]
    expected = np.stack([rows, vae.reconstruct(rows)]).reshape(2, 3, *SHAPE)
    image = np.ma.filled(display.image_.get_array(), np.nan)
    assert image.shape == (2 * 6 + 2, 3 * 10 + 4)
    np.testing.assert_array_equal(untile(image, 2, 3, SHAPE), expected)
    assert (image[6:8] == np.nanmax(expected)).all() and (image[:, 10:12] == np.nanmax(expected)).all()
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["original", "reconstruction"]
    assert list(display.ax_.get_yticks()) == [2.5, 10.5]  # the middles of pixels 0 to 5 and 8 to 13
    missing = display.image_.to_rgba(np.ma.masked_invalid(image))[0, 0]
    assert missing[2] > missing[0]  # blue, as no measured pixel is
    assert display.image_.get_clim() == (np.nanmin(rows), np.nanmax(rows))  # the originals' own contrast
    one = displays.ReconstructionDisplay.from_estimator(vae, frame, image_shape=(1, *SHAPE))
    assert one.image_.get_array().shape == (14, 10 * 12 - 2)  # the first ten rows


def test_images_of_three_channels_are_coloured(vae, frame):
    display = displays.ReconstructionDisplay.from_estimator(vae, frame, rows=[0, 1], image_shape=(3, 4, 5))
    both = np.stack([frame.iloc[:2], vae.reconstruct(frame.iloc[:2])]).reshape(2, 2, 3, 4, 5)
    expected = np.moveaxis((both - both.min()) / (both.max() - both.min()), 2, -1)
    np.testing.assert_allclose(untile(display.image_.get_array(), 2, 2, (4, 5)), expected, rtol=1e-6)


# Traversal


def test_traversal(vae, frame):
    values = np.array([-1.0, 0.0, 2.5])
    Z = np.zeros((3, 3))
    Z[:, 1] = values
    display = displays.TraversalDisplay.from_estimator(vae, component=1, values=values)
    colors = display.colorbar_.mappable
    for line, value, expected in zip(display.lines_, values, vae.inverse_transform(Z), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), WAVELENGTHS)
        np.testing.assert_array_equal(line.get_ydata(), expected)
        assert to_rgba(line.get_color()) == tuple(colors.to_rgba(value))
    assert "component 1" in display.colorbar_.ax.get_ylabel()

    Z[:, [0, 2]] = vae.transform(frame)[5, [0, 2]]  # the others as they are in a row
    display = displays.TraversalDisplay.from_estimator(vae, frame, row=5, component=1, values=values)
    for line, expected in zip(display.lines_, vae.inverse_transform(Z), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5)


def test_traversal_of_images(vae):
    values = [-1.0, 0.0, 2.5]
    display = displays.TraversalDisplay.from_estimator(vae, component=2, values=values, image_shape=SHAPE)
    expected = vae.inverse_transform(np.outer(values, [0, 0, 1])).reshape(1, 3, *SHAPE)
    np.testing.assert_array_equal(untile(display.image_.get_array(), 1, 3, SHAPE), expected)
    assert [float(label.get_text()) for label in display.ax_.get_xticklabels()] == values
    assert list(display.ax_.get_xticks()) == [4.5, 16.5, 28.5] and "component 2" in display.ax_.get_xlabel()


# Posterior correlation


def test_posterior_correlation(vae, frame):
    display = displays.PosteriorCorrelationDisplay.from_estimator(vae, frame)
    correlations = []
    for covariance in vae.posterior_covariance(frame):
        scale = np.diag(1 / np.sqrt(np.diag(covariance)))
        correlations.append(scale @ covariance @ scale)
    image = display.image_.get_array()
    np.testing.assert_allclose(image, np.mean(correlations, axis=0), atol=1e-6)
    assert [float(text.get_text()) for text in display.texts_] == [round(float(value), 2) for value in image.ravel()]
    assert display.image_.get_clim() == (-1, 1) and display.ax_.get_aspect() == 1
    assert not displays.PosteriorCorrelationDisplay(correlation=np.eye(11)).plot().texts_


# Scree


def test_scree(vae, frame):
    pca = PCA(5).fit(frame)
    display = displays.ScreeDisplay.from_estimator(vae, pca)
    for bars, line, ratio in zip(
        display.bars_, display.lines_, [vae.explained_variance_ratio_, pca.explained_variance_ratio_[:3]], strict=True
    ):
        np.testing.assert_array_equal([bar.get_height() for bar in bars], ratio)
        np.testing.assert_array_equal(line.get_ydata(), np.cumsum(ratio))
        np.testing.assert_allclose(line.get_xdata(), [bar.get_x() + bar.get_width() / 2 for bar in bars])
    ours, theirs = display.bars_
    assert ours[0].get_x() + ours[0].get_width() < theirs[0].get_x() < 1  # side by side
    labels = [text.get_text() for text in display.legend_.get_texts()]
    assert labels == ["VAETransformer", "PCA"]
    alone = displays.ScreeDisplay.from_estimator(vae)
    assert len(alone.bars_) == 1
    np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in alone.bars_[0]], [0, 1, 2])


def test_scree_of_a_number_that_was_chosen(frame):
    vae = VAETransformer("auto", **small(max_iter=1)).fit(frame)
    line = displays.ScreeDisplay.from_estimator(vae).scores_line_
    np.testing.assert_array_equal(line.get_ydata(), vae.n_components_scores_)
    assert line.get_markevery() == [vae.n_components_ - 1]
    assert displays.ScreeDisplay(explained_variance_ratio=np.ones(1)).plot().scores_line_ is None


# T2, Q and what contributes to them


def test_influence(vae, frame):
    X = frame.rename(index=lambda i: f"tablet {i}")
    X.iloc[5, 20] += 4000  # beyond Q's limit
    X.iloc[7] = X.iloc[7] * 3  # beyond both
    display = displays.InfluenceDisplay.from_estimator(vae, X, level=0.999)
    t2, q = vae.hotelling_t2(X), vae.q_residuals(X)
    np.testing.assert_array_equal(offsets([display.points_]), np.column_stack([t2, q]))
    limits = vae.hotelling_t2_limit(0.999), vae.q_residuals_limit(0.999)
    of_t2, of_q = display.limit_lines_
    assert list(of_t2.get_xdata()) == [limits[0]] * 2 and list(of_q.get_ydata()) == [limits[1]] * 2
    beyond = (t2 > limits[0]) | (q > limits[1])
    assert {name.get_text() for name in display.names_} == set(X.index[beyond])
    assert {"tablet 5", "tablet 7"} <= set(X.index[beyond]) and not beyond.all()
    colors = display.points_.get_facecolor()
    assert len({tuple(colors[i]) for i in (5, 7, np.flatnonzero(~beyond)[0])}) == 3
    named = displays.InfluenceDisplay.from_estimator(vae, frame, row_names=[f"no. {i}" for i in range(80)], log=True)
    assert all(name.get_text().startswith("no. ") for name in named.names_) and named.ax_.get_xscale() == "log"


def test_influence_names_the_farthest_rows_and_draws_no_infinite_limit():
    t2, q = np.ones(40), 10.0 + np.arange(40)
    display = displays.InfluenceDisplay(t2=t2, q=q, t2_limit=np.inf, q_limit=5.0).plot()
    assert [int(name.get_text()) for name in display.names_] == [*range(39, 14, -1)]
    assert display.limit_lines_[0] is None and display.limit_lines_[1] is not None


@pytest.mark.parametrize("statistic", ["t2", "q"])
def test_contributions(vae, frame, statistic):
    values = {"t2": vae.t2_contributions, "q": vae.q_contributions}[statistic]
    display = displays.ContributionsDisplay.from_estimator(
        vae, frame, row=3, statistic=statistic, reference=frame, level=0.9, unit="nm"
    )
    np.testing.assert_array_equal(display.line_.get_ydata(), values(frame.iloc[[3]])[0])
    np.testing.assert_array_equal(display.line_.get_xdata(), WAVELENGTHS)
    assert_band(display.band_, *np.quantile(values(frame), [0.05, 0.95], axis=0))
    value = {"t2": vae.hotelling_t2, "q": vae.q_residuals}[statistic](frame)[3]
    limit = {"t2": vae.hotelling_t2_limit, "q": vae.q_residuals_limit}[statistic](0.9)
    assert display.ax_.get_title() == f"row 3: {statistic.title()} {value:.3g}, 90 % limit {limit:.3g}"
    assert display.ax_.get_xlabel() == "wavelength, nm"
    alone = displays.ContributionsDisplay.from_estimator(vae, frame)
    assert alone.band_ is None and alone.statistic == "q"


# Beside PCA and factor analysis


@pytest.mark.parametrize("linear", [PCA(4), FactorAnalysis(4)])
def test_linear_models_stand_beside(vae, frame, linear):
    linear = clone(linear).fit(frame)
    name, is_pca = type(linear).__name__, isinstance(linear, PCA)
    loadings = linear.components_ * (np.sqrt(linear.explained_variance_)[:, None] if is_pca else 1)
    display = displays.LoadingsDisplay.from_estimator(vae, frame, components=[2, 0], beside=linear)
    for line, component, ours in zip(display.beside_lines_, [2, 0], display.mean, strict=True):
        np.testing.assert_allclose(np.abs(line.get_ydata()), np.abs(loadings[component]))
        assert line.get_ydata() @ ours > 0
    assert display.legend_.get_texts()[-1].get_text() == name

    scree = displays.ScreeDisplay.from_estimator(vae, linear)
    share = np.sum(loadings**2, axis=1) / np.trace(np.cov(frame.T))
    np.testing.assert_allclose([bar.get_height() for bar in scree.bars_[1]], share[:3], rtol=0.05)

    z = linear.transform(frame.iloc[[5, 6]])
    back = linear.inverse_transform(z) if is_pca else z @ linear.components_ + linear.mean_
    display = displays.ReconstructionDisplay.from_estimator(vae, frame, rows=[5, 6], beside=linear)
    np.testing.assert_allclose([line.get_ydata() for line in display.beside_lines_], back)
    images = displays.ReconstructionDisplay.from_estimator(vae, frame, rows=[5, 6], beside=linear, image_shape=SHAPE)
    assert [label.get_text() for label in images.ax_.get_yticklabels()] == ["original", "reconstruction", name]
    np.testing.assert_allclose(untile(images.image_.get_array(), 3, 2, SHAPE)[2].reshape(2, -1), back)


def test_components_that_the_linear_model_has_not_are_drawn_alone(vae, frame):
    display = displays.LoadingsDisplay.from_estimator(vae, frame, components=[0, 2], beside=PCA(1).fit(frame))
    assert len(display.lines_) == 2 and len(display.beside_lines_) == 1


# Pipelines


@pytest.fixture(scope="module")
def pipeline(frame):
    return make_pipeline(StandardScaler(), VAETransformer(2, **small())).fit(frame)


def test_what_a_pipeline_gives_is_in_the_units_of_its_x(pipeline, frame):
    scaler, vae = pipeline
    scaled = scaler.transform(frame)
    display = displays.ReconstructionDisplay.from_estimator(pipeline, frame, rows=[0, 3])
    mean, std = vae.reconstruct(scaled[[0, 3]], return_std=True)
    np.testing.assert_allclose(display.X, frame.iloc[[0, 3]])
    np.testing.assert_allclose(display.mean, scaler.inverse_transform(mean))
    np.testing.assert_allclose(display.std, scaler.scale_ * std, rtol=1e-5)
    np.testing.assert_array_equal(display.axis, WAVELENGTHS)
    display = displays.LoadingsDisplay.from_estimator(pipeline, frame)
    np.testing.assert_allclose(display.mean, scaler.scale_ * vae.loadings(scaled).mean(axis=0), rtol=1e-4, atol=1e-3)
    display = displays.TraversalDisplay.from_estimator(pipeline, frame, row=2, values=[0.5])
    expected = pipeline.inverse_transform([[0.5, vae.transform(scaled[[2]])[0, 1]]])
    np.testing.assert_allclose(display.decoded, expected, rtol=1e-5)
    assert display.ax_.get_ylabel() == "decoded, units of X"


def test_of_a_pipeline_t2_and_q_are_the_last_step_s(pipeline, frame):
    scaled = pipeline[0].transform(frame)
    display = displays.InfluenceDisplay.from_estimator(pipeline, frame)
    np.testing.assert_array_equal(display.q, pipeline[1].q_residuals(scaled))
    assert "units of the last step's X squared" in display.ax_.get_ylabel()
    display = displays.ContributionsDisplay.from_estimator(pipeline, frame, row=3)
    np.testing.assert_array_equal(display.contributions, pipeline[1].q_contributions(scaled[[3]])[0])
    np.testing.assert_array_equal(display.axis, WAVELENGTHS)


@pytest.mark.parametrize("name", [name for name in OF_ESTIMATORS if name != "PosteriorCorrelationDisplay"])
def test_every_display_takes_a_pipeline(name, pipeline, frame):
    display = draw(name, pipeline, frame)
    if name == "LatentDisplay":
        np.testing.assert_array_equal(display.means, pipeline.transform(frame))


def test_steps_that_cannot_be_undone(frame):
    """Rows are then drawn as the last step sees them."""
    pipeline = make_pipeline(Normalizer(), VAETransformer(2, **small())).fit(frame)
    display = displays.ReconstructionDisplay.from_estimator(pipeline, frame, rows=1)
    np.testing.assert_allclose(display.X[0], Normalizer().transform(frame.iloc[[1]])[0])
    assert display.ax_.get_ylabel() == "value, units of the last step's X"
    np.testing.assert_array_equal(display.axis, WAVELENGTHS)


def test_imputers_steps_that_do_nothing_and_pipelines_in_pipelines(frame):
    """All are the model of the rows as they are: nothing is missing."""
    alone = make_pipeline(StandardScaler(), VAETransformer(2, **small())).fit(frame)
    idle = Pipeline([("first", "passthrough"), ("model", make_pipeline(SimpleImputer(), *clone(alone)))]).fit(frame)
    search = GridSearchCV(make_pipeline(KNNImputer(), *clone(alone)), {"vaetransformer__n_components": [2]}, cv=2)
    for same in (idle, search.fit(frame)):
        display, expected = (displays.ReconstructionDisplay.from_estimator(model, frame) for model in (same, alone))
        np.testing.assert_allclose(display.mean, expected.mean, rtol=1e-5)
        np.testing.assert_array_equal(display.axis, WAVELENGTHS)
        np.testing.assert_allclose(*(displays.InfluenceDisplay.from_estimator(m, frame).q for m in (same, alone)))


@pytest.mark.parametrize("name", ["InfluenceDisplay", "LoadingsDisplay", "LatentDisplay"])
def test_what_is_no_such_model_is_named(frame, name):
    with pytest.raises(TypeError, match=r"estimator must be a fitted VAETransformer, or a Pipeline .* not PCA"):
        getattr(displays, name).from_estimator(PCA(2).fit(frame), frame)


def test_rows_may_have_one_colour(vae, frame):
    for options in ({"color": "red"}, {"c": "red"}):
        points = displays.InfluenceDisplay.from_estimator(vae, frame, **options).points_
        np.testing.assert_array_equal(points.get_facecolors(), [[1, 0, 0, 1]])


def test_steps_that_change_the_number_of_features(frame):
    pipeline = make_pipeline(PCA(10), VAETransformer(2, **small())).fit(frame)
    display = displays.TraversalDisplay.from_estimator(pipeline, values=[0])
    np.testing.assert_allclose(display.decoded, pipeline.inverse_transform([[0, 0]]))
    np.testing.assert_array_equal(display.axis, WAVELENGTHS)
    with pytest.raises(ValueError, match="another number of features"):
        displays.ContributionsDisplay.from_estimator(pipeline, frame)
    selected = make_pipeline(FunctionTransformer(lambda X: np.asarray(X)[:, :5]), VAETransformer(2, **small()))
    assert len(displays.TraversalDisplay.from_estimator(selected.fit(frame)).axis) == 5


# What is empty by construction, and dates


def test_pictures_that_are_empty_by_construction_say_so(frame, vae):
    diagonal = VAETransformer(2, **small(max_iter=0)).fit(frame)
    title = displays.PosteriorCorrelationDisplay.from_estimator(diagonal, frame).ax_.get_title()
    assert title == "No correlations by construction: a diagonal posterior has none"
    assert (
        displays.PosteriorCorrelationDisplay(correlation=np.ones((1, 1)))
        .plot()
        .ax_.get_title()
        .endswith("one component")
    )
    assert displays.PosteriorCorrelationDisplay.from_estimator(vae, frame).ax_.get_title() == ""
    assert "no epoch was trained" in displays.LossCurveDisplay.from_estimator(diagonal).ax_.get_title()
    assert displays.LossCurveDisplay.from_estimator(vae).ax_.get_title() == ""


def test_latent_coloured_by_dates(vae, frame):
    dates = pd.Series(pd.date_range("2024-01-01", periods=80, freq="D"), name="harvest")
    dates[3] = pd.NaT
    display = displays.LatentDisplay.from_estimator(vae, frame, dates)
    expected = np.where(dates.isna(), np.nan, date2num(dates.fillna(dates[0])))
    np.testing.assert_allclose(np.ma.filled(display.points_[0].get_array(), np.nan), expected)
    display.figure_.canvas.draw()
    ticks = [label.get_text() for label in display.colorbar_.ax.get_yticklabels()]
    assert "Feb" in ticks and display.colorbar_.ax.get_ylabel() == "harvest"


# What is wrong is named


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("LatentDisplay", {"components": (0, 3)}, r"components=.*out of range"),
        ("LatentDisplay", {"components": (-1, 0)}, r"components=.*out of range"),
        ("LatentDisplay", {"components": (0, 0)}, "components must be two different"),
        ("LatentDisplay", {"components": (0, 1, 2)}, "components must be two different"),
        ("LatentDisplay", {"n_std": 0}, "n_std must be positive"),
        ("LatentDisplay", {"y": [1, 2]}, r"y must have shape \(80,\)"),
        ("LoadingsDisplay", {"components": [3]}, r"components=.*out of range"),
        ("LoadingsDisplay", {"components": 0.5}, "components must be of integers"),
        ("LoadingsDisplay", {"components": []}, "components must be of integers"),
        ("LoadingsDisplay", {"wavelengths": [1, 2]}, "wavelengths must hold a number for each of the 60"),
        ("ReconstructionDisplay", {"wavelengths": WAVELENGTHS[None]}, "wavelengths must hold a number"),
        ("ReconstructionDisplay", {"rows": 80}, r"rows=80 is out of range"),
        ("ReconstructionDisplay", {"level": 1}, "level must be between 0 and 1"),
        ("ReconstructionDisplay", {"level": 0.0}, "level must be between 0 and 1"),
        ("ReconstructionDisplay", {"image_shape": (6, 11)}, r"image_shape=\(6, 11\)"),
        ("TraversalDisplay", {"image_shape": (2, 6, 5)}, "1 or 3 channels"),
        ("TraversalDisplay", {"component": 3}, "component=3 is out of range"),
        ("TraversalDisplay", {"component": [0]}, "component must be one integer"),
        ("TraversalDisplay", {"row": 80}, "row=80 is out of range"),
        ("TraversalDisplay", {"values": [[1.0]]}, "values must be"),
        ("TraversalDisplay", {"values": [np.nan]}, "values must be"),
        ("TraversalDisplay", {"wavelengths": [1]}, "wavelengths must hold"),
        ("ScreeDisplay", {"beside": PCA()}, "beside must be a fitted PCA or FactorAnalysis"),
        ("LoadingsDisplay", {"beside": "PCA"}, "beside must be a fitted PCA or FactorAnalysis"),
        ("ContributionsDisplay", {"statistic": "spe"}, "statistic must be 't2' or 'q'"),
        ("ContributionsDisplay", {"row": 80}, "row=80 is out of range"),
        ("ContributionsDisplay", {"level": 1.0}, "level must be between 0 and 1"),
        ("InfluenceDisplay", {"level": 0}, "level must be between 0 and 1"),
        ("InfluenceDisplay", {"row_names": ["a"]}, "a name for each of the 80 rows"),
    ],
)
def test_bad_input_is_named(vae, frame, name, options, message):
    with pytest.raises(ValueError, match=message):
        draw(name, vae, frame, **options)


def test_scree_of_a_pca_of_other_columns(vae, frame):
    with pytest.raises(ValueError, match="beside has 10 features, the estimator 60"):
        displays.ScreeDisplay.from_estimator(vae, PCA(2).fit(frame.iloc[:, :10]))
