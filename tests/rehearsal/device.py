"""A GPU that is none: tensors of the device "gpu" hold memory of the CPU, and keep CUDA's rules.

- An operation on tensors of both devices is an error, except for copies, CPU tensors of no dimension and CPU indices.
- A CPU generator draws nothing on "gpu", and `.numpy()` of a "gpu" tensor is torch's own error.
- In `Watch()`, and in a capture, whatever waits for a GPU or copies between host and device is an error.
- A capture runs nothing: what it wrote to memory that was there before is put back, and its own memory is NaN until a
  replay. A replay runs the recorded operations, with the Python numbers that they were recorded with, on the same
  memory. What a replay reads from outside must still be held by somebody.

`rehearsal()` is the context in which the device is there. The device cannot show streams that race, CUDA's kernels,
sizes of memory, autocast, compilation in a capture, NCCL or several GPUs. A process has to import this file before its
first backward pass, as autograd counts the devices then.
"""

import contextlib
import threading
from collections import Counter
from functools import partial
from types import SimpleNamespace
from unittest import mock

import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

WAITS = {
    *("_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "equal", "item"),
    *("linalg_cholesky", "linalg_eigh", "_linalg_eigh", "_linalg_solve_ex", "cholesky_inverse"),
}
TAKES_NUMBERS_OF_THE_HOST = ("add", "sub", "mul", "div", "where", "pow", "maximum", "minimum", "fm", "lt", "gt", "le")
TAKES_NUMBERS_OF_THE_HOST += ("ge", "eq", "ne")
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class OnGPU(torch.Tensor):
    """A tensor of the device, which holds one of the CPU."""

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        self = torch.Tensor._make_wrapper_subclass(cls, held.shape, **layout, dtype=held.dtype, device="gpu:0")
        self.held = held
        return self

    def __repr__(self):
        return f"gpu:{self.held!r}"

    def data_ptr(self):
        return self.held.data_ptr()

    def tolist(self):  # torch refuses it of subclasses
        wait("tolist")
        return self.held.detach().tolist()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = rebuilt(self.held.detach().clone(), self.requires_grad, getattr(self, "_is_param", False))
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        wait("pickle")
        return rebuilt, (self.held.detach().numpy(), self.requires_grad, getattr(self, "_is_param", False))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def rebuilt(held, requires_grad, is_parameter):
    tensor = OnGPU(torch.as_tensor(held)).requires_grad_(requires_grad)
    if is_parameter:
        tensor._is_param = True
    return tensor


class Generator(torch.Generator):
    """A generator that knows for which device it was made."""

    on_gpu: set = set()  # an operation is given the generator alone, not this object

    def __new__(cls, device="cpu"):
        self = super().__new__(cls, "cpu")
        self.on = torch.device(device).type
        (cls.on_gpu.add if self.on == "gpu" else cls.on_gpu.discard)(self._cdata)
        return self

    def __del__(self):
        self.on_gpu.discard(self._cdata)

    def __reduce_ex__(self, protocol):
        return generator_of, (self.on, self.get_state())

    @property
    def device(self):
        return torch.device("gpu:0" if self.on == "gpu" else "cpu")


def generator_of(device, state):
    return Generator(device).set_state(state)


def place(tensor):
    """What tells the memory of a tensor."""
    return tensor.untyped_storage()._cdata


def tensors_of(tree):
    return [item for item in tree_flatten(tree)[0] if isinstance(item, torch.Tensor)]


class Watch(TorchDispatchMode):
    """A mode in which whatever waits for the device, or copies between host and device, is an error.

    With a graph, operations are recorded. Modes are a thread's, and autograd's threads take over those of a backward
    pass.
    """

    def __init__(self, graph=None):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {}, self)


def wait(what, watch=None):
    """The host waits for the device, or copies between them."""
    watches = [watch, *_get_current_dispatch_mode_stack()]
    if any(isinstance(mode, Watch) for mode in watches):
        raise RuntimeError(f"waits for the device: {what}")


def run(func, args, kwargs, watch=None):
    """Run an operation on what its tensors hold."""
    ours = [t for t in tensors_of((args, kwargs)) if isinstance(t, OnGPU)]
    device, tape = kwargs.get("device"), watch and watch.graph
    to_gpu = bool(ours) if device is None else torch.device(device).type == "gpu"
    if not (ours or to_gpu):
        return func(*args, **kwargs)
    check(func, args, kwargs, ours, to_gpu, watch)
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args_held, kwargs_held = tree_map_only(OnGPU, lambda t: t.held, (args, kwargs))
    if tape is not None:
        tape.before(func, args_held, kwargs_held)
    out = func(*args_held, **kwargs_held)
    if tape is not None:
        tape.after(func, args_held, kwargs_held, out)
    if not to_gpu:
        return out
    wrapped = tree_map_only(torch.Tensor, OnGPU, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if ours else wrapped


def check(func, args, kwargs, ours, to_gpu, watch):
    """Raise what CUDA would raise."""
    name = func._schema.name.split("::")[1]
    hosts = [t for t in tensors_of((args, kwargs)) if not isinstance(t, OnGPU)]
    for generator in tree_flatten((args, kwargs))[0]:
        if isinstance(generator, torch._C.Generator) and (generator._cdata in Generator.on_gpu) != to_gpu:
            raise RuntimeError(f"{name}: the generator is on another device")
    if name in ("copy_", "_to_copy"):
        if (hosts and (ours or to_gpu)) or (ours and not to_gpu):
            wait(f"{name} between the host and the device", watch)
    elif hosts and ours:
        takes_numbers = isinstance(args[0], OnGPU) or name.startswith(TAKES_NUMBERS_OF_THE_HOST)
        if name in INDEXING and isinstance(args[0], OnGPU):
            wait(f"{name} by an index of the host", watch)
        elif any(t.ndim for t in hosts) or not takes_numbers:
            raise RuntimeError(f"{func}: tensors on the host and on the device")
    if name in WAITS or (name.startswith("index") and any(t.dtype == torch.bool for t in ours[1:])):
        wait(name, watch)


class CUDAGraph:
    """A capture's operations, and what they read from outside."""

    n_captures = 0

    def __init__(self):
        self.calls, self.own, self.outside, self.before_write, self.n_held = [], {}, {}, {}, Counter()

    def before(self, func, args, kwargs):
        for t in tensors_of((args, kwargs)):
            if place(t) not in self.own:
                self.outside.setdefault(place(t), t.untyped_storage())
                if func._schema.is_mutable and place(t) not in self.before_write:
                    self.before_write[place(t)] = t.untyped_storage(), t.untyped_storage().clone()

    def after(self, func, args, kwargs, out):
        for t in tensors_of(out):
            if place(t) not in self.outside:
                self.own[place(t)] = t.untyped_storage()
        # Aliases, so that what holds a storage beside this tape can be counted.
        call = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs, out))
        self.calls.append((func, *call))
        self.n_held.update(map(place, tensors_of(call)))

    def end(self):
        """Put back what the capture wrote to memory of others, and leave nothing in its own."""
        for storage, values in self.before_write.values():
            storage.copy_(values)
        self.before_write = {}
        for _, _, _, out in self.calls:
            for t in tensors_of(out):
                if place(t) in self.own and t.is_floating_point():
                    t.fill_(torch.nan)

    def lost(self):
        """Places of memory from outside that nobody but this tape holds."""
        return [k for k, _ in self.outside.items() if torch._C._storage_Use_Count(k) <= self.n_held[k] + 1]

    def replay(self):
        assert not self.lost(), "a replay reads memory that was given back"
        for func, args, kwargs, out in self.calls:
            for old, new in zip(tensors_of(out), tensors_of(func(*args, **kwargs)), strict=True):
                if place(old) != place(new):
                    old.copy_(new)


class graph:
    """The context of a capture."""

    def __init__(self, graph, stream=None, capture_error_mode="global"):
        self.graph = graph

    def __enter__(self):
        CUDAGraph.n_captures += 1
        self.mode = Watch(self.graph)
        self.mode.__enter__()

    def __exit__(self, *error):
        self.mode.__exit__(*error)
        self.graph.end()


class Stream:
    """Neither to be copied nor pickled, as torch's."""

    def __init__(self, device=None):
        self.device = torch.device("gpu:0")

    def wait_stream(self, other):
        pass

    def record_event(self):
        return self

    def synchronize(self):
        wait("synchronize")

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle 'Stream' object")


class GPUModule:
    """What `torch.gpu` is, as `torch.cuda` is of CUDA."""

    CUDAGraph, graph, Stream = CUDAGraph, graph, Stream
    total_memory = 2**30

    def is_available(self):
        return True

    is_initialized = is_available

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed):
        pass

    def current_stream(self, device=None):
        return Stream(device)

    def stream(self, stream):
        return contextlib.nullcontext()

    def synchronize(self, device=None):
        wait("synchronize")

    def memory_reserved(self, device=None):
        return 0

    def empty_cache(self):
        pass

    def get_device_properties(self, device=None):
        return SimpleNamespace(name="a GPU that is none", total_memory=self.total_memory)


_setup_privateuseone_for_python_backend("gpu", backend_module=GPUModule())


def made(func, *args, **kwargs):
    return run(func, args, kwargs)


# New tensors, of which there is none yet that could bring an operation to `OnGPU`. Some operations resize what they
# write to, which an `OnGPU` cannot follow, and so are run as one.
LIBRARIES = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
LIBRARIES[0].fallback(made, "PrivateUse1")
for name in ("arange", "eye", "linspace", "logspace", "range", "randperm", "tril_indices", "triu_indices"):
    for overload in getattr(torch.ops.aten, name).overloads():
        if "out" not in overload:
            func = getattr(getattr(torch.ops.aten, name), overload)
            LIBRARIES[1].impl(func, partial(made, func), "PrivateUse1")


def empty(*args, pin_memory=False, of_torch=torch.empty, **kwargs):
    """`torch.empty`, for which the device has no memory that is pinned."""
    return of_torch(*args, **kwargs)


def load(*args, map_location=None, of_torch=torch.load, **kwargs):
    """`torch.load`, which leaves tensors where they were: no storage can be moved to the device."""
    return of_torch(*args, **kwargs)


def see_numbers(of_this_thread=True):
    """Let torch.tensor and indices that are lists make a tensor of the CPU and copy it, which is seen."""
    torch._C._set_only_lift_cpu_tensors(of_this_thread)


def run_thread(self, of_threading=threading.Thread.run):
    see_numbers()
    of_threading(self)


@contextlib.contextmanager
def rehearsal():
    """Context in which the device is there."""
    future = torch.__future__  # Module.to would else set p.data, which leaves what an OnGPU holds as it was
    overwrites = future.get_overwrite_module_params_on_conversion()
    future.set_overwrite_module_params_on_conversion(True)
    see_numbers()
    try:
        with (
            mock.patch.multiple(torch, Generator=Generator, empty=empty, load=load),
            mock.patch.object(threading.Thread, "run", run_thread),
        ):
            yield
    finally:
        future.set_overwrite_module_params_on_conversion(overwrites)
        see_numbers(False)
