"""`python -m benchmarks.readme` writes the README's table of results from those of `benchmarks.quality.pca_comparison`.

The table has no choice by result: of each kind of data, the first of the sets that no setting was chosen on, at four
components.
"""

import re
from pathlib import Path

import pandas as pd

from benchmarks.common.markdown import heading, line, spread
from benchmarks.common.records import RESULTS

README = Path(__file__).parents[1] / "README.md"
COMPARISON = RESULTS / "pca_comparison.csv"
PART, N_COMPONENTS = "final", 4
KINDS = {  # the first set of each in `benchmarks.common.sets.FINAL` -> what its rows are
    "corn": "near-infrared spectra of corn",
    "SL.125": "spectra of soils",
    "raman_cells": "Raman spectra of solar cells",
    "fluorescence": "fluorescence spectra",
    "serology": "antibodies in blood",
    "pig_pressure": "pressure traces of pigs",
    "asteroids_visible": "spectra of asteroids",
    "baltimore": "particles in air",
    "leaves": "shapes of leaves",
    "hepatic": "descriptors of molecules",
    "speech": "features of speech",
    "nci60": "genes of cancer cells",
    "diabetes": "patients",
}
MODELS = {"default": "VAE (default)", "PCA": "PCA", "FactorAnalysis": "FactorAnalysis"}


def best_in_bold(cells):
    """The cells, each a number and what follows it, with the greatest number in bold."""
    numbers = [float(cell.split()[0]) for cell in cells]
    return [f"**{cell}**" if number == max(numbers) else cell for cell, number in zip(cells, numbers, strict=True)]


def table(path=COMPARISON):
    """The README's table in Markdown, from a CSV file of `benchmarks.quality.pca_comparison`.

    Raises
    ------
    LookupError
        If the file lacks a model's rows of a set.
    """
    frame = pd.read_csv(path)
    fits = dict(list(frame[frame["n_components"] == N_COMPONENTS].groupby(["part", "set", "model"])))
    missing = [f"{model} of {name}" for name in KINDS for model in MODELS if (PART, name, model) not in fits]
    if missing:
        command = f"`python -m benchmarks.quality.pca_comparison --part {PART}`"
        raise LookupError(f"{path.name} lacks {', '.join(missing)} at {N_COMPONENTS} components: run {command} first.")
    scores = [f"{what}: {name}" for what in ("nats", "R2") for name in MODELS.values()]
    lines = [heading("rows (number x channels)", *scores)]
    for name, kind in KINDS.items():
        of_models = [fits[PART, name, model] for model in MODELS]
        first = of_models[0].iloc[0]
        nats = best_in_bold([spread(fit["nats"]) for fit in of_models])
        r2 = best_in_bold([f"{fit['r2'].mean():.4f}" for fit in of_models])
        lines.append(line(f"{kind} ({first['n_train'] + first['n_test']} x {first['n_features']})", *nats, *r2))
    return "\n".join(lines)


def with_table(text, path=COMPARISON):
    """The README's text with the present table between its two markers."""
    present = table(path) + "\n"
    return re.sub(r"(?<=-->\n)(\|.*\n)*(?=<!-- table: end)", lambda match: present, text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf8")), encoding="utf8")
