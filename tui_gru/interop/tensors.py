"""A tensor in a file, whose shape and type are known and whose numbers are read on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tui_gru.interop.errors import ModelFileError, printable

AnyArray: TypeAlias = NDArray[Any]
ByteOrder: TypeAlias = Literal["<", ">"]

#: The types that `read` returns as float32 or float64.
FLOATS = ("float64", "float32", "float16", "bfloat16")
#: Bytes per entry, for the types whose size is checked here.
ITEM_SIZE = {
    **{f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}
MOST_DIMENSIONS = 32
_ZERO = bytes(8)  # the memory of an array of zeros of any shape


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor; `read()` returns an array of `shape`, float32, or float64 for a float64 tensor. It raises `ModelFileError`."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], AnyArray]


Tensors: TypeAlias = Mapping[str, Tensor]


def checked_shape(shape: Sequence[object]) -> tuple[int, ...]:
    """Return `shape` as a tuple of whole numbers ≥ 0. Raises `ModelFileError` for any other value."""
    if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise ModelFileError(f"a tensor has the shape {printable(list(shape), 40)}; the file is damaged: get it again")
    return tuple(size for size in shape if isinstance(size, int))


def byte_size(shape: Sequence[int], dtype: str) -> int:
    """Return the size of a dense tensor in bytes, computed without overflow."""
    return math.prod(shape) * ITEM_SIZE[dtype]


def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...], byte_order: ByteOrder = "<") -> AnyArray:
    """Return the numbers in `data`, which has exactly `byte_size(shape, dtype)` bytes. Half precision becomes float32.

    Of the integer types only int64 is read, for row lengths and indices.
    """
    if dtype == "int64":
        return np.frombuffer(data, f"{byte_order}i8").reshape(shape)
    if dtype not in FLOATS:
        raise ModelFileError(not_float(dtype))
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, f"{byte_order}u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    array = np.frombuffer(data, np.dtype(dtype).newbyteorder(byte_order)).reshape(shape)
    return array.astype(np.float64 if dtype == "float64" else np.float32, copy=False)


def precision_of(array: AnyArray) -> str:
    """Return the type with the fewest bits that represents every number of an array, such as half precision that was converted."""
    with np.errstate(all="ignore"):
        single = array.astype(np.float32)
        if not np.array_equal(single, array, equal_nan=True):
            return "float64"
        if np.array_equal(single.astype(np.float16), single, equal_nan=True):
            return "float16"
    return "float32" if (np.ascontiguousarray(single).view(np.uint32) & 0xFFFF).any() else "bfloat16"


def without_numbers(tensor: Tensor) -> Tensor:
    """Return the same tensor with zeros instead of its numbers, which take no memory."""

    def read() -> AnyArray:
        if tensor.dtype not in (*FLOATS, "int64"):
            raise ModelFileError(not_float(tensor.dtype))
        return np.ndarray(tensor.shape, "i8" if tensor.dtype == "int64" else "f4", _ZERO, strides=(0,) * len(tensor.shape))

    return Tensor(tensor.shape, tensor.dtype, read)


def not_float(dtype: str) -> str:
    """Return the message for a type that cannot be opened as weights."""
    if dtype.startswith(("int", "uint", "float8", "quantised")):
        return f"its weights are {printable(dtype)}, so it is quantised; open the model in float that it was made from"
    return f"its weights are of the type {printable(dtype)}, which is not supported; save them as float32"
