"""The README: it is short, its Python runs, its numbers are those of a benchmark's file, and its links have targets."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from benchmarks.readme import with_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")
PROSE = re.sub(r"```.*?```|^\|[^\n]*$|<!--.*?-->", "", README, flags=re.DOTALL | re.MULTILINE)


def test_it_is_read_in_a_few_minutes():
    assert len(README.splitlines()) <= 120
    assert len(PROSE.split()) <= 1000


def test_its_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(block.splitlines()) <= 14
    namespace = {}
    exec(compile(block, "README.md", "exec"), namespace)
    X_train, X_test, back = (namespace[name] for name in ("X_train", "X_test", "back"))
    assert namespace["z"].shape == (397, 4) and namespace["spread"].shape == (397, 4, 4)
    assert namespace["new"].shape == (5, 64)
    pca = PCA(4).fit(X_train)
    of_pca = pca.inverse_transform(pca.transform(X_test))
    assert np.square(X_test - back).sum() < np.square(X_test - of_pca).sum()  # as its comment says
    assert namespace["nats"] > pca.score(X_test)


def test_its_table_is_the_benchmark_s():
    assert with_table(README) == README


def test_it_has_no_other_measured_number():
    numbers = set(re.findall(r"\d[\d.,]*\d|\d", re.sub(r"`[^`]*`|\([^)]*\)", "", PROSE)))
    assert numbers <= {"3.10", "2.4", "50", "2", "0", "1", "3"}, numbers  # versions, an advice, R2, from 0 to 1, BSD-3


def test_its_links_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("command", ["python examples/quickstart.py", "python -m pytest", "python -m sphinx .*"])
def test_it_has_its_commands_each_on_a_line(command):
    assert re.search(rf'^pip install "\.\[\w+\]" && {command}$', README, flags=re.MULTILINE)
