"""The rooms of the package: imports go down one ordered list, and each outside library is known where it belongs."""

import ast
from pathlib import Path

import pytest

import skvae

ROOT = Path(skvae.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# From the ground up. A file may import from its own room and from the rooms before it. `_io` has three floors: what a
# fit writes stands under training; a fitted estimator's state under the estimator; what makes estimators above it.
ROOMS = [
    ["_sklearn_compat"],
    ["_data"],
    ["posteriors"],
    ["likelihoods"],
    ["objectives"],
    ["networks"],
    ["_parameters"],
    ["_model"],
    ["_linear"],
    ["_io.version", "_io.tensor_file", "_io.state", "_io.checkpoint"],
    ["_inference"],
    ["_training"],
    ["_io.estimator_state"],
    ["_vae"],
    ["displays"],
    ["_meta_estimators"],
    ["_io.load", "_io.onnx"],
    ["__init__"],
]
EXTENSION_POINTS = ("posteriors", "likelihoods", "objectives", "networks")


def module_name(path):
    """A file's name below the package, such as "_data.rows"; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in FILES}


def floor(name):
    """The place in `ROOMS` of a module, or None for a folder that has a docstring only."""
    for number, room in enumerate(ROOMS):
        if any(name == place or name.startswith(place + ".") for place in room):
            return number
    return None


def own_imports(path):
    """The modules of ours that a file imports, by their names below the package, those in functions included."""
    name, is_package = module_name(path), path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parents = name.split(".")
            above = node.level - is_package if name != "__init__" else 1
            base = parents[: len(parents) - above]
            yield ".".join([*base, *(node.module or "").split(".")]).strip(".")


def imports(path):
    """(module, level) of each import statement of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name):
    for imported in own_imports(MODULES[name]):
        assert imported in MODULES, f"{name} imports {imported}, which is no file"
        assert floor(imported) is not None, f"{imported} has no place in ROOMS"
        assert floor(imported) <= floor(name), f"{name} imports {imported}, which lies above it"


def test_every_file_has_a_place_and_every_place_a_file():
    places = [place for room in ROOMS for place in room]
    assert all(floor(name) is not None or name == "_io" for name in MODULES)
    assert all(any(name == place or name.startswith(place + ".") for name in MODULES) for place in places)


def test_no_cycles():
    """Not within a room either."""
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a cycle: {' -> '.join([*path, name])}"
        if name not in done:
            path.append(name)
            for imported in own_imports(MODULES[name]):
                visit(imported)
            path.pop()
            done.add(name)

    for name in MODULES:
        visit(name)


def test_few_entries_at_the_top():
    entries = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert len(entries) <= 16, sorted(entries)


def test_every_private_room_says_in_one_sentence_what_it_is_for():
    for path in FILES:
        if (path.parent == ROOT and path.name.startswith("_")) or path.parent.name.startswith("_"):
            docstring = ast.get_docstring(ast.parse(path.read_text()))
            assert docstring, path
            first = docstring.split("\n\n")[0]
            assert first.endswith((".", ":")) and "\n" not in first, path


def test_plug_ins_know_only_their_own_kind():
    for package in EXTENSION_POINTS:
        for path in (ROOT / package).glob("*.py"):
            for module, level in imports(path):
                assert level <= 1, f"{path} imports from above"
                assert level == 1 or module.split(".")[0] in {
                    "collections",
                    "contextlib",
                    "itertools",
                    "math",
                    "numpy",
                    "threading",
                    "torch",
                    "typing",
                    "warnings",
                }, f"{path} imports {module}"


def test_displays_know_only_the_fitted_estimator_and_import_matplotlib_to_draw():
    for path in (ROOT / "displays").glob("*.py"):
        assert all(level <= 1 for _, level in imports(path)), f"{path} imports from above"
        tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "matplotlib" not in " ".join(map(ast.unparse, tops)), path


def test_libraries_are_known_where_they_belong():
    for path in FILES:
        for module, level in imports(path):
            if level:
                continue
            if module.startswith("skorch"):
                assert path.stem in {"callbacks", "net", "progress"}, path
            if module.startswith("safetensors"):
                assert path.stem == "tensor_file", path
            if module == "accelerate" or module.startswith("accelerate."):
                assert path.stem == "distributed", path


def test_one_file_knows_scikit_learn_s_private_names():
    """Imported names, and methods of an estimator's that are its own: `self` aside, which is ours."""
    for path in FILES:
        if path.stem == "_sklearn_compat":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn"):
                private = [part for part in node.module.split(".") if part.startswith("_")]
                private += [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{path}: {private}"
            if isinstance(node, ast.Attribute | ast.Constant):
                name = node.attr if isinstance(node, ast.Attribute) else node.value
                known = {"_validate_params", "_init_callback_context", "_skl_callbacks", "_safe_indexing"}
                assert name not in known, f"{path}: {name}"


def test_one_file_knows_torch_s_private_names():
    for path in FILES:
        if path.stem == "torch_private":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            dotted = ""
            if isinstance(node, ast.Attribute):
                dotted = ast.unparse(node)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                dotted = node.module or ""
            if dotted.startswith("torch."):
                private = [part for part in dotted.split(".") if part.startswith("_") and not part.endswith("__")]
                assert not private, f"{path}: {dotted}"


def test_nothing_runs_what_a_file_or_a_string_says():
    """Bandit's rules, in the lint, do not know torch.load and numpy's pickles."""
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for module, level in imports(path):
            top = "" if level else module.split(".")[0]
            assert top not in {"pickle", "marshal", "shelve", "dill", "cloudpickle", "subprocess", "importlib"}, path
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in {"eval", "exec", "compile", "__import__", "joblib.load", "os.system"}, f"{path}: {name}"
            assert not name.startswith(("torch.load", "torch.save", "np.load", "torch.package")), f"{path}: {name}"
