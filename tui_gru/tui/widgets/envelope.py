"""A long series that grows, summarised so that drawing it costs the same however long it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tui_gru.tui.widgets.written import Array

#: Points to a block. A column of a plot that spans many blocks is drawn from their extremes alone.
BLOCK = 256


class Columns(NamedTuple):
    """What a plot draws for each of its columns (n,): lowest and highest finite value, NaN for none; any not finite."""

    low: Array
    high: Array
    broken: Array


class Envelope:
    """A series of numbers, appended to; keeps the extremes of every full block of it."""

    def __init__(self, values: Iterable[float] | Array = ()) -> None:
        self._values = np.empty(BLOCK)
        self._low = np.empty(1)
        self._high = np.empty(1)
        self._broken = np.empty(1, bool)
        self._count = 0
        self._blocks = 0
        self.extend(values)

    def __len__(self) -> int:
        return self._count

    @property
    def values(self) -> Array:
        """The series as it was appended, (len,)."""
        return self._values[: self._count]

    def append(self, value: float) -> None:
        """Add one number."""
        self.extend((value,))

    def extend(self, values: Iterable[float] | Array) -> None:
        """Add numbers, NaN and infinities among them."""
        new = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
        end = self._count + len(new)
        if end > len(self._values):
            self._values = np.resize(self._values, max(end, 2 * len(self._values)))
        self._values[self._count : end] = new
        self._count = end
        self._summarise()

    def truncate(self, count: int) -> None:
        """Forget all but the first `count` numbers."""
        self._count = min(max(count, 0), self._count)
        self._blocks = min(self._blocks, self._count // BLOCK)

    def columns(self, edges: Array) -> Columns:
        """The extremes between consecutive edges: edges (n+1,), indices into the series, ascending -> n columns.

        A column whose edges fall between the same two points has none. Of columns many blocks wide, the edges are moved
        to the nearest block, a small part of the column's own width.
        """
        edges = np.clip(np.ceil(edges), 0, self._count).astype(np.intp)
        total = edges[-1] - edges[0]
        if total >= 8 * BLOCK * max(len(edges) - 1, 1):
            blocks = np.minimum(np.rint(edges / BLOCK).astype(np.intp), self._blocks)
            return _reduce(self._low, self._high, self._broken, blocks)
        part = self._values[edges[0] : edges[-1]]
        finite = np.isfinite(part)
        clean = part if finite.all() else np.where(finite, part, np.nan)
        return _reduce(clean, clean, ~finite, edges - edges[0])

    def _summarise(self) -> None:
        full = self._count // BLOCK
        if full == self._blocks:
            return
        part = self._values[self._blocks * BLOCK : full * BLOCK].reshape(-1, BLOCK)
        if full > len(self._low):
            size = max(full, 2 * len(self._low))
            self._low, self._high = np.resize(self._low, size), np.resize(self._high, size)
            self._broken = np.resize(self._broken, size)
        finite = np.isfinite(part)
        clean = np.where(finite, part, np.nan)
        self._low[self._blocks : full] = np.fmin.reduce(clean, axis=1)
        self._high[self._blocks : full] = np.fmax.reduce(clean, axis=1)
        self._broken[self._blocks : full] = ~finite.all(axis=1)
        self._blocks = full


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
