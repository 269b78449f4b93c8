"""Run a module where the device is: ``python -m tests.rehearsal MODULE [ARGUMENTS]``."""

from .device import rehearsal  # isort: skip  # first: before any backward pass

import runpy
import sys

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    with rehearsal():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
