"""The report of a fit: how it did on its validation rows, and what it warned of."""

import sys
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch

from .._data.rows import blocks, rows_per_block, values_and_errors
from .channel_noise import constant_channels

MOST_LISTED = 20  # columns that a remark names
LIBRARIES = ("skvae", "sklearn", "skorch", "torch", "contextlib")  # a user learns nothing from their lines


@dataclass
class Report:
    """The report of a fit, in plain values."""

    n_rows: int
    n_left_out: int = 0  # rows of weight 0, or without a value
    n_validation_rows: int = 0
    n_validation_groups: int | None = None
    n_refit_epochs: int = 0
    r2_of_start: float | None = None  # of the validation rows
    r2: float | None = None  # by the weights that were kept
    remarks: list[str] = field(default_factory=list)

    def warn(self, remark):
        """Warn at the line of the user's own code, and remember the warning."""
        self.remarks.append(remark)
        warnings.warn(remark, UserWarning, stacklevel=levels_to_caller())


def levels_to_caller():
    """The `stacklevel` that a warning of the calling function needs to name the user's own line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES:
        frame, level = frame.f_back, level + 1
    return level


def initial_report(data, validation):
    """The report of a fit that begins."""
    report = Report(len(data), data.n_left_out)
    if validation is not None:
        report.n_validation_rows = len(validation)
        if validation.groups is not None:
            report.n_validation_groups = validation.n_independent
    return report


def warn_of_rows(report, params, module, training, groups_found, columns=None):
    """Warn of what a model cannot learn from these rows. `columns` (p,) are those of X that it knows; None: all."""
    warn_of_unknown_columns(report, columns)
    n, p = len(training), training.u.shape[-1]
    if groups_found is not None:
        report.warn(
            f"X seems to hold repeated measurements: its {len(groups_found)} rows form {groups_found.max() + 1} groups "
            "of copies. Copies are kept together when rows are held out for validation, as a row is no test of a model "
            "that was trained on its copy. Pass groups=, the sample of each row, to fit if you know it."
        )
    constant = constant_channels(module, training) if module.likelihood.has_channel_noise else []
    if constant:
        places = constant if columns is None else np.flatnonzero(columns)[constant]
        report.warn(
            f"Columns of X that are constant in the training rows, counted from 0: {listed(places)}. Their noise "
            "cannot be estimated and is taken to be as large as that of the others. A dead channel is best left out."
        )
    most, starts_linear = min(n - 1, p - len(constant)), module.has_linear_start
    if starts_linear and 0 < most < params.n_components:
        report.warn(
            f"n_components={params.n_components} is more than the {most} directions in which the {n} training rows "
            f"differ, so that the linear start leaves components unused. Set n_components to {most} or less."
        )


def warn_of_unknown_columns(report, columns):
    """Warn where a model knows only some of X's columns: those of the mask `columns` (p,)."""
    if columns is not None:
        report.warn(
            "X has columns of which no value was measured in the rows that the model starts from: "
            f"{listed(np.flatnonzero(~columns))}. The model is that of the other columns. Values of these are not "
            "used, and NaN stands for what is not known of them."
        )


def listed(places):
    return ", ".join(map(str, places[:MOST_LISTED])) + (", ..." if len(places) > MOST_LISTED else "")


@torch.no_grad()
def r2(module, u):
    """R2 of the reconstruction of rows u in X's units: 1 - squared residuals / squared distances from the means.

    Values count by their precisions. The result is NaN where the rows do not differ.
    """
    module.eval()
    left, total = 0.0, 0.0
    for rows in blocks(len(u), rows_per_block(u.shape[-1], u.device)):
        (x, errors), root = values_and_errors(u[rows]), module.scale
        if errors is not None:
            root = root * module.linear_conditional(x, errors).share.sqrt()
        back = module.likelihood.mean(module.decoder(module.encode(u[rows]).mean))
        left += float((root * (x - back)).square().sum())
        total += float((root * (x - module.fill_mean)).square().sum())
    return 1 - left / total if total > 0 else float("nan")


def summary(vae):
    """The report of a fitted estimator as a text of a few lines."""
    report, history = Report(**vae._report), vae.history_
    lines = [f"{type(vae).__name__}: {vae.n_components_} components of {vae.n_features_in_} features"]
    n, n_held_out = report.n_rows, report.n_validation_rows
    groups = "" if report.n_validation_groups is None else f" in {report.n_validation_groups} groups"
    validated = f", validated on {n_held_out} rows{groups}" if n_held_out else ""
    left_out = f"; {report.n_left_out} left out" if report.n_left_out else ""
    lines.append(f"fitted to {n} rows{validated}{left_out}")
    start = "linear start" if vae.net_.module_.has_linear_start else "start"
    if n_held_out:
        scores = (history[epoch].get("valid_score", np.nan) for epoch in (0, vae.best_iter_))
        lines += [
            f"{'validation rows':44}{start:>14}{'kept':>14}",
            f"{'  objective (higher is better), nats per row':44}" + "".join(f"{score:14.2f}" for score in scores),
            f"{'  R2 of the reconstruction':44}{report.r2_of_start:14.4f}{report.r2:14.4f}",
        ]
    if vae.best_iter_:
        then = f", then {report.n_refit_epochs} epochs on all rows" if report.n_refit_epochs else ""
        lines.append(f"kept: epoch {vae.best_iter_} of {vae.n_iter_}{then}")
    else:
        why = f": {vae.n_iter_} epochs of training did no better on the validation rows" if vae.n_iter_ else ""
        lines.append(f"kept: the {start}{', the model without its networks' if start != 'start' else ''}{why}")
    lines.append(f"components in use: {vae.n_active_components_} of {vae.n_components_}")
    return "\n".join(lines + [f"warned: {remark}" for remark in report.remarks])
