"""What a fit has reached, in a file from which the same fit goes on after the process was killed."""

import hashlib
import os

import numpy as np

from ._arrays import array_of
from ._state import restore, state_of
from ._tensor_file import describe, read, write

# Parameters that change no weight.
IRRELEVANT = {"checkpoint", "checkpoint_every", "device", "distributed", "verbose", "n_importance_samples"}


class Checkpoint:
    """The file of one fit.

    Parameters
    ----------
    path : str or path-like
    every : int
        Epochs between two writings.
    fit : dict
        What tells this fit from others: see `identity`.
    seed : int
        To begin with, if there is no file yet.
    writes : bool
        Whether this process writes and removes the file.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or another fit's.
    """

    def __init__(self, path, every, fit, seed, writes=True):
        self.path, self.every, self.writes = path, every, writes
        self.content = {"fit": fit, "seed": seed, "stages": {}}
        if os.path.exists(path):
            there = read(path)
            if set(there) != set(self.content):
                raise ValueError(f"checkpoint={os.fspath(path)!r} is a file of skvae's, but no checkpoint.")
            differing = sorted(name for name in {**fit, **there["fit"]} if fit.get(name) != there["fit"].get(name))
            if differing:
                raise ValueError(
                    f"checkpoint={os.fspath(path)!r} holds a fit that was interrupted and of which these differ: "
                    f"{', '.join(differing)}. Go on with that one, delete the file or name another."
                )
            self.content = there

    @property
    def seed(self):
        return self.content["seed"]

    def stage(self, name):
        """That of one net's training."""
        return Stage(self, name)

    def remove(self):
        """The fit is whole."""
        if self.writes:
            os.remove(self.path)


class Stage:
    """One net's part of a `Checkpoint`."""

    def __init__(self, checkpoint, name):
        self.checkpoint, self.stages, self.name = checkpoint, checkpoint.content["stages"], name

    def resume(self, net, watch):
        """Take what the file has of this net, or write the first of it; whether its training was over."""
        if self.name not in self.stages:
            self.keep(net, watch)
            return False
        restore(net, self.stages[self.name]["net"], watch)
        return self.stages[self.name]["over"]

    def keep(self, net, watch, over=False):
        """Write the net and its watch, if it is an epoch to write or the last."""
        if self.checkpoint.writes and (over or (len(net.history) - 1) % self.checkpoint.every == 0):
            self.stages[self.name] = {"net": state_of(net, watch), "over": over}
            write(self.checkpoint.path, self.checkpoint.content)


def identity(params, rows, weight=None, previous=None):
    """What a fit depends on: parameters by name, and the digest of the rows, of their weights and of the net before."""
    digest = hashlib.sha256(f"{rows.dtype.str} {rows.shape}".encode())
    for _, block in rows.blocks():
        digest.update(np.asarray(array_of(block), order="C").data)
    if weight is not None:
        digest.update(weight.data)
    if previous is not None:
        for array in state_of(previous)["module"].values():
            digest.update(np.asarray(array, order="C").data)
    parameters = {name: describe(value) for name, value in params.items() if name not in IRRELEVANT}
    return {**parameters, "the rows": digest.hexdigest()}
