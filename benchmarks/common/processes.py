"""A script run anew in a process of its own, whose memory and threads nothing before has touched."""

import json
import subprocess
import sys


def answer(module, *arguments, launcher=()):
    """What a module prints as JSON on its last line, run with these arguments.

    Parameters
    ----------
    module : str
        Its full name, as of ``python -m``.
    *arguments
        Of its command line.
    launcher : sequence of str, default=()
        Python's arguments before it: a module that starts it in several processes, with that module's options.
    """
    command = [sys.executable, *launcher, "-m", module, *map(str, arguments)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])
