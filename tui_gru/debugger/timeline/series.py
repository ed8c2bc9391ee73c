"""One scalar of every batch of a timeline, read on access, so that passing it on is free for long runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import numpy as np

from tui_gru.debugger.checkpoints.scalars import Rows
from tui_gru.debugger.timeline.timeline import Timeline


class Series:
    """`name` (loss, grad_norm or max_weight) of the first `count` batches, all of which are computed. Slices are arrays."""

    def __init__(self, timeline: Timeline, name: str, count: int) -> None:
        self._timeline, self._name, self._count = timeline, name, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> float | Rows:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._count)
            if step != 1:
                return np.asarray(self)[index]
            return self._timeline.column(self._name, start, stop - 1)
        at = range(self._count)[index]
        return float(self._timeline.column(self._name, at, at)[0])

    def __iter__(self) -> Iterator[float]:
        return iter(self[:].tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Rows:
        return self[:] if dtype is None else self[:].astype(dtype)
