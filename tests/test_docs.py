"""The site's sources: the Python on its pages runs, and what they should tell of the package is complete."""

import ast
import re
from pathlib import Path

import pytest
import sklearn
from sklearn.utils.fixes import parse_version

import skvae

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT / "docs").as_posix(): path for path in sorted((ROOT / "docs").rglob("*.md"))}
BLOCKS = {
    name: re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf8"), flags=re.DOTALL)
    for name, path in PAGES.items()
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PACKAGE = [ast.parse(path.read_text(encoding="utf8")) for path in Path(skvae.__file__).parent.rglob("*.py")]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # a few epochs on a part of the digits
@pytest.mark.parametrize("name", [name for name, blocks in BLOCKS.items() if blocks])
def test_python_on_a_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "array_api_dispatch" in "".join(BLOCKS[name]) and parse_version(sklearn.__version__) < parse_version("1.9"):
        pytest.skip("scikit-learn's array API is that of 1.9")
    namespace = {}
    for block in BLOCKS[name]:
        exec(compile(block, name, "exec"), namespace)
    assert any(hasattr(value, "fit") for value in namespace.values())


def test_examples_are_short_and_in_the_gallery_s_order():
    assert [path.name for path in EXAMPLES if not 20 <= len(path.read_text().splitlines()) <= 60] == []
    conf = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf8"))
    values = {ast.unparse(node.targets[0]): node.value for node in conf.body if isinstance(node, ast.Assign)}
    assert sorted(ast.literal_eval(values["EXAMPLES"])) == [path.stem for path in EXAMPLES]


def test_pages_show_every_result_that_is_kept():
    shown = set(re.findall(r"{results} (\S+)", "".join(path.read_text(encoding="utf8") for path in PAGES.values())))
    kept = {path.name for path in (ROOT / "benchmarks" / "results").iterdir() if path.suffix in (".csv", ".json")}
    assert kept <= shown
    assert all((ROOT / "benchmarks" / "quality" / name).with_suffix(".py").exists() for name in shown - kept)


def literal_start(node):
    """The words that a message begins with, as far as they are the same for every call."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) else node
    return first.value if isinstance(first, ast.Constant) else ""


def test_troubleshooting_knows_every_warning():
    text = " ".join(PAGES["troubleshooting.md"].read_text(encoding="utf8").split())
    calls = (node for tree in PACKAGE for node in ast.walk(tree) if isinstance(node, ast.Call))
    starts = [literal_start(call.args[0]) for call in calls if ast.unparse(call.func).endswith(".warn")]
    assert starts
    assert [start for start in starts if " ".join(start.split()[:4]) not in text] == []


def test_troubleshooting_knows_every_class_of_error():
    text = PAGES["troubleshooting.md"].read_text(encoding="utf8")
    raised = (node.exc for tree in PACKAGE for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc)
    names = {call.func.id for call in raised if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    assert {name for name in names if name not in text} == set()
