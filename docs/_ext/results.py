"""The directive ``results``: the tables of a file of `benchmarks/results`.

Of a JSON file, which `benchmarks.record` writes, all tables, or those whose titles hold the option ``tables``.
Of a CSV file, the Markdown that the function of its benchmark that the option names, or `report`, makes of it.
"""

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.append(str(ROOT))  # the benchmarks, which are not installed


def recorded_tables(path, wanted=""):
    """The lines of a JSON file's tables in Markdown, and the command and the machine that they come from."""
    result, lines = json.loads(path.read_text(encoding="utf8")), []
    for table in result["tables"]:
        if wanted in table["title"]:
            lines += [f"\n**{table['title']}**\n" if table["title"] else ""]
            lines += [row(table["columns"]), "|---" * len(table["columns"]) + "|", *map(row, table["rows"])]
    return [*lines, "", f"*`{result['command']}` wrote it: {result['machine']}; {result['versions']}.*"]


def row(cells):
    return f"| {' | '.join(cell.replace('<', '&lt;') for cell in cells)} |"


def reported_tables(path, function="report"):
    """The lines of what a benchmark makes of its CSV file in Markdown, its headings in bold."""
    name = f"benchmarks.quality.{path.stem}"
    if not path.exists():
        return [f"*`python -m {name}` writes this table. It has not been run on this version yet.*"]
    text = getattr(import_module(name), function)(pd.read_csv(path))
    return re.sub(r"^#+ (.*)$", r"**\1**", text.replace("<", "&lt;"), flags=re.MULTILINE).splitlines()


class Results(SphinxDirective):
    required_arguments = 1
    option_spec = {"tables": directives.unchanged}

    def run(self):
        path = RESULTS / self.arguments[0]
        self.env.note_dependency(str(path))
        lines = (reported_tables if path.suffix == ".csv" else recorded_tables)(path, *self.options.values())
        container = nodes.container(classes=["results"])
        self.state.nested_parse(StringList(lines, str(path)), 0, container)
        return [container]


def setup(app):
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
