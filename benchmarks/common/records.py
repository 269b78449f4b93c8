"""Rows of a benchmark: written to a file as they come, so that a run goes on where one ended, and published."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from benchmarks.common.machine import machine

RESULTS = Path(__file__).parents[1] / "results"  # what is committed


def recorded(path, names, tasks, measure, n_jobs=1, progress=False):
    """The rows (dicts) of all tasks, in the tasks' order: read from the file, or measured and added to it.

    Parameters
    ----------
    path : Path
        Each line is a JSON object. Those of other tasks, and of tasks of other kinds, are left alone.
    names : tuple of str
        Which of a row's values, together, are its task.
    tasks : list of tuple
    measure : callable or None
        A task's values -> list of its rows. With None only the file is read.
    n_jobs : int, default=1
    progress : bool, default=False
        Show how many of the missing tasks are done.
    """

    def task_of(row):
        return tuple(row.get(name) for name in names)

    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {task_of(row) for row in rows}
    missing = [task for task in tasks if task not in done] if measure else []
    results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(delayed(measure)(*task) for task in missing)
    with path.open("a") as file:
        for new in tqdm(results, total=len(missing), unit="fit", disable=not (progress and missing)):
            rows += new
            print(*map(json.dumps, new), sep="\n", file=file, flush=True)
    place = {task: i for i, task in enumerate(tasks)}
    return sorted((row for row in rows if task_of(row) in place), key=lambda row: place[task_of(row)])


def published(path, names, rows):
    """Write rows (dicts) to a CSV file, in place of those of the same tasks, sorted; return all its rows (DataFrame).

    Parameters
    ----------
    path : Path
    names : tuple of str
        Which of a row's values, together, are its task.
    rows : list of dict
    """
    parts = [pd.read_csv(path)] if path.exists() else []
    frame = pd.concat([*parts, pd.DataFrame(rows)]).drop_duplicates([*names], keep="last").sort_values([*names])
    frame.to_csv(path, index=False, float_format="%.7g")
    return pd.read_csv(path)  # as rounded, so that whoever reads the file makes the same tables of it


def circumstances(X, groups, train, test):
    """What a row tells of the data it rests on, split into these places, and of the machine."""
    return {
        "n_train": len(train),
        "n_test": len(test),
        "n_features": X.shape[1],
        "n_groups": len(np.unique(groups[train])),
        "machine": machine(),
    }
