"""A long series that grows, summarised so that drawing it costs the same however long it is."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from tui_gru.tui.widgets.written import Array

#: Points to a block. A column of a plot that spans many blocks is drawn from their extremes alone.
BLOCK = 256
#: Blocks that are summarised at once.
TOGETHER = 256


class Columns(NamedTuple):
    """What a plot draws for each of its columns (n,): lowest and highest finite value, NaN for none; any not finite."""

    low: Array
    high: Array
    broken: Array


class Values(Protocol):
    """A series: an array, or what reads slices of one when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Envelope:
    """A series of numbers that grows; keeps the extremes of every full block of it, and reads the numbers themselves from it."""

    def __init__(self, values: Values = ()) -> None:
        self._low = np.empty(1)
        self._high = np.empty(1)
        self._broken = np.empty(1, bool)
        self._blocks = 0
        self.follow(values)

    def __len__(self) -> int:
        return len(self.values)

    def follow(self, values: Values) -> None:
        """Take another series over, which is the same as far as both go."""
        self.values = np.asarray(values, np.float64) if isinstance(values, list | tuple) else values
        full = len(self.values) // BLOCK
        self._blocks = min(self._blocks, full)
        while self._blocks < full:
            self._summarise(min(self._blocks + TOGETHER, full))

    def at(self, indices: Array) -> Array:
        """The numbers at ascending indices (n,), near each other."""
        if not len(indices):
            return np.empty(0)
        first = int(indices[0])
        part: Array = np.asarray(self.values[first : int(indices[-1]) + 1])[indices - first]
        return part

    def columns(self, edges: Array) -> Columns:
        """The extremes between consecutive edges: edges (n+1,), indices into the series, ascending -> n columns.

        A column whose edges fall between the same two points has none. Of columns many blocks wide, the edges are moved
        to the nearest block, a small part of the column's own width.
        """
        edges = np.clip(np.ceil(edges), 0, len(self)).astype(np.intp)
        total = edges[-1] - edges[0]
        if total >= 8 * BLOCK * max(len(edges) - 1, 1):
            blocks = np.minimum(np.rint(edges / BLOCK).astype(np.intp), self._blocks)
            return _reduce(self._low, self._high, self._broken, blocks)
        part = np.asarray(self.values[int(edges[0]) : int(edges[-1])])
        finite = np.isfinite(part)
        clean = part if finite.all() else np.where(finite, part, np.nan)
        return _reduce(clean, clean, ~finite, edges - edges[0])

    def _summarise(self, upto: int) -> None:
        """Summarise the blocks that are new, up to a block."""
        done = self._blocks
        part = np.asarray(self.values[done * BLOCK : upto * BLOCK]).reshape(-1, BLOCK)
        if upto > len(self._low):
            size = max(upto, 2 * len(self._low))
            self._low, self._high = np.resize(self._low, size), np.resize(self._high, size)
            self._broken = np.resize(self._broken, size)
        finite = np.isfinite(part)
        clean = np.where(finite, part, np.nan)
        self._low[done:upto] = np.fmin.reduce(clean, axis=1)
        self._high[done:upto] = np.fmax.reduce(clean, axis=1)
        self._broken[done:upto] = ~finite.all(axis=1)
        self._blocks = upto


def _reduce(low: Array, high: Array, broken: Array, edges: Array) -> Columns:
    """Reduce between edges. Where two coincide `reduceat` would take one element, so such columns are left out."""
    starts, ends = edges[:-1], edges[1:]
    empty = ends <= starts
    lows, highs = np.full(len(starts), np.nan), np.full(len(starts), np.nan)
    bad = np.zeros(len(starts), bool)
    full = np.flatnonzero(~empty)
    if len(full):
        # Full columns follow each other without a gap: each ends where the next one starts.
        cuts, stop = starts[full], int(ends[full[-1]])
        lows[full] = np.fmin.reduceat(low[:stop], cuts)
        highs[full] = np.fmax.reduceat(high[:stop], cuts)
        bad[full] = np.logical_or.reduceat(broken[:stop], cuts)
    return Columns(lows, highs, bad)
