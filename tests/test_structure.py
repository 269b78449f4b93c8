"""Rooms and floors: imports go down only, and each outside library is known where it belongs."""

import ast
from pathlib import Path

import skvae

ROOT = Path(skvae.__file__).parent
# A room may import ours from the rooms listed here.
FLOORS = {
    "__init__": {"_loading", "_onnx", "_search", "_transformer", "_version"},
    "_search": {"_parameters", "_together", "_training", "_transformer"},
    "_together": {"_stack", "_watch"},
    "_stack": {"_step", "networks"},
    "_onnx": {"_transformer"},
    "_version": set(),
    "_loading": {
        "_inspection", "_monitoring", "_parameters", "_persistence", "_state", "_tensor_file", "_training",
        "_transformer",
    },
    "_transformer": {"_parameters", "_persistence"},
    "_persistence": {
        "_arrays", "_fitting", "_monitoring", "_parameters", "_processes", "_state", "_tensor_file", "_training",
        "_version",
    },
    "_fitting": {
        "_arrays", "_callbacks", "_checkpoint", "_diagnostics", "_fitted", "_inspection", "_monitoring", "_parameters",
        "_processes", "_rows", "_sklearn", "_training",
    },
    "_diagnostics": {"_arrays", "_fitted", "_inference", "_monitoring", "_rows"},
    "_fitted": {
        "_arrays", "_build", "_inference", "_parameters", "_rows", "_sklearn", "likelihoods",
    },
    "_parameters": {"_arrays", "_sklearn", "likelihoods", "networks", "objectives", "posteriors"},
    "_training": {
        "_batches", "_build", "_checkpoint", "_distributed", "_linear_start", "_net", "_parameters", "_processes",
        "_progress", "_rows", "_scaling", "likelihoods", "objectives",
    },
    "_inspection": {"_inference", "_monitoring", "_rows", "_scaling"},
    "_monitoring": {"_scaling"},
    "_inference": {"_arrays", "_rows", "objectives"},
    "_build": {"_module", "likelihoods", "networks", "posteriors"},
    "_checkpoint": {"_arrays", "_state", "_tensor_file"},
    "_tensor_file": {"_version"},
    "_state": {"_adamw"},
    "_net": {"_adamw", "_batches", "_rows", "_step", "_watch", "objectives"},
    "_watch": set(),
    "_step": {"_adamw", "networks", "objectives"},
    "_adamw": set(),
    "_progress": set(),
    "_linear_start": {"_eigen", "_linear_gaps", "_rows", "_scaling"},
    "_eigen": set(),
    "_linear_gaps": {"_gaps", "_rows"},
    "_scaling": {"_arrays"},
    "_module": {"_gaps", "posteriors"},
    "_gaps": set(),
    "_batches": {"_rows"},
    "_rows": {"_arrays"},
    "_arrays": {"_sklearn"},
    "_callbacks": set(),
    "_distributed": {"_net", "_step"},
    "_processes": set(),
    "_sklearn": set(),
}  # fmt: skip


def imports(path):
    """(module, level) of each import statement of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def test_imports_go_down_only():
    for path in ROOT.glob("*.py"):
        allowed = FLOORS[path.stem]
        for module, level in imports(path):
            if level:
                assert module in allowed, f"{path.name} imports {module}"


def test_plug_ins_know_only_their_own_kind():
    for package in ("posteriors", "likelihoods", "networks", "objectives"):
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
                }, f"{path} imports {module}"


def test_displays_know_only_the_fitted_estimator_and_import_matplotlib_to_draw():
    for path in (ROOT / "displays").glob("*.py"):
        assert all(level <= 1 for _, level in imports(path)), f"{path} imports from above"
        tops = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "matplotlib" not in " ".join(map(ast.unparse, tops)), path


def test_libraries_are_known_where_they_belong():
    for path in ROOT.rglob("*.py"):
        for module, _ in imports(path):
            if module.startswith("skorch"):
                assert path.stem in {"_callbacks", "_net", "_progress"}
            if module.startswith("safetensors"):
                assert path.stem == "_tensor_file"
            if module.startswith("sklearn.utils"):
                rooms = {
                    "_diagnostics",
                    "_fitted",
                    "_fitting",
                    "_onnx",
                    "_persistence",
                    "_search",
                    "_sklearn",
                    "_training",
                }
                assert path.stem in rooms or path.parent.name == "displays"
            if module.startswith("sklearn.") and "._" in module:
                assert path.stem == "_sklearn"


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


def test_rooms_stay_small():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path
