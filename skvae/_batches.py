"""Rows to the network: one tensor on the device, or blocks read from a file; shuffled and sliced there."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

PIECE = 250_000  # numbers that are read from a file at one place: 1 MB as float32
CHUNK = 32  # pieces from all over the file that are shuffled together


def rows_per_block(n_values, budget=1_000_000):
    """How many rows of `n_values` numbers each make a block of `budget` numbers: 4 or 8 MB, near a cache's size."""
    return max(1, budget // max(1, n_values))


def blocks(n_rows, size):
    """Slices that cover range(n_rows) in order."""
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def spread(n_rows, at_most):
    """Places of at most `at_most` of the rows, one at random in each of equal stretches: even steps would meet only
    every second line of an image, or one replicate of two."""
    starts = np.arange(0, n_rows, step := -(-n_rows // at_most))
    return np.minimum(starts + np.random.RandomState(0).randint(step, size=len(starts)), n_rows - 1)


class Selected:
    """Rows of an array at these places, read from it as they are asked for."""

    def __init__(self, X, places):
        self.base, self.places, self.dtype = X, places, X.dtype
        self.shape = len(places), X.shape[1]
        self.size = self.shape[0] * self.shape[1]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, rows):
        return self.base[self.places[rows]]


class Batches:
    """Mini-batches of rows in a new random order each epoch, with the noise of their draws.

    Parameters
    ----------
    u : Tensor of shape (n, p), on the device, or Streamed
        Streamed rows are shuffled in chunks of `CHUNK` pieces of neighbouring rows, drawn from all over.
    batch_size : int
    n_draws, n_components : int
        Noise comes with each batch as a tensor (n_draws, rows, n_components), of one draw (rows, n_components).
    generator : torch.Generator on the same device
    weight : Tensor of shape (n,) or None, default=None
        Of the rows.

    Yields
    ------
    (u, eps) or (u, eps, weight) : tuple of Tensor
    """

    def __init__(self, u, batch_size, n_draws, n_components, generator, weight=None):
        self.u, self.weight = u, weight
        self.batch_size = batch_size
        self.n_draws, self.n_components = n_draws, n_components
        self.generator = generator

    def __len__(self):
        return -(-len(self.u) // self.batch_size)

    def __iter__(self):
        resident = isinstance(self.u, torch.Tensor)
        whole = [(self.u, slice(None))]
        for u, rows in whole if resident else self.u.chunks(self.batch_size, self.generator):
            options = {"generator": self.generator, "device": u.device}
            order = torch.randperm(len(u), **options)
            shape = (self.n_draws, len(u), self.n_components)[self.n_draws == 1 :]
            noise = torch.randn(shape, dtype=u.dtype, **options)
            for block in blocks(len(u), self.batch_size):
                batch = u.index_select(0, order[block]), noise[..., block, :]
                yield batch if self.weight is None else (*batch, self.weight[rows][order[block]])


class Streamed:
    """Rows of an array, most likely one mapped from a file, standardised and sent to the device as they are asked for.

    Parameters
    ----------
    X : ndarray of shape (n, p), floating
    rows : ndarray of int
        Mostly stretches of consecutive rows, or reading is slow.
    shift, scale : ndarray of shape (p,), float64
    device : str
    """

    def __init__(self, X, rows, shift, scale, device):
        self.X, self.rows = X, rows
        self.shift, self.scale, self.device = shift, scale, torch.device(device)
        self.shape = len(rows), X.shape[1]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, block):
        """The rows of a slice as a float32 tensor on the device."""
        rows = self.rows[block]
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            rows = slice(rows[0], rows[-1] + 1)  # reads through; an index gathers row by row
        dtype = self.X.dtype
        with np.errstate(over="ignore"):  # rows far from those of an earlier fit have no finite score
            chunk = ((self.X[rows] - self.shift.astype(dtype)) / self.scale.astype(dtype)).astype(
                np.float32, copy=False
            )
        return torch.from_numpy(chunk).to(self.device)

    def split(self, sizes):
        """Parts of these numbers of rows, as Tensor.split gives them."""
        stops = np.cumsum(sizes)
        return [Streamed(self.X, rows, self.shift, self.scale, self.device) for rows in np.split(self.rows, stops[:-1])]

    def resident(self):
        """All rows as one tensor on the device, made block by block: there is no other copy."""
        u = torch.empty(self.shape, device=self.device)
        for block in blocks(len(u), rows_per_block(self.shape[1])):
            u[block] = self[block]
        return u

    def chunks(self, multiple, generator):
        """All rows once, as (u, their places) of `CHUNK` random pieces each; the next is read while one is in use.

        Pieces are a multiple of `multiple` rows, but for the last of the array. A chunk is good until the next is asked
        for: two buffers take turns, as the heap does not shrink by what many are freed of.
        """
        size = max(1, PIECE // self.shape[1] // multiple) * multiple
        pieces = blocks(len(self), size)
        order = torch.randperm(len(pieces), generator=generator, device=generator.device).tolist()

        shape = min(CHUNK * size, len(self)), self.shape[1]
        buffers = [torch.empty(shape, device=self.device) for _ in range(2)]

        def read(turn, block):
            mine = [pieces[i] for i in order[block]]
            sizes = [piece.stop - piece.start for piece in mine]
            u = buffers[turn % 2][: sum(sizes)]
            for part, piece in zip(u.split(sizes), mine, strict=True):
                part.copy_(self[piece])
            return u, torch.cat([torch.arange(piece.start, piece.stop, device=self.device) for piece in mine])

        with ThreadPoolExecutor(1) as reader:
            first, *rest = blocks(len(order), CHUNK)
            ahead = reader.submit(read, 0, first)
            for turn, block in enumerate(rest, 1):
                ready = ahead.result()
                ahead = reader.submit(read, turn, block)
                yield ready
            yield ahead.result()
