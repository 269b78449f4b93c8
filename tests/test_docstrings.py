"""numpydoc's validation of what a user calls: the estimator's methods, the functions, the displays."""

import inspect

import pytest
from numpydoc.validate import validate

import skvae
from skvae import displays

NOT_ASKED = {
    "ES01": "a summary may say it all",
    "SA01": "see also",
    "EX01": "examples are the README's and those of the classes",
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
