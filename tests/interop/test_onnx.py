"""ONNX graphs give what the estimator gives, in ONNX Runtime, alone and inside a converted Pipeline."""

import numpy as np
import onnx
import onnxruntime
import pytest
import skl2onnx
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skvae import VAETransformer, register_onnx, to_onnx
from skvae.posteriors import POSTERIORS

from ..conftest import PLAIN_LIKELIHOODS, curved_spectra, in_support, small
from ..model.test_torch_defaults import AMBIENT


def run(model, array):
    """The first output of an ONNX model, which must be valid, in ONNX Runtime."""
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})[0]


def assert_close(ours, theirs):
    """To 1e-5 of the spread of each column."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert np.abs(ours - theirs).max() <= 1e-5 * max(np.abs(theirs).max(), theirs.std())


MODELS = [{"posterior": name} for name in POSTERIORS]
MODELS += [{"likelihood": name} for name in PLAIN_LIKELIHOODS]
MODELS += [{"posterior": name, "hidden_layer_sizes": ()} for name in POSTERIORS]
MODELS += [{"likelihood": name, "hidden_layer_sizes": ()} for name in PLAIN_LIKELIHOODS]
MODELS += [
    {"init": "random", "hidden_layer_sizes": ()},
    {"encoder": "conv1d", "decoder": "conv1d", "hidden_layer_sizes": ()},
    {"encoder": "conv1d", "decoder": "conv1d"},
    {"encoder": "conv2d", "decoder": "conv2d", "input_shape": (1, 8, 8)},
    {"encoder": lambda n_in, n_out: nn.Sequential(nn.Linear(n_in, 8), nn.GELU(), nn.Dropout(), nn.Linear(8, n_out))},
    {"init": "random", "activation": "tanh", "hidden_layer_sizes": (16, 8)},
]


@pytest.mark.parametrize("params", MODELS, ids=str)
def test_encoder_and_decoder_agree_with_the_estimator(params):
    X = in_support(params.get("likelihood", "gaussian"), curved_spectra(90, 64)).astype(np.float32)
    vae = VAETransformer(3, **{**small(max_iter=3), **params}).fit(X)
    encoder, decoder = to_onnx(vae)
    Z = vae.transform(X)
    for n in (1, 3, 80):
        assert_close(run(encoder, X[:n]), Z[:n])
        assert_close(run(decoder, Z[:n]), vae.inverse_transform(Z[:n]))


@pytest.mark.parametrize("setting", ["float64", "device", "autocast"])
def test_what_others_set_in_torch_does_not_reach_the_graph(setting):
    X = curved_spectra(60, 12).astype(np.float32)
    vae = VAETransformer(2, **small(max_iter=1)).fit(X)
    with AMBIENT[setting]():
        encoder, decoder = to_onnx(vae)
    Z = vae.transform(X)
    assert_close(run(encoder, X), Z)
    assert_close(run(decoder, Z), vae.inverse_transform(Z))


def test_a_column_that_the_model_leaves_out_keeps_its_place():
    X = curved_spectra(60, 12).astype(np.float32)
    empty = X.copy()
    empty[:, 4] = np.nan
    with pytest.warns(UserWarning, match="no value was measured"):
        vae = VAETransformer(2, **small(max_iter=1)).fit(empty)
    encoder, decoder = to_onnx(vae)
    Z = vae.transform(X)
    assert_close(run(encoder, X), Z)
    assert_close(run(encoder, empty), Z)
    decoded = run(decoder, Z)
    assert np.isnan(decoded[:, 4]).all()
    assert_close(np.delete(decoded, 4, axis=1), np.delete(vae.inverse_transform(Z), 4, axis=1))


def test_a_model_that_needs_errors_is_refused():
    X = curved_spectra(60, n_channels=12)
    vae = VAETransformer(2, likelihood="gaussian_known", **small(max_iter=1)).fit(X, X_std=np.full(12, 20.0))
    with pytest.raises(ValueError, match=r"gaussian_known.* which ONNX models do not take"):
        to_onnx(vae)


@pytest.mark.parametrize("opset", [18, 20])
def test_opsets(opset):
    X = curved_spectra(60, 12).astype(np.float32)
    vae = VAETransformer(2, **small(max_iter=1)).fit(X)
    encoder, _ = to_onnx(vae, opset=opset)
    assert [o.version for o in encoder.opset_import if o.domain == ""] == [opset]
    assert_close(run(encoder, X), vae.transform(X))
    with pytest.raises(ValueError, match="opset=17 is too old"):
        to_onnx(vae, opset=17)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_converted_pipeline(dtype):
    """float64 goes through a Pipeline as such until the VAE, which is float32 in ONNX."""
    register_onnx()
    X = curved_spectra(120, 20).astype(dtype)
    y = X[:, 3] * 0.01
    pipeline = make_pipeline(StandardScaler(), VAETransformer(3, posterior="rho", **small()), LinearRegression())
    pipeline.fit(X, y)
    model = skl2onnx.to_onnx(pipeline, X[:1])
    np.testing.assert_allclose(run(model, X).ravel(), pipeline.predict(X), rtol=1e-4, atol=1e-4)
    two = make_pipeline(VAETransformer(4, **small()), StandardScaler(), VAETransformer(2, **small())).fit(X)
    np.testing.assert_allclose(run(skl2onnx.to_onnx(two, X[:1]), X), two.transform(X), atol=1e-4)
