"""Exact JSON and npz output of nested numbers and arrays.

JSON has no NaN and no infinities. They are written as the strings "NaN", "Infinity" and "-Infinity", as in the JSON of protobuf:
the file stays valid JSON, and `float(value)` and `np.array(value, np.float32)` convert these strings back to numbers.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from tui_gru.engine.running.weights import Array


def json_text(value: Any) -> str:
    """Return `value` (mappings, sequences, strings, numbers, float arrays) as one line of JSON.

    An entry of an array is written as the shortest decimal that reads back as the same number of the array's dtype.
    """
    if isinstance(value, (np.ndarray, np.floating)):
        return _array_text(np.asarray(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {json_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return _not_finite(value)
    return json.dumps(value)


def _array_text(array: Array) -> str:
    numbers = array.ravel()
    tokens = list(map(str, numbers))  # the shortest exact decimal; for finite numbers also valid JSON
    for i in np.flatnonzero(~np.isfinite(numbers)).tolist():
        tokens[i] = _not_finite(numbers[i])
    for size in reversed(array.shape):
        tokens = ["[" + ", ".join(tokens[i : i + size]) + "]" for i in range(0, len(tokens), size)]
    return tokens[0]


def _not_finite(number: float) -> str:
    return '"NaN"' if math.isnan(number) else '"Infinity"' if number > 0 else '"-Infinity"'


def write_json(out: BinaryIO, head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Write `{**head, name: [*items]}`, with each entry and each item on its own line. `items` is consumed one at a time."""
    opening = "{"
    for key, value in head.items():
        out.write(f"{opening}{json.dumps(key)}: {json_text(value)}".encode())
        opening = ",\n"
    out.write(f"{opening}{json.dumps(name)}: [".encode())
    opening = "\n"
    for item in items:
        out.write((opening + json_text(item)).encode())
        opening = ",\n"
    out.write(b"\n]}\n")


def write_npz(out: BinaryIO, head: Mapping[str, Any], items: Iterable[Mapping[str, Any]], count: int) -> None:
    """Write `head` and `count` items as npz; items of equal shapes are stacked along a new first axis.

    Nested names are joined by slashes, `timesteps/z`. Strings become string arrays, so that the file can be read without pickle.
    """
    arrays = {path: np.asarray(value) for path, value in _leaves(head)}
    for i, item in enumerate(items):
        for path, value in _leaves(item):
            if i == 0:
                first = np.asarray(value)
                arrays[path] = np.empty((count, *first.shape), first.dtype)
            arrays[path][i] = value
    with zipfile.ZipFile(out, "w") as archive:
        for path, array in arrays.items():
            member = zipfile.ZipInfo(f"{path}.npy")  # dated 1980, so that equal runs give equal bytes
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value
