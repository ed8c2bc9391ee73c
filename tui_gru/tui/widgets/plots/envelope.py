"""A long series that grows, summarised so that drawing it costs the same however long it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from tui_gru.tui.widgets.written import Array

#: Points to a block. A column of a plot that spans many blocks is drawn from their extremes alone.
BLOCK = 256
#: Blocks that are summarised at once.
TOGETHER = 256
#: Points of which none is an exception.
FEW = 32
#: The part of a window's points at either end that may be exceptions.
_EXCEPTIONS = 0.05
#: Of a block every so many points are looked at for what is typical of it; of a column of a plot so many are, for its mean.
_EVERY, _LOOKED_AT = 4, 256
#: Steps of this length modulo 1 fill the range from 0 to 1 evenly.
_GOLDEN = (5**0.5 - 1) / 2


class Columns(NamedTuple):
    """What a plot draws for each of its columns (n,): lowest and highest finite value, NaN for none; any not finite."""

    low: Array
    high: Array
    broken: Array


class Span(NamedTuple):
    """Lowest and highest finite value of a series, and the same without exceptions: of every window of 256 points the middle nine
    tenths count. In fewer than `FEW` points there are none."""

    low: float
    high: float
    typical_low: float
    typical_high: float


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
        self._middle = np.empty((1, 3))  # of each block the 5th percentile, the median and the 95th percentile
        self._blocks = 0
        self.follow(values)

    def __len__(self) -> int:
        return len(self.values)

    def follow(self, values: Values) -> None:
        """Take another series over, which is the same as far as both go."""
        self.values = np.asarray(values, np.float64) if isinstance(values, list | tuple) else values
        full = len(self.values) // BLOCK
        self._blocks = min(self._blocks, full)
        self._span: tuple[Span | None] | None = None
        while self._blocks < full:
            self._summarise(min(self._blocks + TOGETHER, full))

    @property
    def span(self) -> Span | None:
        """The range of the series; None where it has no finite value."""
        if self._span is None:
            self._span = (self._spanned(),)
        return self._span[0]

    def _spanned(self) -> Span | None:
        done, count = self._blocks * BLOCK, len(self)
        first = max(min(done, count - BLOCK), 0)  # the last window; of it, what is in no block yet counts for the extremes
        window = np.asarray(self.values[first:], np.float64) if count else np.empty(0)
        rest = window[done - first :]
        lows, highs = (np.append(kept[: self._blocks], rest[np.isfinite(rest)]) for kept in (self._low, self._high))
        if np.isnan(np.append(lows, np.nan)).all():
            return None
        low, high = float(np.nanmin(lows)), float(np.nanmax(highs))
        if count < FEW:
            return Span(low, high, low, high)
        window = np.sort(window[np.isfinite(window)])
        left_out = int(len(window) * _EXCEPTIONS)
        inner = self._middle[: self._blocks, 0], self._middle[: self._blocks, 2]
        if len(window):
            inner = np.append(inner[0], window[left_out]), np.append(inner[1], window[len(window) - 1 - left_out])
        return Span(low, high, float(np.nanmin(inner[0])), float(np.nanmax(inner[1])))

    def furthest(self, first: int, after: int, way: int) -> int:
        """The index of the highest (`way` 1) or lowest (−1) finite value from `first` to before `after`; `first` without any."""
        values = way * np.asarray(self.values[first:after], np.float64)
        return first + int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))

    def means(self, edges: Array, of: Callable[[Array], Array]) -> Array:
        """The mean of `of(values)` between consecutive edges, (n+1,) as in `columns` -> (n,); NaN where there is no finite value.

        In columns of many points it is the mean of some of them, in those many blocks wide the mean of the medians of their blocks.
        """
        edges = np.clip(np.ceil(edges), 0, len(self)).astype(np.intp)
        if self._wide(edges):
            edges = np.minimum(np.rint(edges / BLOCK).astype(np.intp), self._blocks)
            part = of(self._middle[int(edges[0]) : int(edges[-1]), 1])
            at = edges - edges[0]
        else:
            step = max(int(edges[-1] - edges[0]) // (_LOOKED_AT * max(len(edges) - 1, 1)), 1)
            chosen = _spread(int(edges[-1] - edges[0]), step)
            part = of(np.asarray(self.values[int(edges[0]) : int(edges[-1])], np.float64)[chosen])
            at = np.searchsorted(chosen, edges - edges[0])
        there = np.isfinite(part)
        sums, counts = (np.concatenate([[0.0], np.cumsum(each)]) for each in (np.where(there, part, 0.0), there))
        with np.errstate(invalid="ignore"):
            means: Array = (sums[at[1:]] - sums[at[:-1]]) / (counts[at[1:]] - counts[at[:-1]])
        return means

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
        if self._wide(edges):
            blocks = np.minimum(np.rint(edges / BLOCK).astype(np.intp), self._blocks)
            return _reduce(self._low, self._high, self._broken, blocks)
        part = np.asarray(self.values[int(edges[0]) : int(edges[-1])])
        finite = np.isfinite(part)
        clean = part if finite.all() else np.where(finite, part, np.nan)
        return _reduce(clean, clean, ~finite, edges - edges[0])

    @staticmethod
    def _wide(edges: Array) -> bool:
        """Whether the columns between these edges are many blocks wide."""
        return bool(edges[-1] - edges[0] >= 8 * BLOCK * max(len(edges) - 1, 1))

    def _summarise(self, upto: int) -> None:
        """Summarise the blocks that are new, up to a block."""
        done = self._blocks
        part = np.asarray(self.values[done * BLOCK : upto * BLOCK]).reshape(-1, BLOCK)
        if upto > len(self._low):
            size = max(upto, 2 * len(self._low))
            self._low, self._high = np.resize(self._low, size), np.resize(self._high, size)
            self._broken, self._middle = np.resize(self._broken, size), np.resize(self._middle, (size, 3))
        finite = np.isfinite(part)
        clean = np.where(finite, part, np.nan)
        self._low[done:upto] = np.fmin.reduce(clean, axis=1)
        self._high[done:upto] = np.fmax.reduce(clean, axis=1)
        self._broken[done:upto] = ~finite.all(axis=1)
        some = clean[:, _spread(BLOCK, _EVERY)]
        count, left_out = some.shape[1], int(some.shape[1] * _EXCEPTIONS)
        places = left_out, count // 2, count - 1 - left_out
        self._middle[done:upto] = np.partition(some, places, axis=1)[:, places]
        if not finite.all():  # a block in which not all is finite has fewer to choose from
            rows = np.flatnonzero(~finite.all(axis=1) & finite.any(axis=1))
            self._middle[done + rows] = np.nanpercentile(clean[rows], (100 * _EXCEPTIONS, 50, 100 - 100 * _EXCEPTIONS), axis=1).T
        self._blocks = upto


def _spread(count: int, step: int) -> Array:
    """One index of every `step` of 0 … `count` − 1, ascending, at uneven distances, lest they fall in with a cycle of batches."""
    if step == 1:
        return np.arange(count)
    at = np.arange(count // step)
    chosen: Array = at * step + np.floor(at * _GOLDEN % 1 * step).astype(np.intp)
    return chosen


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
