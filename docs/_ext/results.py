"""The directive ``results``: the tables of a file of `benchmarks/results`, or those whose titles hold a text."""

import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def markdown(result, wanted=""):
    """The tables as Markdown, and the command and the machine that they come from."""
    lines = []
    for table in result["tables"]:
        if wanted in table["title"]:
            lines += [f"\n**{table['title']}**\n" if table["title"] else ""]
            lines += [row(table["columns"]), "|---" * len(table["columns"]) + "|", *map(row, table["rows"])]
    return [*lines, "", f"*`{result['command']}` wrote it: {result['machine']}; {result['versions']}.*"]


def row(cells):
    return f"| {' | '.join(cell.replace('<', '&lt;') for cell in cells)} |"


class Results(SphinxDirective):
    required_arguments = 1
    option_spec = {"tables": directives.unchanged}

    def run(self):
        path = RESULTS / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        result = json.loads(path.read_text(encoding="utf8"))
        container = nodes.container(classes=["results"])
        self.state.nested_parse(StringList(markdown(result, self.options.get("tables", "")), str(path)), 0, container)
        return [container]


def setup(app):
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
