"""Run a benchmark and keep the tables that it prints, as data.

    OMP_NUM_THREADS=1 python -m benchmarks.record quality.outliers
    OMP_NUM_THREADS=2 python -m benchmarks.record speed.engine --name speed.engine_two_threads

runs `python -m benchmarks.quality.outliers`, shows what it prints, and writes its Markdown tables to
`benchmarks/results/quality.outliers.json`, from which the site builds its pages. Arguments after `--` go to the script.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import sklearn
import torch

import skvae
from benchmarks.common.arguments import parser_of

RESULTS = Path(__file__).parent / "results"


def tables_of(text):
    """The Markdown tables in a text: a title (what stands above each), the columns' names, and rows of cells."""
    tables, above, inside = [], [], False
    for line in map(str.strip, text.splitlines()):
        if not line.startswith("|"):
            above += [line] if line else []
            inside = False
        elif not inside:
            tables.append({"title": "\n".join(above), "columns": cells(line), "rows": []})
            above, inside = [], True
        elif set(line) - set("|-: "):
            tables[-1]["rows"].append(cells(line))
    return tables


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def write(name, command, tables, **about):
    """Write a result's file, a row of a table to a line."""
    path = RESULTS / f"{name}.json"
    head = json.dumps({"command": command, **about}, ensure_ascii=False, indent=1).removesuffix("\n}")
    blocks = ",\n".join(map(block, tables))
    path.write_text(f'{head},\n "tables": [\n{blocks}\n ]\n}}\n', encoding="utf8")
    return path


def block(table):
    title, columns = (json.dumps(table[key], ensure_ascii=False) for key in ("title", "columns"))
    rows = ",\n   ".join(json.dumps(row, ensure_ascii=False) for row in table["rows"])
    return f'  {{"title": {title},\n   "columns": {columns},\n   "rows": [\n   {rows}]}}'


def machine():
    """What a result depends on beside the code."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    versions += f", skvae {skvae.__version__}"
    return {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "versions": versions}


def main():
    parser = parser_of(__doc__)
    parser.add_argument("script", help="a module below benchmarks, such as quality.outliers")
    parser.add_argument("arguments", nargs="*", help="the script's own, after --")
    parser.add_argument("--name", help="of the file, if not the script's")
    args = parser.parse_intermixed_args()  # --name may stand before "--"
    command = ["-m", f"benchmarks.{args.script}", *args.arguments]
    run = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True)
    print(run.stdout, end="")
    threads = os.environ.get("OMP_NUM_THREADS")
    said = shlex.join([*([f"OMP_NUM_THREADS={threads}"] if threads else []), "python", *command])
    print(f"\nThe tables are in {write(args.name or args.script, said, tables_of(run.stdout), **machine())}")


if __name__ == "__main__":
    main()
