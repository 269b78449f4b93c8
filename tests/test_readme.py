"""The README's Python runs, top to bottom, in one namespace."""

import re
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from sklearn.utils.fixes import parse_version

README = Path(__file__).parent.parent / "README.md"


def test_readme_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf8"), flags=re.DOTALL)
    namespace = {}
    for block in blocks:
        if "array_api_dispatch" in block and parse_version(sklearn.__version__) < parse_version("1.9"):
            continue
        exec(compile(block, str(README), "exec"), namespace)
    assert len(blocks) == 8
    assert namespace["z"].shape == (400, 2) and namespace["spread"].shape == (200, 4, 4)
    assert np.isfinite(namespace["filled"]).all() and namespace["odd"].shape == namespace["far"].shape == (200,)
    tied, X = namespace["tied"], namespace["X_test"][:5]
    covariance = tied.posterior_covariance(X)  # the posterior of one's own has one variance for all components
    np.testing.assert_allclose(covariance, covariance[:, :1, :1] * np.eye(3), atol=1e-12)
    assert np.isfinite(tied.score(X))
    assert "t" not in namespace or isinstance(namespace["t"], torch.Tensor)
    np.testing.assert_array_equal(namespace["same"].transform(X), namespace["vae"].transform(X))


@pytest.mark.parametrize("command", ["python examples/quickstart.py", "python -m pytest"])
def test_readme_has_its_commands_each_on_a_line(command):
    assert re.search(rf'^pip install "\.\[\w+\]" && {command}$', README.read_text(encoding="utf8"), flags=re.MULTILINE)
