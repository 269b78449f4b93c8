"""`python -m benchmarks.readme` writes the README's table of results from the file that a benchmark wrote."""

import json
import re
from pathlib import Path

from benchmarks.common.markdown import heading, line
from benchmarks.record import RESULTS

README = Path(__file__).parents[1] / "README.md"
MODELS = ("VAE (default)", "PCA", "FactorAnalysis")


def best_in_bold(cells):
    """The cells, each a number and what follows it, with the greatest number in bold."""
    numbers = [float(cell.split()[0]) for cell in cells]
    return [f"**{cell}**" if number == max(numbers) else cell for cell, number in zip(cells, numbers, strict=True)]


def table():
    (result,) = json.loads((RESULTS / "quality.defaults.json").read_text(encoding="utf8"))["tables"]
    columns = result["columns"]
    lines = [heading(columns[0], *(f"{what}: {model}" for what in ("nats", "R2") for model in MODELS))]
    for row in result["rows"]:
        nats, r2 = ([row[columns.index(before + model)] for model in MODELS] for before in ("", "R2: "))
        lines.append(line(row[0], *best_in_bold(nats), *best_in_bold(r2)))
    return "\n".join(lines)


def with_table(text):
    """The README's text with the present table between its two markers."""
    return re.sub(r"(?<=-->\n)(\|.*\n)*(?=<!-- table: end)", lambda match: table() + "\n", text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf8")), encoding="utf8")
