"""The rows of a table in memory, in a file or on a GPU, which are read block by block as tensors."""

from math import inf
from mmap import mmap

import numpy as np
import torch
from sklearn import get_config

from .arrays import to_library_of, to_numpy, to_tensor
from .devices import memory_of

CPU_BLOCK = 1_000_000  # numbers: 4 or 8 MB, about the size of a cache
BLOCK_SHARE = 1 / 256  # of a device's memory; intermediate results take several times as much as a block
RESIDENT_SHARE = 1 / 2  # of a device's memory: rows that take more are sent to it as they are needed


def rows_per_block(n_values, device="cpu"):
    """How many rows of `n_values` numbers each make a block for a device.

    For a CPU it is `CPU_BLOCK` numbers. A GPU is launched and waited for with each block, so that its block is
    `BLOCK_SHARE` of its memory.
    """
    memory = memory_of(device)
    n_numbers = CPU_BLOCK if memory == inf else max(CPU_BLOCK, int(BLOCK_SHARE * memory) // 8)
    return max(1, n_numbers // max(1, n_values))


def blocks(n_rows, size):
    """Slices that cover range(n_rows) in order."""
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def evenly_spread(n_rows, at_most):
    """Indices of at most `at_most` of the rows: one at random from each of equally long blocks.

    Even steps might meet only every second line of an image, or only one of two replicates.
    """
    step = -(-n_rows // at_most)
    starts = np.arange(0, n_rows, step)
    return np.minimum(starts + np.random.RandomState(0).randint(step, size=len(starts)), n_rows - 1)


class Rows:
    """The rows of a checked array.

    Parameters
    ----------
    X : ndarray of shape (n, p), float32 or float64, or an array of another library
        An array that is mapped from a file is read when its rows are asked for. Tensors stay on their device.
    places : ndarray of int or None, default=None
        Indices of the rows, in order; None stands for all rows. Reading a file is slow unless most are consecutive.
    columns : ndarray of bool of shape (p,) or None, default=None
        Which columns there are; None stands for all.
    errors : Rows of shape (n, p) or None, default=None
        The standard deviations of the values' known errors, of these rows and columns. A value whose error is infinite
        was not measured, and is NaN. None: all are 0.
    """

    def __init__(self, X, places=None, columns=None, errors=None):
        self.X, self.places, self.columns, self.errors = X, places, columns, errors
        n_columns = X.shape[1] if columns is None else int(columns.sum())
        self.shape = X.shape[0] if places is None else len(places), n_columns
        dtype_name = str(X.dtype).rpartition(".")[2]  # torch's dtypes print as "torch.float32"
        self.dtype = np.dtype(dtype_name)
        self._held = X if isinstance(X, np.ndarray) else to_tensor(X)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """The rows of a slice or of indices, as a tensor on their device. It may share X's memory."""
        block = self._block(rows)
        if self.errors is None:
            return block
        return block.masked_fill(self.errors[rows].isinf().to(block.device), torch.nan)

    def _block(self, rows):
        if self.places is not None:
            rows = self.places[rows]
        if isinstance(rows, np.ndarray) and len(rows) and (np.diff(rows) == 1).all():
            rows = slice(rows[0], rows[-1] + 1)  # a slice is read in one go, indices row by row
        if isinstance(self._held, torch.Tensor):
            block = self._held[rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self._held.device)]
        else:
            block = to_tensor(self._held[rows])
        return block if self.columns is None else block[:, torch.from_numpy(self.columns).to(block.device)]

    def array(self, rows):
        """The rows of a slice or of indices, as an ndarray."""
        return to_numpy(self[rows])

    def select(self, places):
        """`Rows` of the rows that have these indices among the present ones."""
        errors = None if self.errors is None else self.errors.select(places)
        return Rows(self.X, places if self.places is None else self.places[places], self.columns, errors)

    def with_columns(self, columns):
        """`Rows` of these columns of X (p,) alone, the same object where they are all."""
        if columns is None or columns.all():
            return self
        errors = None if self.errors is None else self.errors.with_columns(columns)
        return Rows(self.X, self.places, columns, errors)

    def with_all_columns(self):
        """`Rows` with all columns of X, those that a model is without among them."""
        return Rows(self.X, self.places, None, None if self.errors is None else self.errors.with_all_columns())

    def blocks(self):
        """Slices that cover the rows in order, and the rows of each slice."""
        for rows in blocks(len(self), rows_per_block(self.shape[1])):
            yield rows, self[rows]

    def extremes(self):
        """The least and the greatest value of each column that are not missing, NaN if all are; ndarray (2, p)."""
        least, most = torch.full((2, self.shape[1]), torch.nan, dtype=torch.float64, device=self.device)
        for _, block in self.blocks():
            missing = block.isnan()
            least = torch.fmin(least, torch.where(missing, torch.inf, block).amin(0))
            most = torch.fmax(most, torch.where(missing, -torch.inf, block).amax(0))
        return to_numpy(torch.stack([least, most]).masked_fill(least > most, torch.nan))

    def to_library_of_X(self, result):
        """A tensor as an array of X's library, on X's device."""
        return to_library_of(self.X, result)

    @property
    def device(self):
        return self[:0].device

    def is_streamed_to(self, device):
        """Whether the rows are sent to a device as they are needed, because there is no room for their float32 copy.

        The room is `RESIDENT_SHARE` of the device's memory and, where X is mapped from a file, scikit-learn's
        `working_memory`.
        """
        array, is_mapped = self.X, False
        while array is not None and not is_mapped:
            is_mapped = isinstance(array, np.memmap | mmap)
            array = getattr(array, "base", None)
        room = min(RESIDENT_SHARE * memory_of(device), get_config()["working_memory"] * 2**20 if is_mapped else inf)
        return 4 * self.shape[0] * self.shape[1] > room


class UnevenRows:
    """`Rows` whose values are measured unevenly, as tensors (n, 2, p) of values and of their errors.

    Where no value was measured, the value is 0 and its error infinite. A tensor (n, p) has rows that are complete and
    without errors; the number of axes tells the two kinds apart (`values_and_errors`).
    """

    def __init__(self, rows):
        self.rows, self.shape = rows, (len(rows), 2, rows.shape[1])
        self.device, self.to_library_of_X = rows.device, rows.to_library_of_X

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        values = self.rows[rows]
        errors = torch.zeros_like(values) if self.rows.errors is None else self.rows.errors[rows].to(values)
        return torch.stack([values.nan_to_num(nan=0.0), torch.where(values.isnan(), torch.inf, errors)], dim=1)

    def select(self, places):
        return UnevenRows(self.rows.select(places))


def values_and_errors(x):
    """The values (n, p) of rows (n, p) or (n, 2, p), and their errors (n, p); None for rows (n, p)."""
    return (x, None) if x.ndim == 2 else x.unbind(1)


def with_nan(x):
    """Rows (n, p) or (n, 2, p) as their values (n, p), NaN where none was measured."""
    values, errors = values_and_errors(x)
    return values if errors is None else values.masked_fill(errors.isinf(), torch.nan)


def as_rows(X):
    """X as `Rows`, unless it already is."""
    return X if isinstance(X, Rows | UnevenRows) else Rows(X)


def is_uneven(rows):
    """Whether any value of the rows is missing or has an error of its own."""
    return rows.errors is not None or has_missing(rows)


def has_missing(rows):
    """Whether any value of the rows is missing: it makes their sum NaN, which needs no array of X's size."""
    return any(block.sum(dtype=torch.float64).isnan() for _, block in rows.blocks())


def any_measured(rows):
    """Whether any value of each column is measured; ndarray of shape (p,)."""
    return to_numpy(~torch.stack([block.isnan().all(0) for _, block in rows.blocks()]).all(0))


def in_all_columns(values, columns):
    """A tensor (..., k) of the k columns for which `columns` (p,) is true, with NaN for the others: (..., p).

    None stands for all columns.
    """
    if columns is None or columns.all():
        return values
    places = torch.from_numpy(np.where(columns, np.cumsum(columns) - 1, columns.sum()))
    unknown = torch.full_like(values[..., :1], torch.nan)
    return torch.cat([values, unknown], dim=-1).index_select(-1, places.to(values.device))


def all_missing(rows):
    """Whether all values of each row are missing; ndarray of shape (n,)."""
    return to_numpy(torch.cat([block.isnan().all(1) for _, block in rows.blocks()]))
