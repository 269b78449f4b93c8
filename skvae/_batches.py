"""Rows to the network: one tensor on the device, shuffled and sliced there."""

import torch


def rows_per_block(n_values, budget=4_000_000):
    """How many rows of `n_values` numbers each keep a block of inference near 16 to 32 MB."""
    return max(1, budget // max(1, n_values))


def blocks(n_rows, size):
    """Slices that cover range(n_rows) in order."""
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


class Batches:
    """Mini-batches of rows in a new random order each epoch, with the noise of their draws.

    Parameters
    ----------
    u : Tensor of shape (n, p), on the device
    batch_size : int
    n_draws, n_components : int
        Noise comes with each batch as a tensor (n_draws, rows, n_components), of one draw (rows, n_components).
    generator : torch.Generator on the same device

    Yields
    ------
    (u, eps) : tuple of Tensor
    """

    def __init__(self, u, batch_size, n_draws, n_components, generator):
        self.u = u
        self.batch_size = batch_size
        self.noise_shape = (n_draws, len(u), n_components)[n_draws == 1 :]
        self.generator = generator

    def __len__(self):
        return -(-len(self.u) // self.batch_size)

    def __iter__(self):
        device = self.u.device
        order = torch.randperm(len(self.u), generator=self.generator, device=device)
        noise = torch.randn(self.noise_shape, generator=self.generator, device=device, dtype=self.u.dtype)
        for block in blocks(len(self.u), self.batch_size):
            yield self.u.index_select(0, order[block]), noise[..., block, :]


def resident(X, rows, shift, scale, device):
    """Rows of the array X as one standardised float32 tensor on the device, with no other copy of X.

    Parameters
    ----------
    X : ndarray of shape (n, p), floating
    rows : ndarray of int or None
        None takes all.
    shift, scale : ndarray of shape (p,), float64
    device : str

    Returns
    -------
    Tensor of shape (len(rows), p)
    """
    rows = range(len(X)) if rows is None else rows
    shift, scale = shift.astype(X.dtype), scale.astype(X.dtype)
    u = torch.empty(len(rows), X.shape[1], device=device)
    for block in blocks(len(rows), rows_per_block(X.shape[1])):
        chunk = X[rows[block].start : rows[block].stop] if isinstance(rows, range) else X[rows[block]]
        u[block] = torch.from_numpy((chunk - shift) / scale)
    return u
