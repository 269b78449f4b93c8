"""Types: what mypy takes and refuses of a user's program, and that no public signature lacks one."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes

import skvae
from skvae import VAETransformer, displays, likelihoods, networks, objectives, posteriors
from skvae._parameters import CONSTRAINTS, Splitter
from skvae._sklearn_compat import HasMethods

PACKAGE = Path(skvae.__file__).parent
CONFIG = Path(__file__).parent.parent / "pyproject.toml"

ACCEPTED = """
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit
from torch import Tensor, nn

from skvae import VAETransformer, load
from skvae.displays import LatentDisplay, LoadingsDisplay, LossCurveDisplay, ReconstructionDisplay
from skvae.likelihoods import LIKELIHOODS, Likelihood
from skvae.objectives import ModelOutput, InfoVAE, Objective
from skvae.posteriors import POSTERIORS, Posterior


class TiedPosterior(Posterior):
    def __init__(self, raw: Tensor, n_components: int) -> None:
        self.mean, self.log_s = raw.tensor_split([n_components], dim=-1)

    @staticmethod
    def n_raw(n_components: int) -> int:
        return n_components + 1

    def scale(self, eps: Tensor) -> Tensor:
        return torch.exp(0.5 * self.log_s) * eps

    def whiten(self, delta: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.log_s) * delta

    def log_det(self) -> Tensor:
        return self.mean.shape[-1] * self.log_s[..., 0]

    def variance(self) -> Tensor:
        return self.log_s.exp().expand_as(self.mean)


class UnitLikelihood(Likelihood):
    standardises = True
    linear_noise = "unit"

    def log_density(self, raw, u):  # types are nobody's duty
        return -0.5 * ((u - raw) ** 2 + np.log(2 * np.pi))

    def mean(self, raw):
        return raw

    def variance(self, raw):
        return torch.ones_like(raw)


class CubedKL(Objective):
    def rows(self, draw: ModelOutput, share: float | Tensor = 1.0) -> Tensor:
        return draw.log_likelihood - self.beta * share * draw.kl**3


def build(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, 8), nn.ReLU(), nn.Linear(8, n_out))


X = np.random.RandomState(0).standard_normal((60, 6))
plain = VAETransformer(max_iter=1).fit(X)
vae: VAETransformer = VAETransformer(
    n_components=3,
    posterior=TiedPosterior,
    objective=partial(InfoVAE, lambda_=10.0),
    encoder=build,
    decoder="mlp",
    hidden_layer_sizes=[8],
    activation=nn.Tanh,
    batch_size=16,
    validation_fraction=GroupShuffleSplit(1),
    refit=False,
    max_iter=1,
    random_state=np.random.RandomState(0),
)
vae.fit(X, sample_weight=np.ones(60), groups=np.arange(60) // 2).partial_fit(X.tolist(), y=None)
VAETransformer(2, likelihood=UnitLikelihood, objective=CubedKL, max_iter=1).fit(X, np.arange(60))
for posterior in POSTERIORS:
    VAETransformer(2, posterior=posterior, batch_size="auto", max_iter=0).fit(X)
LIKELIHOODS["gaussian"].check(X)

z = vae.transform(X)
spread: float = float(z[:, 0].std()) + vae.score(X) + vae.score(X, None, np.ones(60)) + vae.hotelling_t2_limit(0.9)
rows: NDArray[np.floating] = vae.inverse_transform(z) + vae.reconstruct(X) + vae.sample(60, random_state=1)
filled, std = vae.impute(X, return_std=True)
limit = vae.q_residuals_limit(X=rows) * filled.mean() * std.max()
with tempfile.TemporaryDirectory() as folder:
    plain.save(os.path.join(folder, "plain.safetensors"))
    loaded: VAETransformer = load(Path(folder) / "plain.safetensors", "cpu", estimator=VAETransformer)
names: list[str] = [f"component {i}" for i in range(vae.n_components_)]
losses = [row["train_loss"] for row in vae.history_[1:]]

LatentDisplay.from_estimator(vae, X, X[:, 0], components=[0, 2], s=20)
lines: list[Line2D] = LoadingsDisplay.from_estimator(vae, X, components=0, wavelengths=np.arange(6)).lines_
figure = LossCurveDisplay.from_estimator(vae, kl=True).plot().figure_
display: ReconstructionDisplay = ReconstructionDisplay.from_estimator(vae, X, rows=range(2))
"""

# A mistake a line, with what mypy calls it. Those in what is assigned to show that a result is not Any.
REJECTED = """
import numpy as np
import torch
from numpy.typing import NDArray

from skvae import VAETransformer, load
from skvae.displays import LatentDisplay, LossCurveDisplay
from skvae.likelihoods import Likelihood
from skvae.networks import MLP
from skvae.objectives import ELBO, InfoVAE
from skvae.posteriors import DiagPosterior, Posterior

X = np.zeros((60, 6))
VAETransformer(n_components="4")  # arg-type
VAETransformer(n_component=4)  # call-arg
VAETransformer(posterior=DiagPosterior(torch.zeros(5, 4), 2))  # arg-type
VAETransformer(likelihood=DiagPosterior)  # arg-type
VAETransformer(objective=ELBO())  # arg-type
VAETransformer(encoder=64)  # arg-type
VAETransformer(hidden_layer_sizes="64")  # arg-type
VAETransformer(init="pca")  # arg-type
VAETransformer(precision="float16")  # arg-type
VAETransformer(batch_size="automatic")  # arg-type
VAETransformer(validation_fraction="tenth")  # arg-type
vae = VAETransformer(max_iter=None)  # arg-type

vae.save()  # call-arg
load(X)  # arg-type
vae.fit()  # call-arg
vae.score(X, sample_weights=np.ones(60))  # call-arg
vae.transform(X, None, np.ones(60))  # call-arg
vae.sample("5")  # arg-type
vae.reconstruct(X, std=True)  # call-overload
text: str = vae.fit(X).partial_fit(X).score(X)  # assignment
text = vae.score_samples(X)  # assignment
text = vae.transform(X)  # assignment
text = vae.components_  # assignment
text = vae.n_iter_  # assignment
mean: NDArray[np.floating] = vae.reconstruct(X, return_std=True)  # assignment
text = vae.impute(X, False)  # assignment

LatentDisplay.from_estimator(X, vae)  # arg-type
LossCurveDisplay.from_estimator(vae, kl="yes")  # arg-type
LossCurveDisplay.from_estimator(vae).plot().no_such_line_  # attr-defined
MLP(6, (8,), activation=0)  # arg-type
InfoVAE(kernel=3.0)  # arg-type
DiagPosterior.n_raw("2")  # arg-type


class WrongPosterior(Posterior):
    def scale(self, eps: str) -> torch.Tensor:  # override
        return torch.zeros(())


class WrongLikelihood(Likelihood):
    linear_noise = "isotopic"  # assignment
"""


def test_mypy_takes_the_package_and_a_user_s_program_and_finds_each_mistake(tmp_path):
    for name, program in (("accepted.py", ACCEPTED), ("rejected.py", REJECTED)):
        (tmp_path / name).write_text(program)
    options = ["--config-file", CONFIG, "--cache-dir", tmp_path / "cache", "--no-error-summary", "--hide-error-context"]
    files = [tmp_path / "accepted.py", tmp_path / "rejected.py"]
    if "site-packages" not in PACKAGE.parts:  # where mypy takes its types and leaves it alone
        files.append(PACKAGE)
    command = [sys.executable, "-m", "mypy", *options, *files]
    result = subprocess.run(command, capture_output=True, text=True, cwd=CONFIG.parent)
    found = set(re.findall(r"^(.+):(\d+): error: .*\[([\w-]+)\]$", result.stdout, flags=re.MULTILINE))
    marked = re.finditer(r"  # ([a-z-]+)$", REJECTED, flags=re.MULTILINE)
    mistakes = {("rejected.py", str(1 + REJECTED[: match.start()].count("\n")), match[1]) for match in marked}
    assert {(Path(file).name, line, code) for file, line, code in found} == mistakes, result.stdout + result.stderr
    assert len(mistakes) >= 30


def class_of(kind):
    """The class of a type's values; numpy's NDArray is an alias that has it as its value, from numpy 2.5 on."""
    origin = get_origin(kind) or kind
    return class_of(origin.__value__) if hasattr(origin, "__value__") else origin


def test_the_program_that_mypy_takes_runs_and_its_values_are_of_the_types_it_declares():
    scope = {"__name__": "accepted"}
    exec(compile(ACCEPTED, "accepted.py", "exec"), scope)
    plt.close("all")
    declared = {name: class_of(kind) for name, kind in scope["__annotations__"].items()}
    assert {"vae", "spread", "rows", "loaded", "lines", "display"} <= set(declared)
    assert {name: kind for name, kind in declared.items() if not isinstance(scope[name], kind)} == {}


def test_the_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()
    assert 'skvae = ["py.typed"]' in CONFIG.read_text()


def public_functions():
    """(name, function) of all that ``__all__`` names, and of the public methods of its classes."""
    for module in (skvae, displays, likelihoods, networks, objectives, posteriors):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                yield name, thing
            for base in getattr(thing, "__mro__", ()):
                for attribute, value in vars(base).items() if base.__module__.startswith("skvae") else ():
                    function = getattr(value, "__func__", getattr(value, "fget", value))
                    if inspect.isfunction(function) and (attribute in ("__init__", "__call__") or attribute[0] != "_"):
                        yield f"{base.__name__}.{attribute}", function


def untyped(function):
    """The parameters of a function without a type, and "return"."""
    hints = get_type_hints(inspect.unwrap(function), localns={"Artist": Artist, "Axes": Axes})
    names = [*inspect.signature(function).parameters, "return"]
    return [name for name in names if name not in hints and name not in ("self", "cls")]


def test_public_signatures_are_typed():
    functions = dict(public_functions())
    assert {
        "VAETransformer.__init__",
        "VAETransformer.fit",
        "VAETransformer.impute",
        "LatentDisplay.plot",
        "MLP.decoder",
    } <= functions.keys()
    assert len(functions) > 150
    assert {name: untyped(function) for name, function in functions.items() if untyped(function)} == {}


def test_a_missing_type_is_found():
    def half(self, x: int, y, *args, z=0) -> None: ...

    assert untyped(half) == ["y", "args", "z"]
    assert untyped(lambda x: x) == ["x", "return"]


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_types_of_parameters_say_what_validation_says(name):
    """Names of what is in a table are any string, as tables are open to more; other strings are listed."""
    hint, allowed = get_type_hints(VAETransformer.__init__)[name], CONSTRAINTS[name]
    parts = (hint, *get_args(hint))
    listed = {value for part in parts if get_origin(part) is Literal for value in get_args(part)}
    options = {option for part in allowed for option in getattr(part, "options", ())}
    open_to_more = str in allowed or callable in allowed
    assert (str in parts) == open_to_more
    assert listed == (set() if open_to_more else options)
    assert (type(None) in parts) == (None in allowed or allowed == ["random_state"])
    assert (Splitter in parts) == any(isinstance(part, HasMethods) for part in allowed)
