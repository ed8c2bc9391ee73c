"""A growing series, summarized by blocks such that the cost of drawing does not depend on its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from tui_gru.tui.widgets.written import AnyArray

#: Points per block. A column of a plot that spans many blocks is drawn only from their summaries.
BLOCK = 256
#: Blocks summarized in one step.
TOGETHER = 256
#: A series of fewer points has no exceptions.
FEW = 32
#: The part of the points of a window, at each end, that may be exceptions.
_EXCEPTIONS = 0.05
#: The stride of the points used for the percentiles of a block, and the number of points used for the mean of a column.
_EVERY, _LOOKED_AT = 4, 256
#: Multiples of this modulo 1 are spread evenly over the range from 0 to 1.
_GOLDEN = (5**0.5 - 1) / 2
#: The number of batches on each side of the current one that are compared to detect edits of the past, which happen there.
_NEAR = 64


class PlotColumns(NamedTuple):
    """The columns of a plot, all (n,): lowest and highest finite value, NaN if none, and whether any is not finite."""

    low: AnyArray
    high: AnyArray
    broken: AnyArray


class ValueSpan(NamedTuple):
    """The lowest and highest finite value of a series, with and without exceptions.

    Values outside of the middle nine tenths of a window of 256 points are exceptions; fewer than `FEW` points have none.
    """

    low: float
    high: float
    typical_low: float
    typical_high: float


class Values(Protocol):
    """A series: an array, or an object that reads slices of one on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Envelope:
    """A growing series of numbers. Stores a summary of every full block, and reads the numbers themselves from the series."""

    def __init__(self, values: Values = ()) -> None:
        self._low = np.empty(1)
        self._high = np.empty(1)
        self._broken = np.empty(1, bool)
        self._middle = np.empty((1, 3))  # the 5th percentile, the median and the 95th percentile of each block
        self._blocks = 0
        self.follow(values)

    def __len__(self) -> int:
        return len(self.values)

    def follow(self, values: Values) -> None:
        """Replace the series by one that has the same values in the range common to both."""
        self.values = np.asarray(values, np.float64) if isinstance(values, list | tuple) else values
        full = len(self.values) // BLOCK
        self._blocks = min(self._blocks, full)
        self._span: tuple[ValueSpan | None] | None = None
        while self._blocks < full:
            self._summarise(min(self._blocks + TOGETHER, full))

    @property
    def span(self) -> ValueSpan | None:
        """The range of the series, None if it has no finite value."""
        if self._span is None:
            self._span = (self._spanned(),)
        return self._span[0]

    def _spanned(self) -> ValueSpan | None:
        done, count = self._blocks * BLOCK, len(self)
        first = max(min(done, count - BLOCK), 0)  # the last window; its points that are in no block yet are used for the extremes
        window = np.asarray(self.values[first:], np.float64) if count else np.empty(0)
        rest = window[done - first :]
        lows, highs = (np.append(kept[: self._blocks], rest[np.isfinite(rest)]) for kept in (self._low, self._high))
        if np.isnan(np.append(lows, np.nan)).all():
            return None
        low, high = float(np.nanmin(lows)), float(np.nanmax(highs))
        if count < FEW:
            return ValueSpan(low, high, low, high)
        window = np.sort(window[np.isfinite(window)])
        left_out = int(len(window) * _EXCEPTIONS)
        inner = self._middle[: self._blocks, 0], self._middle[: self._blocks, 2]
        if len(window):
            inner = np.append(inner[0], window[left_out]), np.append(inner[1], window[len(window) - 1 - left_out])
        return ValueSpan(low, high, float(np.nanmin(inner[0])), float(np.nanmax(inner[1])))

    def furthest(self, first: int, after: int, way: int) -> int:
        """Return the index of the highest (`way` 1) or lowest (−1) finite value in [first, after); `first` if there is none."""
        values = way * np.asarray(self.values[first:after], np.float64)
        return first + int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))

    def means(self, edges: AnyArray, of: Callable[[AnyArray], AnyArray]) -> AnyArray:
        """Return the means of `of(values)` between consecutive edges: (n+1,) as in `columns` -> (n,), NaN without a finite value.

        For columns of many points the mean of a part of them is used, for columns of many blocks the mean of the medians of blocks.
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
            means: AnyArray = (sums[at[1:]] - sums[at[:-1]]) / (counts[at[1:]] - counts[at[:-1]])
        return means

    def at(self, indices: AnyArray) -> AnyArray:
        """Return the numbers at ascending indices (n,). The range of the indices is read as a whole."""
        if not len(indices):
            return np.empty(0)
        first = int(indices[0])
        part: AnyArray = np.asarray(self.values[first : int(indices[-1]) + 1])[indices - first]
        return part

    def columns(self, edges: AnyArray) -> PlotColumns:
        """Return the extremes between consecutive edges: ascending indices into the series (n+1,) -> n columns.

        A column without points has none. The edges of columns of many blocks are moved to the nearest block, which is a small part
        of their width.
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
    def _wide(edges: AnyArray) -> bool:
        """Return True if the columns between these edges span many blocks."""
        return bool(edges[-1] - edges[0] >= 8 * BLOCK * max(len(edges) - 1, 1))

    def _summarise(self, upto: int) -> None:
        """Summarize the new blocks up to a block."""
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
        if not finite.all():  # in a block with values that are not finite, percentiles are those of the finite ones
            rows = np.flatnonzero(~finite.all(axis=1) & finite.any(axis=1))
            self._middle[done + rows] = np.nanpercentile(clean[rows], (100 * _EXCEPTIONS, 50, 100 - 100 * _EXCEPTIONS), axis=1).T
        self._blocks = upto


def _spread(count: int, step: int) -> AnyArray:
    """Return one index per `step` of 0 … `count` − 1, ascending, unevenly spaced to avoid aliasing with cycles of batches."""
    if step == 1:
        return np.arange(count)
    at = np.arange(count // step)
    chosen: AnyArray = at * step + np.floor(at * _GOLDEN % 1 * step).astype(np.intp)
    return chosen


def _reduce(low: AnyArray, high: AnyArray, broken: AnyArray, edges: AnyArray) -> PlotColumns:
    """Reduce between edges. Empty columns are left out, since `reduceat` would take one element for them."""
    starts, ends = edges[:-1], edges[1:]
    empty = ends <= starts
    lows, highs = np.full(len(starts), np.nan), np.full(len(starts), np.nan)
    bad = np.zeros(len(starts), bool)
    full = np.flatnonzero(~empty)
    if len(full):
        # columns that are not empty have no gaps between them: each ends where the next one starts
        cuts, stop = starts[full], int(ends[full[-1]])
        lows[full] = np.fmin.reduceat(low[:stop], cuts)
        highs[full] = np.fmax.reduceat(high[:stop], cuts)
        bad[full] = np.logical_or.reduceat(broken[:stop], cuts)
    return PlotColumns(lows, highs, bad)


class LossSeries:
    """Follows the losses of snapshots; plots draw `envelope`."""

    def __init__(self) -> None:
        self.envelope = Envelope()
        self._branch = ""

    def __len__(self) -> int:
        return len(self.envelope)

    def follow(self, losses: Values, near: int, branch: str) -> bool:
        """Append the new losses, or replace all if the past has changed or the branch is another. Return True if any differ.

        `near` is the current batch: a changed past is detected near it.
        """
        shown = len(self.envelope)
        shared = min(len(losses), shown)
        known = self.envelope.values
        parts = slice(max(near - _NEAR, 0), min(near + _NEAR, shared)), slice(max(shared - 1, 0), shared)
        same = all(np.array_equal(losses[part], known[part], equal_nan=True) for part in parts)
        if not same or branch != self._branch:
            self.envelope, self._branch = Envelope(losses), branch
            return True
        self.envelope.follow(losses)
        return len(losses) != shown
