"""What others may have set in torch for their own code, put back to torch's defaults around ours."""

import os
import threading
from contextlib import ExitStack, contextmanager
from functools import cache, partial

import torch

SETTING = threading.Lock()  # the default dtype belongs to the process


@contextmanager
def torch_defaults(grad=True):
    """Context, or decorator, under which the calling thread's modes are torch's defaults.

    These are the grad mode (or, without `grad`, none), no inference mode, no autocast, and the CPU as the default
    device. The default dtype belongs to the process, so that other threads would meet a change: where tensors are made,
    their dtype is named instead.
    """
    if torch.get_num_threads() > 1:
        one_thread_in_forks()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(grad))
        for device_type in ("cpu", "cuda"):
            # A cache would live as long as this context, and training in it would go on with weights as they were.
            stack.enter_context(torch.autocast(device_type, enabled=False, cache_enabled=False))
        if torch.empty(0).device.type != "cpu":  # else without: the mode would slow down each call of torch
            stack.enter_context(torch.device("cpu"))
        yield


@contextmanager
def float32_by_default():
    """Context, or decorator, under which tensors are float32 by default.

    For classes that ask for no dtype: modules, those of a user among them, and torch's own. Nothing long runs in it.
    """
    with SETTING:
        before = torch.get_default_dtype()
        if before == torch.float32:
            yield
            return
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@cache
def one_thread_in_forks():
    """From now on, torch works on one thread in processes that are forked from this one, for good.

    OpenMP's threads do not survive a fork, and a child waits for them without end (pytorch issue 17199).
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
