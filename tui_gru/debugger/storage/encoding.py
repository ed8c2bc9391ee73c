"""Encodes sessions as bytes: JSON for structure, raw little-endian numbers for arrays, and a hash of each. No pickle."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_DEPTH = 32  # levels of nesting in a value saved with a session
_CODE = re.compile(r"[<|][if][1248]")  # whole and floating-point numbers


def to_json(value: Any) -> str:
    """Return `value` as JSON in ASCII. Raises TypeError or ValueError if JSON cannot represent it; NaN is not allowed."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def from_json(text: str) -> Any:
    """Parse the result of `to_json`. Raises ValueError for invalid JSON, and for more than MOST_DEPTH levels of nesting."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    level = [value]
    for _ in range(MOST_DEPTH):
        items = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list)))
        level = [item for each in items for item in each if isinstance(item, (dict, list))]
    if level:
        raise ValueError("is nested too deeply")
    return value


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"has the number {value}")
    return value


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode arrays: a line of JSON with [name, dtype, shape] of each, then the numbers of all."""
    little = [np.asarray(array, _little(array.dtype)) for array in arrays.values()]
    head = _head(tuple((name, array.dtype.str, array.shape) for name, array in zip(arrays, little, strict=True)))
    return b"".join([head, *(array.tobytes() for array in little)])


# Cached: a long run has thousands of checkpoints with the same head, and the user waits while they are written.
@cache
def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


@lru_cache
def _head(arrays: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    """Return the line of JSON that describes the arrays."""
    return f"{to_json(arrays)}\n".encode()


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """Decode the result of `pack`. Returns read-only arrays by name. Raises ValueError for any other data."""
    head = data[: data.index(b"\n") + 1]
    at, arrays = len(head), {}
    for name, code, shape in from_json(head.decode("ascii")):
        if type(name) is not str or type(code) is not str or not _CODE.fullmatch(code):
            raise ValueError("has an array of another kind than numbers")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError("has an array of invalid size")
        array = np.frombuffer(data, np.dtype(code), math.prod(shape), at).reshape(shape)
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
        at += array.nbytes
    if at != len(data):
        raise ValueError("has more data than its arrays")
    return arrays


def seal(key: str, at: int, data: bytes) -> bytes:
    """Return the hash of an entry, its key and its number, so that an entry in the place of another is detected as well."""
    digest = blake2b(f"{key} {at}\n".encode(), digest_size=16)
    digest.update(data)
    return digest.digest()
