"""numpydoc's validation of what a user calls: the estimator's methods, the functions, the displays."""

import inspect
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
from numpydoc.validate import validate

import skvae
from skvae import displays
from skvae.likelihoods import LIKELIHOODS
from skvae.networks import NETWORKS
from skvae.objectives import OBJECTIVES
from skvae.posteriors import POSTERIORS

API = Path(__file__).parent.parent / "docs" / "api"

NOT_ASKED = {
    "ES01": "a summary may say it all",
    "SA01": "see also",
    "EX01": "a class has one for its methods",
    "PR07": "a name and a type may say it all",
    "RT02": "results have names, as scikit-learn's",
    "RT03": "as PR07",
}


def documented():
    for module in (skvae, displays):
        for name in module.__all__:
            member = getattr(module, name)
            if not callable(member):
                continue
            yield f"{module.__name__}.{name}"
            if inspect.isclass(member):
                for method, function in inspect.getmembers(member, callable):
                    if not method.startswith("_") and (getattr(function, "__module__", None) or "").startswith("skvae"):
                        yield f"{module.__name__}.{name}.{method}"


NAMES = list(documented())


@pytest.mark.parametrize("name", NAMES)
def test_docstring_is_numpydoc_s(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in NOT_ASKED]
    assert errors == []


def test_the_names_are_those_of_the_public_interface():
    assert {"skvae.load", "skvae.VAETransformer.fit", "skvae.displays.ScreeDisplay.plot"} <= set(NAMES)
    assert len(NAMES) >= 30


def classes_of_the_api():
    """The classes that the site's API names, and the displays, which it takes from their module."""
    names = {f"skvae.displays.{name}" for name in displays.__all__}
    for path in API.glob("*.rst"):
        module = None
        for directive, name in re.findall(r"\.\. (currentmodule|autoclass):: (\S+)", path.read_text(encoding="utf8")):
            if directive == "currentmodule":
                module = name
            else:
                names.add(f"{module}.{name}")
    return sorted(names)


@pytest.mark.parametrize("name", classes_of_the_api())
def test_a_class_has_an_example(name):
    module, _, attribute = name.rpartition(".")
    assert "Examples\n--------\n>>> " in inspect.getdoc(getattr(import_module(module), attribute))


def test_the_api_has_every_class_that_a_name_stands_for():
    tables = (POSTERIORS, LIKELIHOODS, OBJECTIVES, NETWORKS)
    shown = {name.rpartition(".")[2] for name in classes_of_the_api()}
    assert {option.__name__ for table in tables for option in table.values()} <= shown


def test_parameters_stand_in_four_groups():
    groups = re.findall(r"\*(\w+)\*\s+\(`(\w+)` to `(\w+)`\)", skvae.VAETransformer.__doc__)
    assert [name for name, _, _ in groups] == ["basic", "model", "training", "machine"]
    names = list(inspect.signature(skvae.VAETransformer).parameters)
    places = [names.index(name) for _, first, last in groups for name in (first, last)]
    assert places[0] == 0 and places[-1] == len(names) - 1
    assert all(b == a + 1 for a, b in list(pairwise(places))[1::2])
