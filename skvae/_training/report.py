"""What a fit tells of itself: how it did on its validation rows, and what it warned of."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch

from .._data.rows import blocks, rows_per_block
from .channel_noise import constant_channels

SHOWN = 20  # columns that a remark names


@dataclass
class Report:
    """What a fit tells of itself, in plain values."""

    n_rows: int
    n_left_out: int = 0  # rows of weight 0, or without a value
    n_validation_rows: int = 0
    n_validation_groups: int | None = None
    n_refit_epochs: int = 0
    r2_of_start: float | None = None  # of the validation rows
    r2: float | None = None  # by the weights that were kept
    remarks: list[str] = field(default_factory=list)

    def warn(self, remark):
        """Warn of something, and remember it."""
        self.remarks.append(remark)
        warnings.warn(remark, UserWarning, stacklevel=2)


def begun_report(data, validation):
    """The report of a fit that begins."""
    report = Report(len(data), data.n_left_out)
    if validation is not None:
        report.n_validation_rows = len(validation)
        if validation.groups is not None:
            report.n_validation_groups = validation.n_independent
    return report


def warn_of_rows(report, params, module, training, groups_found, columns=None):
    """Warn of what the rows cannot tell a model of this kind, which knows these of X's columns (p,), or all."""
    warn_of_unknown_columns(report, columns)
    n, p = training.u.shape
    if groups_found is not None:
        report.warn(
            f"X seems to hold repeated measurements: its {len(groups_found)} rows form {groups_found.max() + 1} groups "
            "of copies. Copies are kept together when rows are held out for validation, as a row is no test of a model "
            "that was trained on its copy. Pass groups=, the sample of each row, to fit if you know it."
        )
    most, starts_linear = min(n - 1, p), params.init == "linear" and module.likelihood.linear_noise is not None
    if starts_linear and 0 < most < params.n_components:
        report.warn(
            f"n_components={params.n_components} is more than the {most} directions in which {n} training rows of {p} "
            f"features differ, so that some components begin with nothing to carry. Take n_components={most} at most."
        )
    if module.likelihood.has_channel_noise:
        constant = constant_channels(module, training)
        if constant:
            places = constant if columns is None else np.flatnonzero(columns)[constant]
            report.warn(
                f"X has {len(constant)} features that are constant in the training rows: {listed(places)}. The rows "
                "say nothing of their noise, which is taken to be as large as the others'."
            )


def warn_of_unknown_columns(report, columns):
    """Warn where a model knows only these of X's columns, a mask of shape (p,)."""
    if columns is not None:
        report.warn(
            "X has columns of which no value was measured in the rows that the model starts from: "
            f"{listed(np.flatnonzero(~columns))}. The model is that of the other columns. Values of these are not "
            "used, and NaN stands for what is not known of them."
        )


def listed(places):
    return ", ".join(map(str, places[:SHOWN])) + (", ..." if len(places) > SHOWN else "")


@torch.no_grad()
def r2(module, u, has_missing):
    """Share of the squared distances from the column means that the reconstruction of rows u takes away, in X's units.

    NaN where the rows do not differ.
    """
    module.eval()
    left, total = 0.0, 0.0
    for rows in blocks(len(u), rows_per_block(u.shape[1])):
        x = u[rows]
        back = module.likelihood.mean(module.decoder(module.encode(x, has_missing).mean))
        left += float((module.scale * (x - back)).square().nansum())
        total += float((module.scale * (x - module.fill_mean)).square().nansum())
    return 1 - left / total if total > 0 else float("nan")


def summary(vae):
    """The report of a fitted estimator as a text of a few lines."""
    report, history = Report(**vae._report), vae.history_
    lines = [f"{type(vae).__name__}: {vae.n_components_} components of {vae.n_features_in_} features"]
    left_out = f"; {report.n_left_out} left out" if report.n_left_out else ""
    lines.append(f"trained on {report.n_rows} rows{left_out}")
    if report.n_validation_rows:
        groups = "" if report.n_validation_groups is None else f" in {report.n_validation_groups} groups"
        lines += [
            f"{report.n_validation_rows} validation rows{groups}:",
            f"{'':44}{'start':>12}{'kept':>12}",
            f"{'  bound on log p(x) in training, nats per row':44}"
            + "".join(f"{history[epoch].get('valid_score', np.nan):12.2f}" for epoch in (0, vae.best_iter_)),
            f"{'  R2 of the reconstruction':44}{report.r2_of_start:12.4f}{report.r2:12.4f}",
        ]
    if vae.best_iter_:
        then = f", then {report.n_refit_epochs} epochs on all rows" if report.n_refit_epochs else ""
        lines.append(f"kept: epoch {vae.best_iter_} of {vae.n_iter_}{then}")
    else:
        why = f", as {vae.n_iter_} epochs did no better on the validation rows" if vae.n_iter_ else ""
        lines.append(f"kept: the start, epoch 0, before the networks are trained{why}")
    lines.append(f"active components: {vae.n_active_components_}")
    return "\n".join(lines + [f"warned: {remark}" for remark in report.remarks])
