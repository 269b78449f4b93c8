"""What a benchmark was read on."""

import platform
from importlib.metadata import version
from pathlib import Path


def machine():
    """The processor and the versions that matter, in one line."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    versions = [f"{name} {version(name)}" for name in ("torch", "scikit-learn")]
    return ", ".join([processor, f"Python {platform.python_version()}", *versions])
