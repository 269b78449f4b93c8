"""Which rows are held out for validation, so that they are a test."""

import numpy as np
import torch

N_BLOCKS = 4  # of consecutive rows, held out for validation
MOST_ROWS = 10_000  # of which near-copies are looked for
FEWEST_ROWS = 20
MOST_COPIES = 10  # scans of one sample
N_DIRECTIONS = 64  # at random, that distances are measured along
ISOLATION = 3.0  # how many times farther the next row is than the farthest copy
LEAST_SHARE = 0.6  # of the rows that have copies, if these are no accident


def blocked_validation_split(n_rows, fraction, seed, groups=None):
    """An order of the rows in which those held out for validation come last, and the number of training rows.

    Whole blocks of consecutive rows are held out, about `N_BLOCKS` of them, not single rows. Where rows are neighbours
    in time or space, a single one has its like among the training rows and would be no test. Nor is a row whose copies
    are among them: groups are never cut.

    Parameters
    ----------
    n_rows : int
    fraction : float
        Share of the rows, or of the groups, to hold out.
    seed : int
    groups : ndarray of shape (n_rows,) or None, default=None
        The group of each row, numbered from 0 in the order of their first rows.
    """
    if groups is not None:
        order, n_training = blocked_validation_split(groups.max() + 1, fraction, seed)
        by_group = np.argsort(np.argsort(order)[groups], kind="stable")
        return by_group, int(np.isin(groups, order[:n_training]).sum())
    n_held_out = min(int(np.ceil(fraction * n_rows)), n_rows - 1)
    n_blocks = min(n_rows, max(2, round(N_BLOCKS * n_rows / n_held_out)))
    blocks = np.array_split(np.arange(n_rows), n_blocks)
    shuffled = np.random.RandomState(seed).permutation(n_blocks)
    order = np.concatenate([blocks[i] for i in shuffled])
    return order, n_rows - n_held_out


def near_copies(u):
    """The groups of rows that are near-copies of each other, such as scans of one sample, or None.

    A group is a set of at most `MOST_COPIES` rows whose nearest neighbours are each other, where the next row is
    `ISOLATION` times as far from each of them as the farthest of the set. Rows of which none is a copy have such
    neighbours by accident: 29 % of those along a line, 9 % of those in a plane, fewer in more dimensions (the chance
    that no further point of a Poisson process lies in the union of two balls). So there are copies where at least
    `LEAST_SHARE` of the rows are in groups.

    Parameters
    ----------
    u : Tensor of shape (n, p)
        Standardised rows.

    Returns
    -------
    groups : ndarray of shape (n,) or None
        Numbered from 0, in the order of their first rows; None where there are no copies, or too few or too many rows
        to tell.
    """
    n, p = u.shape
    if not FEWEST_ROWS <= n <= MOST_ROWS:
        return None
    x = u.cpu().double()
    if p > N_DIRECTIONS:  # keeps distances to some ten percent (Johnson and Lindenstrauss, 1984)
        x = x @ torch.randn(p, N_DIRECTIONS, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    distance, neighbour = _nearest(x - x.mean(0), min(MOST_COPIES, n - 1))
    rounding = 1e-6 * distance.mean() + np.finfo(float).tiny
    step = distance[:, 1:] / (distance[:, :-1] + rounding)  # from each neighbour to the next
    n_copies = np.where(step.max(1) > ISOLATION, step.argmax(1) + 1, 0)
    sets = [frozenset((i, *neighbour[i, :k].tolist())) if k else frozenset() for i, k in enumerate(n_copies)]
    is_copy = [bool(found) and all(sets[j] == found for j in found) for found in sets]
    if np.mean(is_copy) < LEAST_SHARE:
        return None
    first = [min(sets[i]) if is_copy[i] else i for i in range(n)]
    return np.unique(first, return_inverse=True)[1]


def _nearest(x, k):
    """Distances and places (n, k) of the k rows nearest to each, ndarrays."""
    square = x.square().sum(1)
    distances, places = [], []
    for rows in torch.arange(len(x)).split(1024):
        squares = (square[rows, None] + square - 2 * x[rows] @ x.T).clamp(min=0)
        squares[torch.arange(len(rows)), rows] = torch.inf
        least, place = squares.topk(k, largest=False)
        distances.append(least.sqrt())
        places.append(place)
    return torch.cat(distances).numpy(), torch.cat(places).numpy()
