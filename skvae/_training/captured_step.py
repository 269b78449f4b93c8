"""A training step that is captured in a CUDA graph, which the host launches as one."""

import gc
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from .._data.devices import captures_on, device_module
from .adamw import AdamW
from .step import Step
from .torch_private import clear_cublas_workspaces

CAPTURING = threading.Lock()  # estimators that are fitted in two threads take turns
PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def fingerprint(value, seen=None):
    """What a captured graph depends on in a value: the addresses of tensors, numbers, and the identities of objects.

    Modules and containers are taken apart.
    """
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        return value.data_ptr(), value.shape, value.requires_grad
    if isinstance(value, PLAIN_TYPES):
        return value
    if isinstance(value, tuple):
        return tuple(fingerprint(item, seen) for item in value)
    if id(value) in seen or not isinstance(value, torch.nn.Module | dict | list):
        return id(value)
    seen.add(id(value))
    if isinstance(value, list):
        return tuple(fingerprint(item, seen) for item in value)
    items = vars(value) if isinstance(value, torch.nn.Module) else value
    return tuple((fingerprint(key, seen), fingerprint(item, seen)) for key, item in items.items())


@contextmanager
def capturing():
    """Context for a capture, which nothing else may disturb."""
    with CAPTURING:
        collects = gc.isenabled()
        gc.disable()  # if a net that is garbage were freed with its graph, this capture would fail
        # Before, so that the graph takes a cuBLAS workspace from its own pool; after, so that no other graph's end
        # frees it (pytorch issue 193402).
        clear_cublas_workspaces()
        try:
            yield
        finally:
            clear_cublas_workspaces()
            if collects:
                gc.enable()


class CapturedGraph:
    """A step on batches of one shape as a CUDA graph, with the memory that it reads and writes.

    Parameters
    ----------
    step : callable
        (*batch) -> tuple of Tensor. It is captured, which runs nothing.
    batch : tuple of Tensor
        Of the shape of those to come.
    key : tuple
        The `fingerprint` of all that the graph depends on.
    stream : Stream
        On which the steps before the capture ran.
    """

    def __init__(self, step, batch, key, stream):
        self.key, self.shapes = key, shapes_of(batch)
        self.inputs = tuple(map(torch.empty_like, batch))
        cuda = device_module(stream.device)
        self.graph = cuda.CUDAGraph()
        with capturing(), cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.outputs = step(*self.inputs)

    def replay(self, batch):
        """Take the step on a batch."""
        for tensor, values in zip(self.inputs, batch, strict=True):
            tensor.copy_(values)
        self.graph.replay()
        return tuple(tensor.clone() for tensor in self.outputs)  # the next replay overwrites them


class CUDAGraphStep(Step):
    """A `Step` that is captured in a CUDA graph.

    The first steps on batches of one shape run eagerly on a stream of their own, as capturing asks for; the next is
    captured. It is captured anew where something that it depends on changed between epochs. Smaller batches, such as
    the last of an epoch, and rows with missing values, whose factorisations read from the device, run eagerly. So do
    all batches where a plug-in cannot be captured, because its ``forward`` reads from the device or copies to it; with
    another optimizer than `AdamW` it may.

    References
    ----------
    PyTorch's notes on CUDA semantics, "Whole-network capture".
    """

    WARM_UP = 3

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stream = device_module(self.module.shift.device).Stream(self.module.shift.device)
        self.can_be_captured = True
        self.release()

    def release(self):
        with CAPTURING:  # the end of a graph would disturb another one's capture
            self.captured: CapturedGraph | None = None
        self.warm_up: tuple[Any, ...] = ()  # shapes, thread and key of the steps that went before
        self.n_warm = 0

    def begin_epoch(self):
        super().begin_epoch()
        if self.captured is not None and self.captured.key != self._key():
            self.release()

    def __call__(self, *batch):
        eagerly = partial(super().__call__, *batch)
        has_errors = batch[0].ndim == 3  # whose factorisations read from the device
        if has_errors or not self.can_be_captured or self._has_rate_on_host():
            return eagerly()
        if self.captured is not None and shapes_of(batch) == self.captured.shapes:
            return self.captured.replay(batch)
        if self._is_smaller(batch):
            return eagerly()
        warm_up = shapes_of(batch), threading.get_ident(), self._key()  # cuBLAS has a handle for each thread
        if warm_up != self.warm_up:
            self.release()
            self.warm_up = warm_up
        if self.n_warm < self.WARM_UP:
            self.n_warm += 1
            return self._on_stream(eagerly)
        self._capture(batch)
        return eagerly() if self.captured is None else self.captured.replay(batch)

    def _has_rate_on_host(self):
        """Whether somebody set a learning rate that a graph could not follow."""
        return not all(isinstance(group["lr"], torch.Tensor) for group in self.optimizer.param_groups)

    def _is_smaller(self, batch):
        """Whether a batch has fewer rows than those that are captured, or will be."""
        if not self.warm_up:
            return False
        shapes = self.warm_up[0]
        return len(batch) == len(shapes) and len(batch[0]) < shapes[0][0]

    def _key(self):
        """The `fingerprint` of all that a graph of this step depends on."""
        optimizer, objective = self.optimizer, getattr(self.objective, "__dict__", None)
        moments = list(optimizer.state.values())
        return fingerprint((self.module, self.objective, objective, optimizer.param_groups, moments, self.kl_scale))

    def _on_stream(self, run):
        cuda = device_module(self.stream.device)
        here = cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with cuda.stream(self.stream):
            terms = run()
        here.wait_stream(self.stream)
        return terms

    def _capture(self, batch):
        self.optimizer.zero_grad()  # a gradient that was there would be added to, and its memory be given back
        before = sys.exc_info()[1]
        try:
            self.captured = CapturedGraph(super().__call__, batch, self.warm_up[-1], self.stream)
        except Exception as error:
            self.can_be_captured = False
            self.optimizer.zero_grad()
            warnings.warn(
                "This training step cannot be captured in a CUDA graph, so that each of its operations is launched by "
                f"itself, which takes longer. The cause: {first_cause(error, before)}",
                RuntimeWarning,
                stacklevel=4,
            )


def shapes_of(batch):
    return tuple(tensor.shape for tensor in batch)


def first_cause(error, before):
    """The error that others followed, as the end of a capture that failed raises one of its own.

    `before` is an error that somebody was handling when the capture began.
    """
    while error.__context__ not in (None, before):
        error = error.__context__
    return error


def make_step(module, objective, optimizer, *options):
    """The fastest step for where the module lies. Only `AdamW` is written to be captured."""
    is_captured = captures_on(module.shift.device) and isinstance(optimizer, AdamW)
    return (CUDAGraphStep if is_captured else Step)(module, objective, optimizer, *options)
