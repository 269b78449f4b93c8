"""Which rows are held out for validation."""

import numpy as np

N_BLOCKS = 4  # of consecutive rows, held out for validation


def blocked_validation_split(n_rows, fraction, seed):
    """An order of the rows in which those held out for validation come last, and the number of training rows.

    Whole blocks of consecutive rows are held out, about `N_BLOCKS` of them, not single rows. Where rows are neighbours
    in time or space, a single one has its like among the training rows and would be no test.
    """
    n_held_out = int(np.ceil(fraction * n_rows))
    n_blocks = min(n_rows, max(2, round(N_BLOCKS * n_rows / n_held_out)))
    blocks = np.array_split(np.arange(n_rows), n_blocks)
    shuffled = np.random.RandomState(seed).permutation(n_blocks)
    order = np.concatenate([blocks[i] for i in shuffled])
    return order, n_rows - n_held_out
