"""Rows on their way to the network: one tensor on the device, or blocks read from a file, shuffled and sliced there."""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
import torch

from .._data.devices import captures_on, device_module
from .._data.rows import blocks, rows_per_block
from .._data.scaling import standardised

PIECE = 250_000  # numbers that are read from one place of a file: 1 MB as float32
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
    """Rows, usually of a file, that are standardised and sent to the device when they are asked for.

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
        return self._standardised(block).to(self.device, torch.float32)

    def _standardised(self, block):
        return standardised(self.rows[block], self.shift, self.scale)

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

        The next chunk is read, and sent to the device, while one is in use. The number of rows of a piece is a multiple
        of `multiple`, except for the last piece of the array. A chunk is valid until the next is asked for: two buffers
        take turns, as the heap would not shrink when many were freed.
        """
        size = max(1, PIECE // self.shape[1:].numel() // multiple) * multiple
        pieces = blocks(len(self), size)
        order = torch.randperm(len(pieces), generator=generator, device=generator.device).tolist()
        shape = min(CHUNK * size, len(self)), *self.shape[1:]
        is_pinned = self.rows.device != self.device and captures_on(self.device)
        buffers = [Buffer(shape, self.device, is_pinned) for _ in range(2)]
        turns = zip(cycle(buffers), blocks(len(order), CHUNK), strict=False)

        def read(buffer, block):
            drawn = [pieces[i] for i in order[block]]
            places = torch.cat([torch.arange(piece.start, piece.stop) for piece in drawn])
            return buffer.fill(map(self._standardised, drawn), [piece.stop - piece.start for piece in drawn]), places

        def ahead_of_use():
            for buffer, block in turns:
                buffer.wait_for_steps()
                return buffer, reader.submit(read, buffer, block)

        try:
            with ThreadPoolExecutor(1) as reader:
                ahead = ahead_of_use()
                while ahead is not None:
                    buffer, chunk = ahead[0], ahead[1].result()
                    ahead = ahead_of_use()
                    buffer.make_steps_wait()
                    yield chunk
        finally:
            for buffer in buffers:
                buffer.make_steps_wait()  # before its memory goes to others


class Buffer:
    """Memory of a device for a chunk of rows.

    Parameters
    ----------
    shape : tuple
    device : torch.device
    is_pinned : bool
        Whether rows go through pinned memory of the host, and are copied on a stream of their own while steps are taken
        on the chunk before.
    """

    def __init__(self, shape, device, is_pinned):
        self.u = self.host = torch.empty(shape, dtype=torch.float32, device=device)
        self.stream, self.sent = None, None
        if is_pinned:
            self.host = torch.empty(shape, dtype=torch.float32, pin_memory=True)
            self.stream, self.cuda = device_module(device).Stream(device), device_module(device)

    def wait_for_steps(self):
        """Make the next copy wait for the steps launched so far, as some of them read the rows that are here."""
        if self.stream is not None:
            self.stream.wait_stream(self.cuda.current_stream(self.u.device))

    def fill(self, parts, sizes):
        """Start to copy parts of these sizes; return the rows, which steps may read after `make_steps_wait`.

        This method alone is called in the reader's thread.
        """
        n = sum(sizes)
        if self.sent is not None:
            self.sent.synchronize()
        for place, rows in zip(self.host[:n].split(sizes), parts, strict=True):
            place.copy_(rows)
        if self.stream is not None:
            with self.cuda.stream(self.stream):
                self.u[:n].copy_(self.host[:n], non_blocking=True)
                self.sent = self.stream.record_event()
        return self.u[:n]

    def make_steps_wait(self):
        """Make the steps launched from now on wait for the copy."""
        if self.stream is not None:
            self.cuda.current_stream(self.u.device).wait_stream(self.stream)
