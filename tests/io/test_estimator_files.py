"""What is kept of an estimator: pickles, copies, skops, and files; the same numbers, and training to the same bits."""

import copy
import json
import pickle
import pickletools
import warnings
from functools import partial
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors
import skops.io
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skvae
from skvae import VAETransformer
from skvae._io.tensor_file import read, write
from skvae._parameters import parameters_of
from skvae.likelihoods import GaussianLikelihood
from skvae.objectives import InfoVAE
from skvae.posteriors import POSTERIORS, DiagPosterior

from ..conftest import PLAIN_LIKELIHOODS, curved_spectra, in_support, small

DATA = Path(__file__).parent / "files"


def through_file(vae, path):
    vae.save(path / "vae.safetensors")
    return skvae.load(path / "vae.safetensors", device=vae.device)


def through_joblib(vae, path):
    joblib.dump(vae, path / "vae.joblib")
    return joblib.load(path / "vae.joblib")


def through_skops(vae, path):
    data = skops.io.dumps(vae)
    assert skops.io.get_untrusted_types(data=data) == ["skvae._vae.VAETransformer"]
    return skops.io.loads(data, trusted=["skvae._vae.VAETransformer"])


WAYS = {
    "pickle": lambda vae, path: pickle.loads(pickle.dumps(vae)),
    "oldest pickle": lambda vae, path: pickle.loads(pickle.dumps(vae, protocol=2)),
    "cloudpickle": lambda vae, path: pickle.loads(cloudpickle.dumps(vae)),
    "deepcopy": lambda vae, path: copy.deepcopy(vae),
    "joblib": through_joblib,
    "skops": through_skops,
    "file": through_file,
}


def assert_equal(one, two, name=""):
    """Trees of arrays and plain values, to the bits and types; numpy's numbers are Python's in a file."""
    one, two = (value.item() if isinstance(value, np.generic) else value for value in (one, two))
    assert type(one) is type(two) or isinstance(one, list | tuple), name
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype, name
        np.testing.assert_array_equal(one, two, err_msg=name)
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), name
        for key in one.keys() - {"dur"}:
            assert_equal(one[key], two[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), name
        for i, pair in enumerate(zip(one, two, strict=True)):
            assert_equal(*pair, f"{name}.{i}")
    else:
        assert one == two or (one != one and two != two), name


def assert_same_model(vae, twin, X, X_std=None):
    assert_equal(vae.__getstate__(), twin.__getstate__())
    for method, arguments in (("transform", (X, X_std)), ("score_samples", (X, X_std)), ("sample", (4, 0))):
        np.testing.assert_array_equal(getattr(vae, method)(*arguments), getattr(twin, method)(*arguments))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("likelihood", PLAIN_LIKELIHOODS)
def test_round_trip_is_exact_and_trains_on_to_the_same_bits(way, posterior, likelihood, tmp_path):
    X = in_support(likelihood, curved_spectra(80, n_channels=20))
    vae = VAETransformer(2, posterior=posterior, likelihood=likelihood, **small(max_iter=2)).fit(X)
    twin = WAYS[way](vae, tmp_path)
    assert_same_model(vae, twin, X)
    assert_same_model(vae.partial_fit(X), twin.partial_fit(X), X)
    assert_same_model(vae.set_params(warm_start=True).fit(X), twin.set_params(warm_start=True).fit(X), X)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_known", "student_t"])
def test_models_of_values_with_errors_are_kept(way, likelihood, tmp_path):
    X = curved_spectra(80, n_channels=20)
    std = np.random.RandomState(0).uniform(5, 50, X.shape)
    vae = VAETransformer(2, likelihood=likelihood, **small(max_iter=2)).fit(X, X_std=std)
    twin = WAYS[way](vae, tmp_path)
    assert_same_model(vae, twin, X, std)
    assert_same_model(vae.partial_fit(X, X_std=std), twin.partial_fit(X, X_std=std), X, std)
    both = [model.set_params(warm_start=True).fit(X, X_std=std) for model in (vae, twin)]
    assert_same_model(*both, X, std)


SETTINGS = {
    "conv1d": {"encoder": "conv1d", "decoder": "conv1d"},
    "conv2d": {"encoder": "conv2d", "decoder": "conv2d", "input_shape": (1, 4, 5)},
    "init random": {"init": "random"},
    "linear": {"hidden_layer_sizes": []},
    "not refitted": {"refit": False, "validation_fraction": None},
    "diverged": {"learning_rate_init": 1e6},
    "no training": {"max_iter": 0},
    "numpy's numbers": {"beta": np.float64(0.5), "max_iter": np.int64(2), "early_stopping": np.bool_(False)},
    "array": {"hidden_layer_sizes": np.array([4, 4])},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("way", ["pickle", "skops", "file"])
def test_round_trip_of_any_setting(name, way, tmp_path):
    X = curved_spectra(60, n_channels=20)
    X[::7, 3] = np.nan
    names = [f"{i} nm" for i in range(20)]
    vae = VAETransformer(3, **small(max_iter=2) | SETTINGS[name]).set_output(transform="pandas")
    vae.fit(pd.DataFrame(X, columns=names))
    twin = WAYS[way](vae, tmp_path)
    X = pd.DataFrame(X, columns=names)
    pd.testing.assert_frame_equal(vae.transform(X), twin.transform(X))
    assert list(twin.feature_names_in_) == names
    assert_equal(vae.history_, twin.history_)
    assert_equal(twin.get_params(), vae.get_params())
    pd.testing.assert_frame_equal(vae.partial_fit(X).transform(X), twin.partial_fit(X).transform(X))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "file"])
def test_round_trip_before_fit(way, tmp_path):
    vae = VAETransformer(3, posterior="rho")
    twin = WAYS[way](vae, tmp_path)
    assert twin.get_params() == vae.get_params() and not hasattr(twin, "net_")
    with pytest.raises(NotFittedError):
        vae.save(tmp_path / "vae.safetensors")


def test_parameters_changed_after_fit_are_kept_beside_the_model(spectra, tmp_path):
    """What was fitted is what is rebuilt; what was set since is what the next fit takes."""
    vae = VAETransformer(2, posterior="full", **small()).fit(spectra)
    vae.set_params(posterior="diag", n_components=3, hidden_layer_sizes=(5,))
    for way in WAYS:
        twin = WAYS[way](vae, tmp_path)
        np.testing.assert_array_equal(twin.transform(spectra), vae.transform(spectra))
        assert twin.get_params() == vae.get_params()
        assert np.array_equal(
            twin.partial_fit(spectra).transform(spectra), clone_of(vae).partial_fit(spectra).transform(spectra)
        )
        assert twin.fit(spectra).transform(spectra).shape == (300, 3)


def clone_of(vae):
    return pickle.loads(pickle.dumps(vae))


def test_k_blocks_of_partial_fit_equal_themselves_with_a_file_in_between(tmp_path):
    blocks = np.split(curved_spectra(300), 5)
    straight = VAETransformer(2, **small())
    halting = clone(straight)
    for block in blocks:
        straight.partial_fit(block)
        halting = through_file(halting.partial_fit(block), tmp_path)
    assert_same_model(straight, halting, blocks[0])
    assert halting.n_iter_ == 5


class Tied(DiagPosterior):
    """A posterior of one's own."""


class Own(GaussianLikelihood):
    """A likelihood of one's own."""


def network(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 4), nn.Tanh(), nn.Linear(4, n_out))


CUSTOM = {
    "posterior": Tied,
    "likelihood": Own,
    "encoder": network,
    "decoder": network,
    "activation": nn.Softsign,
    "objective": partial(InfoVAE, lambda_=10.0),
    "net_params": {"optimizer": torch.optim.SGD, "lr": 1e-4, "optimizer__momentum": 0.9},
    "callbacks": [],
    "random_state": np.random.RandomState(3),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_objects_are_refused_unless_the_caller_passes_them(name, spectra, tmp_path):
    path = tmp_path / "vae.safetensors"
    vae = VAETransformer(2, **small(max_iter=2) | {name: CUSTOM[name]}).fit(spectra)
    vae.save(path)
    if name == "callbacks":  # an empty list is data
        assert skvae.load(path).callbacks == []
        return
    with pytest.raises(ValueError, match=f"pass {name}="):
        skvae.load(path)
    twin = skvae.load(path, **{name: CUSTOM[name]})
    assert getattr(twin, name) is CUSTOM[name]
    np.testing.assert_array_equal(twin.transform(spectra), vae.transform(spectra))
    np.testing.assert_array_equal(
        twin.partial_fit(spectra).transform(spectra), vae.partial_fit(spectra).transform(spectra)
    )
    with pytest.raises(ValueError, match="beta is in it"):
        skvae.load(path, **{name: CUSTOM[name], "beta": 2.0})
    with pytest.raises(ValueError, match="cannot be loaded"):  # another class than that of the weights
        skvae.load(path, **{name: {"posterior": POSTERIORS["full"], "random_state": "3"}.get(name, 3)})


def keep_in_a_pickle(vae, folder):
    return pickle.loads(pickle.dumps(vae))


def keep_in_a_file(vae, folder):
    vae.save(folder / "vae")
    return skvae.load(folder / "vae", net_params={"lr_scheduler": None})


class Mine(VAETransformer):
    """An estimator of one's own."""


def test_subclasses_are_named_by_the_caller(spectra, tmp_path):
    vae = Mine(2, **small(max_iter=1)).fit(spectra)
    vae.save(tmp_path / "mine")
    with pytest.raises(ValueError, match="estimator="):
        skvae.load(tmp_path / "mine")
    twin = skvae.load(tmp_path / "mine", estimator=Mine)
    assert type(twin) is Mine and twin.score(spectra) == vae.score(spectra)
    vae.notes_ = 3
    with pytest.raises(ValueError, match="notes_"):
        vae.save(tmp_path / "mine")


class HidesMost(VAETransformer):
    """An estimator with a parameter of its own, whose signature hides the others."""

    def __init__(self, n_components=2, *, extra=1, **others):
        super().__init__(n_components, **others)
        self.extra = extra


class FixesMost(VAETransformer):
    """An estimator without most of the parameters, one of which its fit sets."""

    def __init__(self, strength=1.0, random_state=0):
        super().__init__(3, random_state=random_state, hidden_layer_sizes=(16,), device="cpu")
        self.strength = strength

    def fit(self, X, y=None, sample_weight=None):
        self.max_iter, self.beta = 3, self.strength
        return super().fit(X, y, sample_weight)


class NamesNone(VAETransformer):
    """An estimator whose signature names no parameter."""

    def __init__(self, **all_of_them):
        super().__init__(**all_of_them)


NARROW = {
    "hides most": lambda: HidesMost(3, extra=2, posterior="rho", **small()),
    "fixes most": lambda: FixesMost(strength=4.0),
    "names none": lambda: NamesNone(n_components=3, kl_warmup=1, **small()),
}


def through_a_named_file(vae, path):
    vae.save(path / "vae")
    return skvae.load(path / "vae", device="cpu", estimator=type(vae))


def through_a_worker(vae, path):
    with joblib.parallel_config("loky", n_jobs=2):
        return joblib.Parallel()(joblib.delayed(copy.copy)(vae) for _ in range(2))[0]


@pytest.mark.parametrize("way", [WAYS["pickle"], WAYS["deepcopy"], through_a_named_file, through_a_worker])
@pytest.mark.parametrize("name", NARROW)
def test_subclasses_whose_init_lacks_parameters(name, way, spectra, tmp_path):
    vae = NARROW[name]().fit(spectra)
    twin = way(vae, tmp_path)
    assert type(twin) is type(vae)
    for parameter, value in parameters_of(vae).items():
        assert getattr(twin, parameter) == value, parameter
    np.testing.assert_array_equal(twin.transform(spectra), vae.transform(spectra))
    np.testing.assert_array_equal(
        twin.partial_fit(spectra).transform(spectra), vae.partial_fit(spectra).transform(spectra)
    )


def test_a_hidden_parameter_of_a_file_is_checked_too(spectra, tmp_path):
    HidesMost(2, **small(max_iter=1)).fit(spectra).save(tmp_path / "vae")
    content = read(tmp_path / "vae")
    content["parameters"]["beta"] = -1.0
    write(tmp_path / "vae", content)
    with pytest.raises(ValueError, match="'beta' parameter of HidesMost"):
        skvae.load(tmp_path / "vae", estimator=HidesMost)


@pytest.mark.parametrize("changed", [{"beta": -1}, {"hidden_layer_sizes": 1.5}, {"max_iter": "many"}])
def test_a_parameter_that_load_would_refuse_is_refused_by_save(changed, spectra, tmp_path):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra).set_params(**changed)
    with pytest.raises(ValueError, match=f"'{next(iter(changed))}' parameter"):
        vae.save(tmp_path / "vae")
    assert not list(tmp_path.iterdir())


class Remembers(VAETransformer):
    """An estimator whose fit sets a private attribute."""

    def fit(self, X, y=None, sample_weight=None):
        self._first_row = X[0]
        return super().fit(X, y, sample_weight)


def test_attributes_of_other_libraries_are_left_out_and_a_subclass_s_own_refused(spectra, tmp_path):
    """scikit-learn may give its estimators attributes that this version does not know."""
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    vae._sklearn_something_new = 3
    vae.save(tmp_path / "new")
    np.testing.assert_array_equal(skvae.load(tmp_path / "new").transform(spectra), vae.transform(spectra))
    with pytest.raises(ValueError, match="_first_row"):
        Remembers(2, **small(max_iter=1)).fit(spectra).save(tmp_path / "own")


@pytest.mark.parametrize("keep", [keep_in_a_pickle, keep_in_a_file])
def test_parameters_that_change_after_the_fit_do_not_reach_it(spectra, tmp_path, keep):
    sizes, options = [8], {"lr_scheduler": None}
    vae = VAETransformer(2, **small(max_iter=1, hidden_layer_sizes=sizes, net_params=options)).fit(spectra)
    sizes.append(4)
    options["optimizer"] = torch.optim.SGD
    twin = keep(vae, tmp_path)
    np.testing.assert_array_equal(twin.transform(spectra), vae.transform(spectra))
    assert list(twin.get_params()["hidden_layer_sizes"]) == [8, 4]  # the parameter for the next fit
    twin.partial_fit(spectra)


def test_an_error_of_ours_is_not_called_a_damaged_file(spectra, tmp_path, monkeypatch):
    VAETransformer(2, **small(max_iter=1)).fit(spectra).save(tmp_path / "vae")

    def broken(*args):
        raise AttributeError("a mistake in the code")

    for place in ("skvae._io.load.check_fitted", "skvae._io.tensor_file._decode"):
        with monkeypatch.context() as patched:
            patched.setattr(place, broken)
            with pytest.raises(AttributeError, match="a mistake"):
                skvae.load(tmp_path / "vae")


def test_pickles_are_at_most_three_times_the_weights(tmp_path):
    """Weights and Adam's two moments of each, for the default model of a spectrum's 830 channels. Arrays, and no
    pickle of torch's inside."""
    vae = VAETransformer(4, random_state=0, max_iter=100, device="cpu").fit(curved_spectra(100, n_channels=830))
    n_bytes = sum(tensor.nbytes for tensor in vae.net_.module_.state_dict().values())
    data = pickle.dumps(vae)
    assert len(data) <= 3 * n_bytes
    vae.save(tmp_path / "vae")
    assert (tmp_path / "vae").stat().st_size <= 3 * n_bytes
    modules = {
        str(arg).split(" ")[0].split(".")[0] for code, arg, _ in pickletools.genops(data) if "GLOBAL" in code.name
    }
    names = {
        arg for code, arg, _ in pickletools.genops(data) if "UNICODE" in code.name and str(arg).startswith("torch")
    }
    assert not modules & {"torch"} and not names


def test_pickle_of_another_version_warns_and_of_this_one_does_not(spectra, monkeypatch, tmp_path):
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    data = pickle.dumps(vae)
    vae.save(tmp_path / "vae")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(data)
    monkeypatch.setattr("skvae._io.estimator_state.__version__", "99.0")
    with pytest.warns(UserWarning, match=rf"skvae {skvae.__version__} and is read by 99.0"):
        pickle.loads(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        skvae.load(tmp_path / "vae")


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a machine without a GPU")
def test_what_was_fitted_on_a_gpu_loads_without_one(spectra, tmp_path):
    """A state holds arrays and the device's name; without that device the CPU takes over. From a GPU: test_cuda."""
    vae = VAETransformer(2, **small(device="cuda:0")).set_params(device="cpu").fit(spectra)
    expected = vae.transform(spectra)
    state = vae.__getstate__()
    state.update(device_="cuda:0", device="cuda:0", _fitted_with={**state["_fitted_with"], "device": "cuda:0"})
    state["net_"].update(device="cuda", generator=np.zeros(16, np.uint8))
    twin = VAETransformer()
    twin.__setstate__(state)
    assert twin.device_ == twin.net_.device == "cpu" and twin.device == "cuda:0"
    np.testing.assert_array_equal(twin.transform(spectra), expected)
    assert np.isfinite(twin.set_params(device="cpu").partial_fit(spectra).score(spectra))
    VAETransformer.__getstate__, whole = (lambda self: copy.deepcopy(state)), VAETransformer.__getstate__
    try:
        vae.save(tmp_path / "vae")
    finally:
        VAETransformer.__getstate__ = whole
    loaded = skvae.load(tmp_path / "vae")
    assert loaded.device_ == "cpu" and loaded.device == "auto"
    np.testing.assert_array_equal(loaded.transform(spectra), expected)
    with pytest.raises(ValueError, match="device"):
        skvae.load(tmp_path / "vae", device="cuda:0")


def test_metadata_says_what_it_is(spectra, tmp_path):
    frame = pd.DataFrame(spectra, columns=[f"{i} µm" for i in range(60)])
    vae = VAETransformer(2, **small()).fit(frame)
    vae.save(tmp_path / "vae")
    with safetensors.safe_open(tmp_path / "vae", framework="numpy") as file:
        header = json.loads(file.metadata()["skvae"])
        assert {"fitted.net_.module.encoder.weight", "fitted.net_.moments.0.exp_avg", "fitted.components_"} <= set(
            file.keys()
        )
    assert header["format"] == skvae._io.tensor_file.FORMAT
    assert set(header["versions"]) == {"skvae", "torch", "scikit-learn"}
    assert header["content"]["parameters"]["hidden_layer_sizes"] == {"$tuple": [16]}
    assert header["content"]["fitted"]["feature_names_in_"] == {"$strings": list(frame)}
    assert [row["epoch"] for row in header["content"]["fitted"]["history_"]] == list(range(vae.n_iter_ + 1))


def test_in_a_pipeline(spectra, tmp_path):
    pipe = make_pipeline(StandardScaler(), VAETransformer(2, **small())).fit(spectra)
    data = skops.io.dumps(pipe)
    twin = skops.io.loads(data, trusted=["skvae._vae.VAETransformer"])
    np.testing.assert_array_equal(twin.transform(spectra), pipe.transform(spectra))


def test_a_save_that_fails_leaves_the_file_before(spectra, tmp_path, monkeypatch):
    path = tmp_path / "vae"
    vae = VAETransformer(2, **small(max_iter=1)).fit(spectra)
    vae.save(path)
    before = path.read_bytes()
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fail(descriptor, error=error):
            raise error

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(type(error)):
            vae.partial_fit(spectra).save(path)
        assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["vae"]


@pytest.mark.parametrize("file", sorted(DATA.glob("*.safetensors")), ids=lambda file: file.stem)
def test_files_of_earlier_versions_load(file):
    """Beside each lies what it answered when it was written, by `python -m tests.io.test_estimator_files`."""
    vae, then = skvae.load(file), np.load(file.with_suffix(".npz"))
    np.testing.assert_allclose(vae.transform(then["X"]), then["Z"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(vae.inverse_transform(then["Z"]), then["back"], rtol=1e-4)
    np.testing.assert_allclose(vae.score_samples(then["X"]), then["scores"], rtol=1e-4, atol=1e-2)
    assert np.isfinite(vae.partial_fit(then["X"]).score(then["X"]))


def test_there_is_a_file_of_this_format():
    formats = set()
    for file in DATA.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="numpy") as opened:
            formats.add(json.loads(opened.metadata()["skvae"])["format"])
    assert formats == set(range(1, skvae._io.tensor_file.FORMAT + 1))


if __name__ == "__main__":
    X = np.round(curved_spectra(30, n_channels=8), 3)
    for posterior in POSTERIORS:
        vae = VAETransformer(2, posterior=posterior, **small(hidden_layer_sizes=(4,), max_iter=3, refit=False)).fit(X)
        name = DATA / f"format_{skvae._io.tensor_file.FORMAT}_{posterior}"
        vae.save(name.with_suffix(".safetensors"))
        Z = vae.transform(X)
        np.savez(name.with_suffix(".npz"), X=X, Z=Z, back=vae.inverse_transform(Z), scores=vae.score_samples(X))


def test_rows_of_another_dtype_in_a_later_call_can_be_saved(tmp_path):
    X = curved_spectra(60, 8)
    vae = VAETransformer(2, **small()).fit(X.astype(np.float32)).partial_fit(X)
    assert vae.mean_.dtype == vae.components_.dtype == np.float64
    np.testing.assert_array_equal(through_file(vae, tmp_path).transform(X), vae.transform(X))
