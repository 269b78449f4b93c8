"""Which rows are held out for validation, so that they are a test."""

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .._data.groups import numbered

N_BLOCKS = 4  # of consecutive rows, held out for validation
LEAST_BLOCK = 4  # rows of a block: of few rows, fewer blocks are held out
FEWEST_ROWS = 20  # among which copies are looked for
MOST_COPIES = 10  # scans of one sample
N_NEIGHBOURS = 15  # of each row that are looked at
N_DIRECTIONS = 64  # at random, that distances are measured along
N_SAMPLED = 1000  # rows that tell whether there are copies
LEVEL = 0.01  # of the test of one row
LEAST_SHARE = 0.1  # of the rows that have copies, if these are no accident
REACH = 0.99  # quantile of the distances between copies, within which two rows are copies, too


def held_out_blocks(n_rows, fraction, seed, groups=None):
    """Places of the rows that are held out for validation.

    Whole blocks of consecutive rows are held out, at most about `N_BLOCKS` of them, not single rows. Where rows are
    neighbours in time or space, a single one has its like among the training rows and would be no test. Nor is a row
    whose copies are among them: groups are never cut.

    Parameters
    ----------
    n_rows : int
    fraction : float
        Share of the rows, or of the groups, to hold out.
    seed : int
    groups : ndarray of shape (n_rows,) or None, default=None
        The group of each row, numbered from 0 in the order of their first rows.

    Returns
    -------
    held_out : ndarray of int
        Block by block.
    """
    if groups is not None:
        of_groups = held_out_blocks(groups.max() + 1, fraction, seed)
        return np.concatenate([np.flatnonzero(groups == group) for group in of_groups])
    n_held_out = min(int(np.ceil(fraction * n_rows)), n_rows - 1)
    n_apart = min(N_BLOCKS, max(1, n_held_out // LEAST_BLOCK))
    n_blocks = min(n_rows, max(2, round(n_apart * n_rows / n_held_out)))
    blocks = np.array_split(np.arange(n_rows), n_blocks)
    shuffled = np.random.RandomState(seed).permutation(n_blocks)
    return np.concatenate([blocks[i] for i in shuffled])[n_rows - n_held_out :]


def rows_held_out(splitter, n_rows, y, groups):
    """Places of the rows that a scikit-learn splitter holds out: the test rows of its first split.

    Raises
    ------
    ValueError
        If it holds out none of the rows, or all, or needs a y or groups that were not given.
    """
    held_out = next(iter(splitter.split(np.zeros((n_rows, 1)), y, groups)), (None, ()))[1]
    is_held_out = np.zeros(n_rows, dtype=bool)
    is_held_out[np.asarray(held_out, dtype=int)] = True
    if not 0 < is_held_out.sum() < n_rows:
        raise ValueError(f"validation_fraction={splitter!r} holds out {is_held_out.sum()} of the {n_rows} rows of X.")
    return np.flatnonzero(is_held_out)


def near_copies(u):
    """The groups of rows that are near-copies of each other, such as scans of one sample, or None.

    Among rows from a smooth density of dimension m, the distances d_1 < d_2 < ... from a row to its neighbours are such
    that j log(d_(j+1) / d_j) are independent and exponential with mean 1 / m (the volumes d^m are arrivals of a Poisson
    process; Facco et al., Estimating the intrinsic dimension of datasets by a minimal neighborhood information, 2017).
    A row has copies where the greatest of these gaps is longer than chance has it, and the rows on its near side are
    the same as each of theirs. m is that of all gaps but the greatest of each row.

    Parameters
    ----------
    u : Tensor of shape (n, p)
        Standardised rows; NaN where a value is missing.

    Returns
    -------
    groups : ndarray of shape (n,) or None
        Numbered from 0, in the order of their first rows; None where fewer than `LEAST_SHARE` of the rows have copies,
        or there are too few rows to tell.
    """
    n = len(u)
    if n < FEWEST_ROWS:
        return None
    generator = torch.Generator(u.device).manual_seed(0)
    few = torch.randperm(n, generator=generator, device=u.device)[:N_SAMPLED]
    x = measured_points(u, few, generator)
    if n > N_SAMPLED and np.mean(n_copies(nearest(x, few)[0]) > 0) < LEAST_SHARE:
        return None
    distance, neighbour = nearest(x, torch.arange(n, device=u.device))
    sets = [{i, *neighbour[i, :k]} if k else set() for i, k in enumerate(n_copies(distance))]
    has_copies = np.array([bool(found) and all(sets[j] == found for j in found) for found in sets])
    if has_copies.mean() < LEAST_SHARE:
        return None
    return joined(sets, has_copies, distance, neighbour)


def measured_points(u, few, generator):
    """The rows as points of at most `N_DIRECTIONS` dimensions, float64.

    Each value is moved by up to half of its column's resolution, the least difference between two of the values in a
    `few` of the rows, as rows of whole numbers, for example, are not copies because they are equal. Random directions
    keep distances to some ten percent (Johnson and Lindenstrauss, 1984).
    """
    options = {"generator": generator, "dtype": u.dtype, "device": u.device}
    x = u.nan_to_num()
    steps = x[few].sort(dim=0).values.diff(dim=0)
    resolution = torch.where(steps > 0, steps, torch.inf).amin(0)
    resolution = torch.where(resolution.isfinite(), resolution, 0)
    x = x - x.mean(0) + resolution * (torch.rand(x.shape, **options) - 0.5)
    return (x if x.shape[1] <= N_DIRECTIONS else x @ torch.randn(x.shape[1], N_DIRECTIONS, **options)).double()


def nearest(x, rows):
    """Distances and places of the points nearest to these rows of x, ndarrays of shape (rows, neighbours)."""
    square = x.square().sum(1)
    distances, places = [], []
    for part in rows.split(1024):
        squares = (square[part, None] + square - 2 * x[part] @ x.T).clamp(min=0)
        squares[torch.arange(len(part), device=x.device), part] = torch.inf
        least, place = squares.topk(min(N_NEIGHBOURS, len(x) - 1), largest=False)
        distances.append(least.sqrt().cpu())
        places.append(place.cpu())
    rounding = 1e-7 * float(square.mean().sqrt()) + np.finfo(float).tiny  # of squares that cancel
    return (torch.cat(distances) + rounding).numpy(), torch.cat(places).numpy()


def n_copies(distance):
    """How many of the nearest rows are copies, by the distances (n, k) of each row's neighbours; 0 where none is."""
    j = np.arange(1, distance.shape[1])
    gaps = j * np.log(distance[:, 1:] / distance[:, :-1])
    longest = gaps.max(1)
    # the mean of all but the longest of k exponential variables is their mean times (k - 1 - 1/2 - ... - 1/k) / (k - 1)
    mean = (gaps.sum(1) - longest).mean() / (len(j) - (1 / j).sum())
    is_chance = longest <= mean * np.log(len(j) / LEVEL)  # by Bonferroni's inequality
    copies = gaps.argmax(1) + 1
    return np.where(is_chance | (copies >= MOST_COPIES), 0, copies)


def joined(sets, has_copies, distance, neighbour):
    """The groups of `near_copies`: sets of copies, and rows as near to each other as nearly all copies are.

    Rows that would be linked to more than `MOST_COPIES` in this way stay in the sets that were found.
    """
    n = len(sets)
    reach = np.quantile(np.concatenate([distance[i, : len(sets[i]) - 1] for i in np.flatnonzero(has_copies)]), REACH)
    first, place = np.nonzero(distance[:, :MOST_COPIES] <= reach)
    links = coo_array((np.ones(len(first)), (first, neighbour[first, place])), shape=(n, n))
    linked = connected_components(links, directed=False)[1]
    is_small = np.bincount(linked)[linked] <= MOST_COPIES
    found = [min(sets[i]) if has_copies[i] else i for i in range(n)]
    first_of_linked = np.unique(linked, return_index=True)[1]
    return numbered(np.where(is_small, first_of_linked[linked], found))
