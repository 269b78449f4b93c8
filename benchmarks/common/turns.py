"""Runs that take turns, so that whatever else the machine does meanwhile slows them alike."""

import time

import numpy as np


def interleaved(runs, turns):
    """Seconds of each run in each turn, and its last result. A turn before the first warms up, and is not timed."""
    seconds = {name: [] for name in runs}
    last = {}
    for turn in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            last[name] = run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(s) for name, s in seconds.items()}, last
