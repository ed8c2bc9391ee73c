"""A pool of reused arrays. Every step needs the same arrays, and allocating new memory takes longer than the copies."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from tui_gru.interop.tensors import AnyArray

#: (shape, dtype) -> an uninitialised array
Take: TypeAlias = Callable[[Sequence[int], DTypeLike], AnyArray]

_UNHELD = 2  # reference count of a buffer that only the pool holds: its list, and the argument of getrefcount
_PAGE = 4096
_SMALL = 1 << 16  # bytes; reusing smaller arrays saves no time


def fresh(shape: Sequence[int], dtype: DTypeLike) -> AnyArray:
    """Return a new array."""
    return np.empty(tuple(shape), dtype)


class Buffers:
    """A `Take` that reuses its arrays. Reference counts show whether a caller still holds an array."""

    def __init__(self) -> None:
        self._buffers: dict[int, list[AnyArray]] = {}  # by size; within a size, least recently used first

    def __call__(self, shape: Sequence[int], dtype: DTypeLike) -> AnyArray:
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        if count * dtype.itemsize < _SMALL:
            return np.empty(tuple(shape), dtype)
        size = _rounded(count * dtype.itemsize)
        buffers = self._buffers.setdefault(size, [])
        for i in range(len(buffers)):
            if sys.getrefcount(buffers[i]) == _UNHELD:
                buffer = buffers.pop(i)
                break
        else:
            self._drop_unheld(size)
            buffer = np.empty(size, np.uint8)
        buffers.append(buffer)
        return buffer[: count * dtype.itemsize].view(dtype).reshape(tuple(shape))

    def _drop_unheld(self, size: int) -> None:
        """Release free arrays if they use more memory than those in use, which means that the sizes have changed."""
        unheld = {key: [b for b in buffers if sys.getrefcount(b) == _UNHELD + 1] for key, buffers in self._buffers.items()}
        free = sum(key * len(buffers) for key, buffers in unheld.items())
        if 2 * free > self.nbytes + size:
            for key, buffers in unheld.items():
                gone = set(map(id, buffers))
                self._buffers[key] = [b for b in self._buffers[key] if id(b) not in gone]

    @property
    def nbytes(self) -> int:
        """The size of all its arrays in bytes, free and in use."""
        return sum(size * len(buffers) for size, buffers in self._buffers.items())


def _rounded(size: int) -> int:
    """Round up to a multiple of an eighth of the power of two below, so that similar sizes share memory."""
    step = max(_PAGE, 1 << (size.bit_length() - 4))
    return -(-size // step) * step
