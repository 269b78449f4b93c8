"""The number of components of a fit that is to choose it."""

from dataclasses import replace
from numbers import Integral

import numpy as np
import torch

from .._data.rows import evenly_spread
from .._data.scaling import column_scaling
from .._linear.n_components import held_out_nats, n_components_for_share
from .._model.build import lookup
from ..likelihoods import LIKELIHOODS, NOISE_FLOOR
from .batches import StreamedRows
from .channel_noise import CONSTANT_STD
from .validation import near_copies

N_FOLDS = 5
N_BLOCKS = 20  # of consecutive rows, dealt to the folds in turn: neighbours are often alike
MOST_ROWS = 20_000  # training rows, evenly spread, that the choice rests on
FEWEST_ROWS = 5
SHARE_LEFT_OUT = 0.05  # of held-out rows: those that no number of components describes well


def with_n_components(params, data, previous=None):
    """The parameters with the number of components that `n_components` stands for, and what it was chosen by.

    Parameters
    ----------
    params : FitParameters
    data : FitData
    previous : VAENet or None, default=None
        The net whose weights the fit goes on from. Its number of components stays.

    Returns
    -------
    params : FitParameters
    scores : ndarray of shape (k,) or None
        With "auto", the `trimmed_mean` nats of held-out rows under linear models of 1 to k components.

    Raises
    ------
    ValueError
        If there are too few rows without NaN to choose by, or none to validate on.
    """
    option, scores = params.n_components, None
    if isinstance(option, Integral):
        return params, None
    if previous is not None:
        n_components = previous.module_.n_components
    elif option is None:
        n_components = max(1, min(data.rows.shape) - 1)
    elif option == "auto":
        scores = held_out_scores(params, complete_rows(data, option))
        n_components = 1 + int(scores.argmax())
    else:
        u, weight, scale = standardised(complete_rows(data, option))
        n_components = n_components_for_share(u, scale, option, weight)
    return replace(params, n_components=n_components), scores


def complete_rows(data, option):
    """At most `MOST_ROWS` of the rows that have no missing values."""
    is_complete = np.ones(len(data), dtype=bool)
    if data.is_uneven:
        is_complete = np.concatenate([(~block.isnan().any(1)).cpu().numpy() for _, block in data.rows.blocks()])
    if is_complete.sum() < FEWEST_ROWS:
        raise ValueError(
            f"n_components={option!r} is chosen by the rows of X without NaN, and takes {FEWEST_ROWS} of them, but "
            f"there are {is_complete.sum()}. Pass the number of components."
        )
    places = np.flatnonzero(is_complete)
    is_kept = np.zeros(len(data), dtype=bool)
    is_kept[places[evenly_spread(len(places), MOST_ROWS)]] = True
    return data if is_kept.all() else data.select(is_kept)


def standardised(data):
    """The rows (n, p) in units of the columns' scales, their weights (n,) or None, and the scales (p,)."""
    mean, scale = (torch.from_numpy(values) for values in column_scaling(data.rows, data.weight))
    u = StreamedRows(data.rows, mean, scale, "cpu").resident()
    return u, None if data.weight is None else torch.from_numpy(data.weight), scale


def held_out_scores(params, data):
    """`trimmed_mean` nats (k,) of held-out rows under linear models of 1 to k components.

    The rows are those that `fit` was given to validate on or, where it is to hold rows out itself, each row once, in
    five folds of blocks of rows. Groups are never cut. Constant columns are left out: if the components left only these
    to the noise, the density of a row would have no bound.
    """
    u, weight, scale = standardised(data)
    varies = u.double().var(0) > CONSTANT_STD**2
    varies |= ~varies.any()
    is_unit = lookup(LIKELIHOODS, params.likelihood).linear_noise == "unit"

    def nats(train, test):
        of_train = None if weight is None else weight[train]
        options = is_unit, scale[varies], NOISE_FLOOR, of_train
        return held_out_nats(u[train][:, varies], test[:, varies], *options).numpy()

    places = np.arange(len(u))
    if data.validation is not None:
        mean = column_scaling(data.rows, data.weight)[0]
        rows = StreamedRows(data.validation, torch.from_numpy(mean), scale, "cpu").resident()
        rows = rows[~rows.isnan().any(1)]
        if not len(rows):
            raise ValueError("n_components='auto' is chosen by the rows of X_val without NaN, but it has none.")
        return trimmed_mean(nats(places, rows))
    if data.held_out is not None:
        folds = np.isin(places, data.held_out)[None]
    else:
        groups = near_copies(u) if data.groups is None else data.groups
        fold = folds_of(places if groups is None else groups)
        folds = fold == np.arange(fold.max() + 1)[:, None]
    parts = [nats(places[~is_out], u[is_out]) for is_out in folds]
    k = min(part.shape[1] for part in parts)
    scores = np.concatenate([part[:, :k] for part in parts])
    return trimmed_mean(scores, None if weight is None else np.concatenate([data.weight[out] for out in folds]))


def trimmed_mean(nats, weight=None):
    """Mean nats (k,) of rows (n, k) with weights (n,), without the twentieth that no number of components describes.

    Without the trimming, one row that is far from all others would decide. The rows that are left out are those whose
    highest nats are the lowest. Rows that only many components describe stay. They would be lost if the rows were
    chosen for each number of components, or for each step to the next.
    """
    weight = np.ones(len(nats)) if weight is None else weight
    order = nats.max(axis=1).argsort(kind="stable")
    before = weight[order].cumsum() - weight[order]
    kept = order[(before >= SHARE_LEFT_OUT * weight.sum()) | (order == order[-1])]
    return np.average(nats[kept], axis=0, weights=weight[kept])


def folds_of(groups):
    """The fold of each row, by its group; groups are numbered from 0 in the order of their first rows."""
    n_groups = groups.max() + 1
    n_blocks = min(N_BLOCKS, n_groups)
    return groups * n_blocks // n_groups % min(N_FOLDS, n_blocks)
