"""The README: it is short, its Python runs, its numbers are those of a benchmark's file, and its links have targets."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from benchmarks.common.sets import FINAL
from benchmarks.readme import KINDS, MODELS, table, with_table

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


def results(path, **of_default):
    """A file of the comparison in which PCA has the nats 1, 2, 3 and factor analysis -1 on three splits of each set."""
    rows = [
        {"part": "final", "set": name, "n_components": d, "model": model, "split": split, "nats": nats, "r2": 0.5}
        for name in KINDS
        for d in (2, 4)
        for split in range(3)
        for model, nats in {"PCA": split + 1.0, "FactorAnalysis": -1.0, **of_default}.items()
    ]
    pd.DataFrame(rows).assign(n_train=6, n_test=2, n_features=5).to_csv(path)
    return path


def test_the_table_has_the_means_of_the_splits_losses_too(tmp_path):
    lines = table(results(tmp_path / "pca_comparison.csv", default=1.5)).splitlines()
    assert len(lines) == 2 + len(KINDS)
    cells = "| 1.5 ± 0.0 | **2.0 ± 0.8** | -1.0 ± 0.0 | **0.5000** | **0.5000** | **0.5000** |"
    assert lines[2] == f"| {KINDS['corn']} (8 x 5) {cells}"


def test_the_table_needs_every_model(tmp_path):
    with pytest.raises(LookupError, match=r"lacks default of corn, .*pca_comparison --part final"):
        table(results(tmp_path / "pca_comparison.csv"))


def test_the_table_s_sets_are_those_that_no_setting_was_chosen_on_in_their_order():
    assert list(KINDS) == [name for name in FINAL if name in KINDS]
    assert next(iter(MODELS)) == "default"


def test_it_has_no_other_measured_number():
    numbers = set(re.findall(r"\d[\d.,]*\d|\d", re.sub(r"`[^`]*`|\([^)]*\)", "", PROSE)))
    assert numbers <= {"3.10", "2.4", "80", "2", "0", "1", "3"}, numbers  # versions, an advice, R2, from 0 to 1, BSD-3


def test_its_links_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("command", ["python examples/quickstart.py", "python -m pytest", "python -m sphinx .*"])
def test_it_has_its_commands_each_on_a_line(command):
    assert re.search(rf'^pip install "\.\[\w+\]" && {command}$', README, flags=re.MULTILINE)
