"""A tree of arrays and plain values as one safetensors file. Reading runs no code from the file.

The arrays are the file's tensors. The rest is JSON in its metadata, under "skvae": an object with "format", "versions"
(of the packages that wrote the file) and "content". In the content, {"$array": name} stands for an array; {"$tuple":
[...]}, {"$strings": [...]} (an array of strings) and {"$float": "nan"} stand for what JSON lacks; and {"$custom":
description} stands for an object that a file cannot hold. The tensor "sha256" is the digest of everything else.
"""

import hashlib
import json
import math
import os
import re
import secrets
import stat

import numpy as np
import safetensors.numpy
import sklearn
import torch

from .version import __version__

FORMAT = 2  # 1: likelihood="gaussian" is what "gaussian_diag" is now
KEY, CHECKSUM = "skvae", "sha256"


class Custom:
    """The description of an object that a file cannot hold."""

    def __init__(self, description):
        self.description = description


def write(path, content):
    """Write a tree, completely or not at all: an older file at `path` stays until the new one is on the disk."""
    arrays: dict[str, np.ndarray] = {}
    versions = {"skvae": __version__, "torch": str(torch.__version__), "scikit-learn": sklearn.__version__}
    header = {"format": FORMAT, "versions": versions, "content": _encode(content, "", arrays)}
    text = json.dumps(header, allow_nan=False)
    arrays[CHECKSUM] = np.frombuffer(_digest(text, arrays), dtype=np.uint8)
    data = safetensors.numpy.save(arrays, {KEY: text})
    try:
        replace_file(os.path.realpath(path), data)  # of a link, what it leads to
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.path.abspath(path)) from None


def replace_file(path, data):
    """Write bytes to a new file beside `path`, which then takes its place and keeps its mode.

    The new file's name is random, as other threads, processes and hosts may be writing to the same path.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mode = None
    part = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(part, flags, 0o666 if mode is None else mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:  # the process's mask may have taken something away
            os.chmod(part, mode)
        os.replace(part, path)
    except BaseException:
        os.remove(part)
        raise


def read(path):
    """Return the tree that was written to `path`, in the present format; see `read_with_format`."""
    return read_with_format(path)[1]


def read_with_format(path):
    """Return the format of the file at `path`, and the tree that was written there.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not such a file, is damaged, or was written in a later format.
    """
    with open(path, "rb"):  # raises the system's error for a bad path, not safetensors'
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise ValueError(f"it has no metadata {KEY!r}")
            if _cost(text) > 5 * os.path.getsize(path) + 2**20:
                raise ValueError("its metadata would take far more memory than the file's size")
            header = json.loads(text)
            if not isinstance(header, dict) or type(header.get("format")) is not int or "content" not in header:
                raise ValueError("its metadata are not those of such a file")
            if header["format"] > FORMAT:
                raise ValueError(f"it has format {header['format']}, of a later skvae: this one reads up to {FORMAT}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checksum = arrays.pop(CHECKSUM, None)
        if checksum is None or checksum.tobytes() != _digest(text, arrays):
            raise ValueError("its checksum does not match")
        content = _decode(header["content"], arrays)
        if arrays:
            raise ValueError(f"it has tensors that nothing refers to: {', '.join(arrays)}")
    except (safetensors.SafetensorError, RecursionError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} is not a file of skvae, or it is damaged: {error}") from error
    return header["format"], content


def is_plain(value):
    """Whether a file can hold a value as it is. A dict does not count, as it is arguments to somebody's code."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def describe(value):
    """A text for a value that is the same in every process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _encode(value, name, arrays):
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OU":
            return {"$strings": value.tolist()}
        arrays[name] = np.asarray(value, order="C")  # safetensors writes the memory in its present order
        return {"$array": name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{name}.{key}".lstrip("."), arrays) for key, item in value.items()}
    if isinstance(value, Custom):
        return {"$custom": value.description}
    raise TypeError(f"A file of skvae cannot hold {name}={value!r}.")


def _decode(value, arrays):
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: _decode(item, arrays) for key, item in value.items()}
    if len(value) != 1:
        raise ValueError(f"its metadata have an object with the keys {', '.join(value)}")
    ((kind, item),) = value.items()
    expected, decode = DECODERS.get(kind, (None, None))
    if expected is None or not isinstance(item, expected):
        raise ValueError(f"its metadata have {kind}: {item!r:.100}")
    return decode(item, arrays)


def _decode_array(name, arrays):
    if name not in arrays:
        raise ValueError(f"it lacks the tensor {name}")
    return arrays.pop(name)


def _decode_float(text, arrays):
    if text not in NON_FINITE:
        raise ValueError(f"its metadata have the number {text!r:.100}")
    return NON_FINITE[text]


NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
DECODERS = {  # by an object's only key: the type of its value, and the function that decodes it
    "$array": (str, _decode_array),
    "$tuple": (list, lambda items, arrays: tuple(_decode(item, arrays) for item in items)),
    "$strings": (list, lambda items, arrays: np.array([str(item) for item in items], dtype=object)),
    "$float": (str, _decode_float),
    "$custom": (str, lambda description, arrays: Custom(description)),
}


def _digest(text, arrays):
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.digest()


def _cost(text):
    """Estimate the bytes of Python's objects for a JSON text: each object follows a bracket, a colon or a comma."""
    return len(text) + 64 * (text.count("[") + text.count("{")) + 32 * (text.count(",") + text.count(":"))
