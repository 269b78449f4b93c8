"""The file in which a fit keeps its progress, and from which it goes on after the process was killed."""

import hashlib
import os
from pathlib import Path

import numpy as np

from .._data.arrays import to_numpy
from .._parameters import PARAMETERS
from .state import restore, state_of
from .tensor_file import FORMAT, describe, read_with_format, write


class Checkpoint:
    """The file of one fit.

    Parameters
    ----------
    path : str or path-like
    every : int
        Number of epochs between two writings.
    fit : dict
        What distinguishes this fit from others; see `fit_identity`.
    seed : int
        Seed of the fit, if there is no file yet.
    is_main_process : bool
        Whether this process writes and removes the file.

    Raises
    ------
    ValueError
        If the file is not a checkpoint, or belongs to another fit.
    """

    def __init__(self, path, every, fit, seed, is_main_process=True):
        self.path, self.every, self.is_main_process = path, every, is_main_process
        self.content = {"fit": fit, "seed": seed, "stages": {}}
        if os.path.exists(path):
            file_format, there = read_with_format(path)
            if set(there) != set(self.content):
                raise ValueError(f"checkpoint={os.fspath(path)!r} is a file of skvae, but no checkpoint.")
            if file_format < FORMAT:
                raise ValueError(
                    f"checkpoint={os.fspath(path)!r} holds a fit that an earlier skvae began, and whose models are not "
                    "this one's. Go on with that version, delete the file or name another."
                )
            differing = sorted(name for name in {**fit, **there["fit"]} if fit.get(name) != there["fit"].get(name))
            if differing:
                raise ValueError(
                    f"checkpoint={os.fspath(path)!r} holds an interrupted fit, and these differ: "
                    f"{', '.join(differing)}. Continue that fit, delete the file or name another one."
                )
            self.content = there

    @property
    def seed(self):
        return self.content["seed"]

    def phase(self, name):
        """The part of the file that belongs to one phase."""
        return PhaseCheckpoint(self, name)

    def remove(self):
        """Delete the file, as the fit is complete. Another run of the same fit may have done so."""
        if self.is_main_process:
            Path(self.path).unlink(missing_ok=True)


class PhaseCheckpoint:
    """One phase's part of a `Checkpoint`."""

    def __init__(self, checkpoint, name):
        self.checkpoint, self.phases, self.name = checkpoint, checkpoint.content["stages"], name

    def resume(self, net, early_stopping):
        """Restore this phase from the file, or write its first state; return whether its training was over."""
        if self.name not in self.phases:
            self.keep(net, early_stopping)
            return False
        restore(net, self.phases[self.name]["net"], early_stopping)
        return self.phases[self.name]["over"]

    def keep(self, net, early_stopping, over=False):
        """Write the net and its early stopping, if the epoch is due or training is over."""
        if self.checkpoint.is_main_process and (over or (len(net.history) - 1) % self.checkpoint.every == 0):
            self.phases[self.name] = {"net": state_of(net, early_stopping), "over": over}
            write(self.checkpoint.path, self.checkpoint.content)


def fit_identity(params, data, previous=None):
    """What a fit depends on: parameters by name, and a digest of its rows and of the previous net.

    Parameters
    ----------
    params : dict
    data : FitData
    previous : VAENet or None
    """
    digest = hashlib.sha256()
    for rows in (data.rows, data.validation):
        for of_values in (rows, None if rows is None else rows.errors):
            if of_values is not None:
                digest.update(f"{of_values.dtype.str} {of_values.shape}".encode())
                for _, block in of_values.blocks():
                    digest.update(np.asarray(to_numpy(block), order="C").data)
    for name in ("weight", "groups", "held_out"):
        if getattr(data, name) is not None:
            digest.update(name.encode())
            digest.update(getattr(data, name).data)
    if previous is not None:
        for array in state_of(previous)["module"].values():
            digest.update(np.asarray(array, order="C").data)
    irrelevant = {name for name, parameter in PARAMETERS.items() if not parameter.shapes_the_fit}
    parameters = {name: describe(value) for name, value in params.items() if name not in irrelevant}
    return {**parameters, "the rows": digest.hexdigest()}
