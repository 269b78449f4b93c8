"""Rows of a benchmark, written to a file as they come, so that a run goes on where one was broken off."""

import json

from joblib import Parallel, delayed


def recorded(path, names, tasks, measure, n_jobs=1):
    """The rows (dicts) of all tasks, in the order of the file: read from it, or measured and added to it.

    Parameters
    ----------
    path : Path
        A JSON object a line.
    names : tuple of str
        Which of a row's values, together, are its task.
    tasks : list of tuple
    measure : callable
        A task's values -> list of its rows.
    n_jobs : int, default=1
    """

    def task_of(row):
        return tuple(row[name] for name in names)

    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {task_of(row) for row in rows}
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    with path.open("a") as file:
        for new in parallel(delayed(measure)(*task) for task in tasks if task not in done):
            rows += new
            print(*map(json.dumps, new), sep="\n", file=file, flush=True)
    return [row for row in rows if task_of(row) in tasks]
