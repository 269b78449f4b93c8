"""Rows on their way to the network: one tensor on the device, or blocks read from a file, shuffled and sliced there."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .._data.rows import blocks, rows_per_block
from .._data.scaling import standardised

PIECE = 250_000  # numbers that are read from a file at one place: 1 MB as float32
CHUNK = 32  # pieces, from all over the file, that are shuffled together


class BatchLoader:
    """Mini-batches of rows in a new random order each epoch, with the noise of their draws.

    Parameters
    ----------
    u : Tensor of shape (n, p) or (n, 2, p), on the device, or StreamedRows
        Streamed rows are shuffled in chunks of `CHUNK` pieces of neighbouring rows, drawn from all over.
    batch_size : int
    n_draws, n_components : int
        Noise comes with each batch as a tensor (n_draws, rows, n_components) or, for one draw, (rows, n_components).
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
            draws = (self.n_draws,) if self.n_draws > 1 else ()
            noise = torch.randn(*draws, len(u), self.n_components, dtype=u.dtype, **options)
            for block in blocks(len(u), self.batch_size):
                batch = u.index_select(0, order[block]), noise[..., block, :]
                yield batch if self.weight is None else (*batch, self.weight[rows][order[block]])


class StreamedRows:
    """Rows, most likely of a file, standardised and sent to the device as they are asked for.

    Parameters
    ----------
    rows : Rows of shape (n, p) or UnevenRows of shape (n, 2, p)
    shift, scale : Tensor of shape (p,), float64
    device : str
    """

    def __init__(self, rows, shift, scale, device):
        self.rows, self.device = rows, torch.device(device)
        self.shift, self.scale = (of_columns.to(rows[:0]) for of_columns in (shift, scale))
        self.shape = torch.Size(rows.shape)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, block):
        """The rows of a slice as a float32 tensor on the device."""
        return standardised(self.rows[block], self.shift, self.scale).to(self.device, torch.float32)

    def split(self, sizes):
        """Parts of these numbers of rows, as Tensor.split gives them."""
        stops = np.cumsum(sizes)
        return [
            StreamedRows(self.rows.select(places), self.shift, self.scale, self.device)
            for places in np.split(np.arange(len(self)), stops[:-1])
        ]

    def resident(self):
        """All rows as one tensor on the device, made block by block: there is no other copy."""
        u = torch.empty(self.shape, dtype=torch.float32, device=self.device)
        for block in blocks(len(u), rows_per_block(self.shape[1:].numel())):
            u[block] = self[block]
        return u

    def chunks(self, multiple, generator):
        """Yield all rows once, as (u, their places), in chunks of `CHUNK` random pieces.

        The next chunk is read while one is in use. A piece has a multiple of `multiple` rows, except for the array's
        last. A chunk is valid until the next is asked for: two buffers take turns, as the heap would not shrink when
        many were freed.
        """
        size = max(1, PIECE // self.shape[1:].numel() // multiple) * multiple
        pieces = blocks(len(self), size)
        order = torch.randperm(len(pieces), generator=generator, device=generator.device).tolist()

        shape = min(CHUNK * size, len(self)), *self.shape[1:]
        buffers = [torch.empty(shape, dtype=torch.float32, device=self.device) for _ in range(2)]

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
