"""Plots of long series: curves of dots with axes, whose cost does not depend on the length.

A series is summarized by blocks (`Envelope`), and an axis is chosen for it (`axis_of`). Its columns are drawn as `Dots`, with many
points per column as a smooth line and outliers, and `plot` puts axes around them. The time line has the same summaries and axis.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.program import Program
from tui_gru.engine.numbers import significant
from tui_gru.tui.draw import EMPTY, Box, CellRow, SegmentRow, from_rows, pad, text_box
from tui_gru.tui.theme import Palette, transliterate
from tui_gru.tui.written import AnyArray

# ------------------------------------------------------------------------------
# A growing series, summarized by blocks such that the cost of drawing does not depend on its length.


#: Points per block. A column of a plot that spans many blocks is drawn only from their summaries.
BLOCK = 256
#: Blocks summarized in one step.
TOGETHER = 256
#: A series of fewer points has no exceptions.
FEW = 32
#: The part of the points of a window, at each end, that may be exceptions.
_EXCEPTIONS = 0.05
#: The stride of the points used for the percentiles of a block, and the number of points used for the mean of a column.
_EVERY, _AVERAGED = 4, 128
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
        self._read = slice(0), np.empty(0)  # the part read last, of which a plot shows both the extremes and the means
        while self._blocks < full:
            self._summarise(min(self._blocks + TOGETHER, full))

    @property
    def newest(self) -> str:
        """The last number that is known; empty if there is none."""
        unknown = getattr(self.values, "unknown", ())
        at = next((at for at in range(len(self) - 1, -1, -1) if at not in unknown), None)
        return "" if at is None else label(float(self.values[at]), 0.001)

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
        lows, highs = (np.append(extremes[: self._blocks], rest[np.isfinite(rest)]) for extremes in (self._low, self._high))
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

    def furthest(self, first: int, after: int, sign: int) -> int:
        """Return the index of the highest (`sign` 1) or lowest (−1) finite value in [first, after); `first` if there is none."""
        values = sign * np.asarray(self.values[first:after], np.float64)
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
            step = max(int(edges[-1] - edges[0]) // (_AVERAGED * max(len(edges) - 1, 1)), 1)
            chosen = _spread(int(edges[-1] - edges[0]), step)
            part = of(self._between(edges)[chosen])
            at = np.searchsorted(chosen, edges - edges[0])
        finite = np.isfinite(part)
        sums, counts = (np.concatenate([[0.0], np.cumsum(array)]) for array in (np.where(finite, part, 0.0), finite))
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
        part = self._between(edges)
        finite = np.isfinite(part)
        clean = part if finite.all() else np.where(finite, part, np.nan)
        return _reduce(clean, clean, self.broken(part, edges[0] + np.arange(len(part))), edges - edges[0])

    def broken(self, values: AnyArray, indices: AnyArray) -> AnyArray:
        """Return which of the numbers (n) at these indices (n) are not finite, without those that are not known."""
        broken: AnyArray = ~np.isfinite(values)
        if unknown := getattr(self.values, "unknown", None):
            broken &= ~np.isin(indices, list(unknown))
        return broken

    def _between(self, edges: AnyArray) -> AnyArray:
        """Return the values from the first to the last edge; not to be written to."""
        part = slice(int(edges[0]), int(edges[-1]))
        if part != self._read[0]:
            self._read = part, np.asarray(self.values[part], np.float64)
        return self._read[1]

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
        self._broken[done:upto] = self.broken(part.ravel(), done * BLOCK + np.arange(part.size)).reshape(part.shape).any(axis=1)
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
    chosen = count // step
    return _spread_to(1 << chosen.bit_length(), step)[:chosen]


@lru_cache(maxsize=8)
def _spread_to(count: int, step: int) -> AnyArray:
    """Return the first `count` of these indices, which take longer than reading the numbers; not to be written to."""
    at = np.arange(count)
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
        earlier = self.envelope.values
        parts = slice(max(near - _NEAR, 0), min(near + _NEAR, shared)), slice(max(shared - 1, 0), shared)
        same = all(np.array_equal(losses[part], earlier[part], equal_nan=True) for part in parts)
        if not same or branch != self._branch:
            self.envelope, self._branch = Envelope(losses), branch
            return True
        self.envelope.follow(losses)
        return len(losses) != shown


# ------------------------------------------------------------------------------
# The vertical axis of a curve, linear or logarithmic, with a range that leaves out exceptional values.


#: An axis is logarithmic if the ratio of the largest to the smallest typical value is at least this.
RATIO = 40
#: The most decades of a logarithmic axis below its highest value, for values that approach 0.
DECADES = 6
#: The margin as a part of the range: beyond all values, and beyond typical values if exceptions are left out.
_SPARE, _SPARE_BEYOND = 0.02, 0.5


class Scale(Enum):
    """The choice of an axis; the value is its description for the user.

    `AUTO` is logarithmic if the typical values of many points differ by a factor of `RATIO` or more, and leaves out exceptions that
    would take half of the axis. `LINEAR` and `LOG` show every value.
    """

    AUTO = "scale by the data"
    LINEAR = "linear, every batch"
    LOG = "logarithmic, every batch"

    @property
    def following(self) -> Scale:
        """The next choice; after the last, the first."""
        scales = tuple(Scale)
        return scales[(scales.index(self) + 1) % len(scales)]


class Axis(NamedTuple):
    """An axis from `low` to `high`, both finite. With `log`, low must be > 0."""

    low: float
    high: float
    log: bool = False

    def parts(self, values: AnyArray) -> AnyArray:
        """Return the positions of values (any shape): 0 at `low`, 1 at `high`; 0.5 if low == high; NaN for NaN."""
        low, high = (math.log10(end) if self.log else end for end in (self.low, self.high))
        if high <= low:
            return np.where(np.isnan(values), np.nan, 0.5)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(values > 0, np.log10(values), np.where(np.isnan(values), np.nan, -np.inf))
        return (values - low) / (high - low)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return at most `count` round values on the axis with their labels."""
        if self.log and (powers := self._log_ticks(count)):
            return [(value, label(value, value)) for value in powers]
        marks = ticks(self.low, self.high, count)
        step = marks[1] - marks[0] if len(marks) > 1 else self.high - self.low
        return [(mark, label(mark, step)) for mark in marks]

    def _log_ticks(self, count: int) -> list[float]:
        """Return powers of ten, with 2 and 5 times those if there is room; an empty list if fewer than two fit."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for digits, stride in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3), ((1,), 5), ((1,), 10), ((1,), 50)):
            marks = [digit * 10.0**power for power in range(first, last + 1) if power % stride == 0 for digit in digits]
            marks = [mark for mark in marks if self.low <= mark <= self.high]
            if len(marks) <= count:
                return marks if len(marks) > 1 else []
        return []


def evened(axis: Axis, rows: int, per_row: int) -> tuple[Axis, list[tuple[float, str]]] | None:
    """Change the margins of a linear axis such that its ticks, steps of 1, 2 or 5 times a power of ten, are in evenly spaced rows.

    The curve has `rows` rows of `per_row` dots. Of all ways, that with the shortest range is chosen. Return the axis and the ticks
    with their labels; None if there is no room for two.
    """
    spare, last = (axis.high - axis.low) * _SPARE / (1 + 2 * _SPARE), rows * per_row - 1
    low, high = axis.low + spare, axis.high - spare
    best: tuple[float, float, int, int, int, float] | None = None
    for spacing in range(1 if rows < 4 else 2, min(rows - 1, 5) + 1) if 0 < high - low < math.inf else ():
        between = spacing * per_row  # dots from one tick to the next
        least = (high - low) / last * between  # with this step, the range is as long as that of the axis
        power = 10.0 ** math.floor(math.log10(least))
        for step in (m * power for m in (1, 2, 5, 10, 20) if m * power >= least * (1 - 1e-9)):
            for above in range(min(between, last - between + 1)):  # dots above the highest tick
                highest = math.ceil(high / step - above / between - 1e-9)
                most = (highest + above / between) * step
                if (left := low - (most - last / between * step)) >= -1e-9 * step:
                    best = min(filter(None, (best, (step / between, abs(most - high - left), above, highest, between, step))))
    if best is None:
        return None
    dot, _, above, highest, between, step = best
    marks = [(highest - i) * step for i in range((last - above) // between + 1)]
    top, rounding = (highest + above / between) * step, 1e-6 * dot
    return Axis(top - last * dot - rounding, top + rounding), [(mark, label(mark, step)) for mark in marks]


def axis_of(lines: Sequence[Envelope], scale: Scale = Scale.AUTO) -> Axis:
    """Return an axis for all of these series; 0 … 1 if none has a finite value."""
    spans = [line.span for line in lines if line.span is not None]
    if not spans:
        return Axis(0.0, 1.0)
    many = max(map(len, lines)) >= FEW
    least, most = min(span.low for span in spans), max(span.high for span in spans)
    low, high = min(span.typical_low for span in spans), max(span.typical_high for span in spans)
    match scale:
        case Scale.LINEAR:
            return _spared(least, most)
        case Scale.LOG if most > 0:
            return _log(max(least, most / 10**DECADES), most)
        case Scale.AUTO if many and low > 0 and high / low >= RATIO:
            inner = _reaching(math.log10(max(least, low / 10**DECADES)), math.log10(most), math.log10(low), math.log10(high))
            return _log(10 ** inner[0], 10 ** inner[1])
        case Scale.AUTO:
            return _spared(*_reaching(least, most, low, high))
    return _spared(least, most)


def _reaching(least: float, most: float, low: float, high: float) -> tuple[float, float]:
    """Return the range: on each side the extreme, or, if that is further away than the typical range is long, a margin."""
    length = (high - low) or abs(high) * 0.1 or 1.0
    spare = length * _SPARE_BEYOND
    return (low - spare if low - least > length else least), (high + spare if most - high > length else most)


def _spared(low: float, high: float) -> Axis:
    spare = (high - low) * _SPARE or abs(high) * 0.1 or 1.0
    return Axis(low - spare, high + spare)


def _log(low: float, high: float) -> Axis:
    factor = (high / low) ** _SPARE if high > low else 1.1
    return Axis(low / factor, high * factor, log=True)


def ticks(low: float, high: float, count: int, *, integers: bool = False) -> list[float]:
    """Return at most `count` round numbers from low to high, in steps of 1, 2 or 5, times a power of ten; or `integers`."""
    span = high - low
    if count < 1 or not (math.isfinite(span) and span > 0):
        return [low] if count >= 1 and math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / count))
    for step in (m * power for m in (1, 2, 5, 10, 20, 50, 100)):
        if integers and step < 1:
            continue
        slack = 0 if integers else 1e-9
        first, last = math.ceil(low / step - slack), math.floor(high / step + slack)
        if last - first + 1 <= count:
            marks = [index * step for index in range(first, last + 1)]
            return marks if integers else [min(max(mark, low), high) for mark in marks]  # rounding must not leave the range
    return []


def label(value: float, step: float) -> str:
    """Return the label of a tick, with only the decimals that its step needs: `0.25`, `1,000`, `2e-06`, `2e7`."""
    if not value and step < 1e-4:
        return "0"
    if value and not 1e-4 <= abs(value) < 1e7:
        return significant(value, 2) if abs(value) > 1 else f"{value:.2g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
    return f"{value:,.{decimals}f}"


# ------------------------------------------------------------------------------
# The dots of curves, and what is written over and behind them: rules, levels, a pointer, and arrows for values off the axis.


#: Columns of dots from one point to the next from which on each point has two by two dots.
_APART = 6
#: The bit of each of a braille pattern's dots, (4 rows, 2 columns), above U+2800.
_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


class Dots:
    """The dots of curves in rows × columns of cells: 2 × 4 dots per cell in braille, otherwise one."""

    def __init__(self, palette: Palette, rows: int, columns: int) -> None:
        self._palette = palette
        self._rows, self._columns = rows, columns
        self.per_column, self._per_row = (2, 4) if palette.glyphs.braille else (1, 1)
        self.across, self._down = columns * self.per_column, rows * self._per_row
        self._dots = np.zeros((self._down, self.across), bool)
        self._inks: list[Style] = []
        self.ink = np.full((rows, columns), -1)  # the index of the ink of each cell, −1 if nothing is drawn
        self.faint = np.zeros((rows, columns), bool)
        self._beyond: dict[tuple[int, int], float] = {}  # furthest value off the axis by column and side (±1)
        self.standing_out: dict[int, int] = {}

    def draw(self, low: AnyArray, high: AnyArray, ink: Style, stride: int) -> None:
        """Draw vertical runs of dots from low to high, both (n,) and parts of the axis, joined to their neighbours.

        Only every `stride`-th column of dots is drawn.
        """
        self._write(self._runs(low, high, stride), ink)

    def draw_thin(self, parts: AnyArray, ink: Style, stride: int = 1, *, instead: bool = True) -> None:
        """Draw a line of single dots through parts of the axis (n), over faint dots, or with `instead` in their place."""
        self._write(self._runs(parts, parts, stride, overlap=-1), ink, instead=instead)

    def draw_points(self, parts: AnyArray, columns: AnyArray, ink: Style | None) -> None:
        """Draw each of the points (n,), parts of the axis, on its own, in columns of dots (n,), ascending.

        Where they are far apart, each has two by two dots. Without an ink, they are faint dots beneath a line.
        """
        finite = np.isfinite(parts)
        y = np.rint((1 - np.clip(parts[finite], 0, 1)) * (self._down - 1)).astype(np.intp)
        x = np.clip(np.rint(columns[finite]), 0, self.across - 1).astype(np.intp)
        sparse = len(columns) < 2 or (columns[-1] - columns[0]) / (len(columns) - 1) >= _APART
        dots = np.zeros_like(self._dots)
        if sparse and self.per_column > 1:
            y = np.minimum(y, self._down - 2)
            dots[y + 1, x] = dots[y, x ^ 1] = dots[y + 1, x ^ 1] = True
        dots[y, x] = True
        self._write(dots, ink or (self._palette.plain if sparse else self._palette.dim), faint=ink is None)

    def draw_long(
        self, low: AnyArray, high: AnyArray, middle: AnyArray, out: AnyArray, ink: Style, stride: int, *, faint: bool
    ) -> None:
        """Draw the smooth line `middle`; with `faint`, also faint runs from low to high, outliers (`out` = ±1) in full colour."""
        for dot in np.flatnonzero(out).tolist():
            self.standing_out[dot // self.per_column] = int(out[dot])
        if faint:
            runs = self._runs(low, high, 1)
            self._write(runs, self._palette.faint, faint=True)
            runs[:, out == 0] = False
            self._write(runs, ink, instead=True)
        self.draw_thin(middle, ink, stride)

    def beyond(self, lowest: AnyArray, highest: AnyArray, low: AnyArray, high: AnyArray) -> None:
        """Register the values that are off the axis. All arrays are (n,); `low` and `high` are parts of the axis."""
        for side, values, outside in ((1, highest, high > 1), (-1, lowest, low < 0)):
            for dot in np.flatnonzero(outside).tolist():
                key = dot // self.per_column, side
                self._beyond[key] = max(self._beyond.get(key, values[dot]), values[dot], key=lambda value: side * value)
                self.standing_out[key[0]] = side

    def row_of(self, part: float) -> int:
        """Return the row of cells, from the top, in which a part of the axis is drawn."""
        return int(np.rint((1 - np.clip(part, 0, 1)) * (self._down - 1))) // self._per_row

    def _runs(self, low: AnyArray, high: AnyArray, stride: int, overlap: int = 1) -> AnyArray:
        """Return the dots of vertical runs, each extended to its neighbour on the left, over so many of its dots."""
        down = self._down - 1
        upper, lower = ((1 - np.clip(part, 0, 1)) * down for part in (high, low))
        gap_up = np.fmin(upper[1:], lower[:-1] - overlap)  # extend up to the neighbour on the left if that is higher
        gap_down = np.fmax(lower[1:], upper[:-1] + overlap)
        upper = np.concatenate([upper[:1], np.where(np.isnan(upper[1:]), np.nan, gap_up)])
        lower = np.concatenate([lower[:1], np.where(np.isnan(lower[1:]), np.nan, gap_down)])
        rows = np.arange(self._down)[:, None]
        with np.errstate(invalid="ignore"):
            dots: AnyArray = (rows >= np.rint(upper)) & (rows <= np.rint(lower))
        dots[:, np.arange(self.across) % stride != 0] = False
        return dots

    def _write(self, dots: AnyArray, ink: Style, *, faint: bool = False, instead: bool = False) -> None:
        """Put dots into the cells; with `instead`, replace faint dots in them."""
        shape = self._rows, self._per_row, self._columns, self.per_column
        cells = dots.reshape(shape).any(axis=(1, 3))
        if instead:
            self._dots &= ~np.repeat(np.repeat(cells & self.faint, self._per_row, 0), self.per_column, 1)
        self._dots |= dots
        self.ink[cells], self.faint[cells] = len(self._inks), faint
        self._inks.append(ink)

    def rows(self) -> list[CellRow]:
        """Return the rows of cells, in which cells without dots are free."""
        if self._palette.glyphs.braille:
            grouped = self._dots.reshape(self._rows, self._per_row, self._columns, self.per_column)
            codes = np.einsum("rdce,de->rc", grouped, _BRAILLE)
            signs = [[chr(0x2800 + code) if code else " " for code in row] for row in codes.tolist()]
        else:
            signs = np.where(self._dots, np.where(self.faint, ".", "*"), " ").tolist()
        inks = [*self._inks, None]  # the last for cells without dots, whose ink is −1
        return [CellRow.of(row, [inks[i] for i in indices]) for row, indices in zip(signs, self.ink.tolist(), strict=True)]

    def put_arrows(self, rows: Sequence[CellRow]) -> None:
        """Write arrows at the edges for the values off the axis, and the value beside the furthest."""
        for edge, row, arrow in ((1, rows[0], "↑"), (-1, rows[-1], "↓")):
            values = {column: value for (column, side), value in self._beyond.items() if side == edge}
            for column in values:
                row.put(column, transliterate(arrow, self._palette.glyphs), self._palette.warning)
            if values:
                furthest = max(values, key=lambda column: edge * values[column])
                words = label(values[furthest], 0.01 if abs(values[furthest]) < 100 else 1)
                start = furthest + 1 if furthest + 1 + len(words) <= self._columns else furthest - len(words)
                if start >= 0:
                    row.put(start, words, self._palette.warning)


def _put_level(row: CellRow, palette: Palette, name: str) -> range:
    """Draw a dashed line along the free cells of a row, and its name. Return the columns of the name.

    The name is as far to the right as there is free space, where need be without what is before a comma; otherwise at the left,
    over the curve. It is left out if it fills half of the row.
    """
    named = range(0)
    forms = [words for words in dict.fromkeys((f" {name} ", f" {name.rpartition(', ')[2]} ")) if len(words) < row.width // 2]
    if forms:
        ends = ((at + len(text), text) for text in forms for at in range(row.width - len(text) + 1) if row.free(at, len(text)))
        end, words = max(ends, key=lambda candidate: (candidate[0], len(candidate[1])), default=(len(forms[-1]), forms[-1]))
        start = end - len(words)
        named = range(start, end)
        row.put(start, words, palette.dim)
    for column in range(row.width):
        if row.free(column, 1):
            row.put(column, transliterate("╌", palette.glyphs), palette.dim)
    return named


# ------------------------------------------------------------------------------
# Smoothing of a long series by columns, and detection of outliers.


#: A series of fewer points is drawn as points. Of longer epochs, there must be at least so many for a line of their means.
POINTS, _EPOCHS = 20, 4
#: A series is long from this number of points per column on.
LONG = 4
#: The part of the columns over which is averaged, and the number of columns on each side with which a column is compared.
_SMOOTHED, _BESIDE = 1 / 30, 3
#: A column is an outlier if its distance from its neighbours is at least this multiple of the median distance, and this part.
_FAR, _FAR_AT_LEAST = 3, 0.08


def mean_parts(line: Envelope, axis: Axis, edges: AnyArray) -> AnyArray:
    """Return the means between consecutive edges (n+1,) as parts of the axis (n,), with values clipped to the axis."""
    return line.means(edges, lambda values: np.clip(axis.parts(values), 0, 1))


def smooth(means: AnyArray) -> AnyArray:
    """Return the moving average, ignoring missing columns: (n,) -> (n,), NaN if there are none in the window."""
    reach = min(max(round(len(means) * _SMOOTHED / 2), 1), (len(means) - 1) // 2)
    finite = np.isfinite(means)
    window = np.ones(2 * reach + 1)
    sums, counts = (np.convolve(array, window, "same") for array in (np.where(finite, means, 0.0), finite.astype(float)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, sums / counts, np.nan)


def epoch_means(line: Envelope, axis: Axis, edges: AnyArray, per_epoch: int | None) -> AnyArray | None:
    """Return the mean over its epoch of `per_epoch` points for each column between edges (n+1,), as parts of the axis (n,).

    A column after the last whole epoch has none, NaN. Return None where the moving average says as much, in columns that are wider
    than an epoch, and where epochs are too long and too few to say how the series goes.
    """
    epochs = 0 if per_epoch is None else len(line) // per_epoch
    if per_epoch is None or per_epoch < max(2, edges[1] - edges[0]) or epochs < (1 if per_epoch < POINTS else _EPOCHS):
        return None
    means = axis.parts(line.means(np.arange(epochs + 1) * per_epoch, lambda values: values))
    epoch = np.floor(((edges[:-1] + edges[1:] + 1) / 2) / per_epoch).astype(np.intp)
    return np.where(epoch < epochs, means[np.clip(epoch, 0, epochs - 1)], np.nan)


def standing_out(low: AnyArray, high: AnyArray, means: AnyArray) -> AnyArray:
    """Return which columns have an outlier: 1 above, −1 below the neighbouring columns, 0 for none.

    `low`, `high` and `means` (n,) are the extremes and the mean of each column as parts of an axis. Each column is compared with
    the levels on both sides, so that a step from one level to another is no outlier.
    """
    finite = np.isfinite(means)
    if not finite.any():
        return np.zeros(len(means), int)
    filled = np.interp(np.arange(len(means)), np.flatnonzero(finite), means[finite])
    levels = np.sort(sliding_window_view(np.pad(filled, _BESIDE, "edge"), 2 * _BESIDE + 1), axis=1)[:, _BESIDE]  # the medians
    around = sliding_window_view(np.pad(levels, 1, "edge"), 3)
    up, down = high - around.max(axis=1), around.min(axis=1) - low
    far = max(_FAR * _median(np.maximum(high - levels, levels - low)[finite]), _FAR_AT_LEAST)
    with np.errstate(invalid="ignore"):
        return np.where(up > far, 1, np.where(down > far, -1, 0))


def _median(values: AnyArray) -> float:
    """Return the median without NaN, as `np.nanmedian`, which takes 20 ms to load a module that is not needed."""
    ordered = np.sort(values[~np.isnan(values)])
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2) if len(ordered) else np.nan


# ------------------------------------------------------------------------------
# Plots of long series: curves of braille dots with axes.


PlotSeries = Envelope | AnyArray | Sequence[float]

#: The least number of columns between two rules.
_RULES = 8
#: Below this height, the labels of the horizontal axis are on it, not below it.
_LOW = 8


@dataclass(frozen=True)
class Plot:
    """A drawn curve: its `box`, and the mapping between points and columns. The plot area has `columns` cells from `margin` + 1 on,
    from x = 1 to `last`.

    `standing_out` maps columns of cells with an outlier, or a value off the axis, to 1 (above the others) or −1 (below).
    """

    box: Box
    margin: int = 0
    columns: int = 0
    last: float = 1.0
    standing_out: Mapping[int, int] = field(default_factory=dict)

    def points(self, column: int) -> range:
        """Return the points (0-based) in a column of cells, at least the nearest one."""
        per_cell = (self.last - 1) / max(self.columns - 1, 1)
        first, after = (math.ceil((column + side) * per_cell) for side in (-0.5, 0.5))
        nearest = round(column * per_cell)
        return range(max(first, 0), after) if after > first else range(nearest, nearest + 1)

    def column(self, point: int) -> int:
        """Return the column of cells of a point (0-based)."""
        return _column(point + 1, self.last, self.columns)


EMPTY_PLOT = Plot(EMPTY)


def plot(
    palette: Palette,
    series: PlotSeries,
    width: int,
    height: int,
    *,
    scale: Scale = Scale.AUTO,
    current: float | None = None,
    pointed: float | None = None,
    second: PlotSeries | None = None,
    per_epoch: int | None = None,
    levels: Sequence[tuple[str, float]] = (),
    placeholder: str = "nothing yet",
) -> Plot:
    """Plot a series at x = 1, 2, 3 … in width × height cells, including the axes.

    `current` is an x marked on the axis, `pointed` an x at which a line is drawn. `second` is drawn dotted and in another colour
    behind the first. An epoch has `per_epoch` points: the line then shows the means of epochs, over the points (`epoch_means`),
    and a faint rule follows each epoch, unless that is too dense. `levels` are names and values: those in the range of the axis
    are drawn as dashed lines behind the series. Crosses on the axis mark values that are not finite. Few points have no line.

    For a long series, each column of dots shows the range from lowest to highest, faint, with a smooth line over it; pass an
    `Envelope` to make that fast. Outliers are drawn in full colour, values off the axis as arrows at its edge, the furthest with
    its value.
    """
    lines = [one if isinstance(one, Envelope) else Envelope(one) for one in (series, second) if one is not None]
    longest = max(len(line) for line in lines)
    low = height < _LOW
    rows = height - (1 if low else 2)
    if longest == 0 or rows < 2:
        newest = lines[0].newest if len(lines[0]) else placeholder  # there is no room for more
        note = text_box(palette, newest, palette.dim)
        return Plot(pad(note, left=max((width - note.width) // 2, 0), top=max((height - 1) // 2, 0)) if height > 0 else EMPTY)
    last = float(max(longest, 2))
    axis = axis_of(lines, scale)
    even = None if axis.log else evened(axis, rows, 4 if palette.glyphs.braille else 1)
    axis, marks = even or (axis, axis.ticks(max(rows // 3, min(rows // 2 + 1, 4))))
    margin = max((len(name) for _, name in marks), default=0)
    columns = width - margin - 1
    if columns < 4:
        return Plot(text_box(palette, lines[0].newest if len(lines[0]) else placeholder, palette.dim))

    dots = Dots(palette, rows, columns)
    per_dot = (last - 1) / max(dots.across - 1, 1)
    broken = _draw(dots, palette, lines, axis, per_dot, per_epoch)
    cells, glyphs, dim = dots.rows(), palette.glyphs, palette.dim

    def row_of(y: float) -> int:
        return dots.row_of(float(axis.parts(np.array(y))))

    named: dict[int, range] = {}  # of the levels; a second one in a row is left out
    for name, y in levels:
        if axis.low <= y <= axis.high and row_of(y) not in named:
            named[row_of(y)] = _put_level(cells[row_of(y)], palette, name)
    if per_epoch is not None and per_epoch / per_dot >= _RULES * dots.per_column:
        for x in range(per_epoch, math.ceil(last), per_epoch):
            column = math.floor((x - 0.5) / per_dot) // dots.per_column
            for row in cells if x > 1 else ():
                if row.free(column, 1):
                    row.put(column, glyphs.vertical_ellipsis, dim)
    if pointed is not None:  # over everything but dots in full colour and names
        at = _column(pointed, last, columns)
        covered = dots.faint[:, at] & (per_dot >= LONG)
        for y in np.flatnonzero((dots.ink[:, at] < 0) | covered).tolist():
            if at not in named.get(y, ()):
                cells[y].put(at, glyphs.axis_vertical, palette.strong)
    dots.put_arrows(cells)

    at_row = {row_of(mark): name for mark, name in marks}
    upright = [
        (at_row.get(y, "").rjust(margin), glyphs.tick_vertical if y in at_row else glyphs.axis_vertical) for y in range(rows)
    ]
    curve = [(Segment(name, dim), Segment(tick, dim), *row.strip()) for (name, tick), row in zip(upright, cells, strict=True)]
    crosses = np.flatnonzero(np.add.reduceat(broken, np.arange(0, len(broken), dots.per_column)))
    box = from_rows([*curve, *_x_axis(palette, margin, columns, last, current, crosses, per_epoch, low=low)])
    return Plot(box, margin, columns, last, dots.standing_out)


def _draw(dots: Dots, palette: Palette, lines: Sequence[Envelope], axis: Axis, per_dot: float, per_epoch: int | None) -> AnyArray:
    """Draw the series, the first over the second. Return which columns of dots have a value that is not finite.

    Of two series with means of epochs, only these are drawn.
    """
    edges = (np.arange(dots.across + 1) - 0.5) * per_dot  # as indices: the first point is at x = 1
    broken = np.zeros(dots.across, bool)
    for line, ink, nth in zip(lines[::-1], (palette.second, palette.gate)[-len(lines) :], (3, 1)[-len(lines) :], strict=True):
        drawn = line.columns(edges)
        low, high = (axis.parts(values) for values in drawn[:2])
        means, alone = epoch_means(line, axis, edges, per_epoch), len(lines) == 1
        if per_dot >= (1 if means is None and len(line) >= POINTS else LONG):
            parts = mean_parts(line, axis, edges)
            out = standing_out(low, high, parts) if per_dot >= LONG else np.zeros(len(parts), int)
            dots.draw_long(low, high, smooth(parts) if means is None else means, out, ink, nth, faint=alone)
        else:
            if alone and (means is not None or len(line) < POINTS):
                values = np.asarray(line.values[:], np.float64)
                dots.draw_points(axis.parts(values), np.arange(len(values)) / per_dot, ink if means is None else None)
            elif means is None:
                dots.draw(*interpolated(line, axis, low, high, edges), ink, nth)
            if means is not None:
                dots.draw_thin(means, ink, nth, instead=False)
        broken |= drawn.broken
        dots.beyond(drawn.low, drawn.high, low, high)
    return broken


def interpolated(line: Envelope, axis: Axis, low: AnyArray, high: AnyArray, edges: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Extend low and high by straight lines between the points, for fewer points than columns. Values are parts of the axis."""
    first, last = max(int(edges[0]) - 1, 0), min(int(edges[-1]) + 2, len(line))
    if last - first < 2:
        return low, high
    centres = (edges[:-1] + edges[1:]) / 2
    ys = axis.parts(np.asarray(line.values[first:last], np.float64))
    between = np.interp(centres, np.arange(first, last), np.where(np.isfinite(ys), ys, np.nan), left=np.nan, right=np.nan)
    return np.fmin(low, between), np.fmax(high, between)


def _column(x: float, last: float, columns: int) -> int:
    """Return the column of cells of an x on an axis from 1 to `last`."""
    return min(max(round((columns - 1) * (x - 1) / (last - 1)), 0), columns - 1) if last > 1 else 0


def _x_axis(
    palette: Palette,
    margin: int,
    columns: int,
    last: float,
    current: float | None,
    crosses: AnyArray,
    per_epoch: int | None,
    *,
    low: bool,
) -> list[SegmentRow]:
    """Draw the axis with its ticks, and their labels below it, if it is `low` on it: epochs if there are at least two, otherwise
    points."""
    glyphs, dim = palette.glyphs, palette.dim
    widest = max(cell_len(label(last, 1)) + 2, 4)
    line, names = CellRow(columns), CellRow(columns)
    line.fill(0, [glyphs.axis_horizontal] * columns, dim)
    most, epochs = max(columns // (2 * widest), 2), 0 if per_epoch is None else math.ceil(last / per_epoch)
    if per_epoch is None or per_epoch < 2 or epochs < 3:
        marks = [(mark, label(mark, 1)) for mark in ticks(1, last, most, integers=True)]
    else:
        marks = [((epoch - 1) * per_epoch + 1, f"e{label(epoch, 1)}") for epoch in ticks(1, epochs, most, integers=True)]
    marker = _column(current, last, columns) if current is not None and 1 <= current <= last else None
    for mark, name in marks:
        column = _column(mark, last, columns)
        start = min(max(column - len(name) // 2, 0), columns - len(name))
        if low and marker is not None and start <= marker < start + len(name):  # beside the marker, which is over it
            start = marker + 1 if marker + len(name) < columns else marker - len(name)
        line.put(column, glyphs.tick_horizontal, dim)
        (line if low else names).put(start, name, dim)
    for cross in crosses.tolist():
        line.put(cross, glyphs.not_finite, palette.warning)
    if marker is not None:
        line.put(marker, glyphs.here, palette.accent)
    corner = Segment(" " * margin + glyphs.axis_corner, dim)
    return [(corner, *line.strip()), *([] if low else [(Segment(" " * (margin + 1)), *names.strip())])]


# ------------------------------------------------------------------------------
# The scale of the time line: conversion between ticks and columns, names of places, and divisions.


#: The least number of columns of a labelled division.
_LABEL = 12
#: The least number of columns between two divisions without labels, and between two timesteps.
_BARE, _TIMESTEP = 4, 6


class TimeScale(NamedTuple):
    """The ticks 0 … `span` on `width` columns: the first column is tick 0, the last column is tick `span`."""

    span: int
    width: int

    def column(self, tick: int) -> int:
        """Return the column of a tick, clipped to the row."""
        last = self.width - 1
        if self.span <= 0 or last <= 0:
            return 0
        return min(max((2 * tick * last + self.span) // (2 * self.span), 0), last)

    def tick(self, column: int) -> int:
        """Return the tick in the middle of a column, clipped to the span."""
        last = self.width - 1
        if last <= 0:
            return 0
        return min(max((2 * column * self.span + last) // (2 * last), 0), self.span)

    def batches(self, batch_ticks: int) -> AnyArray:
        """Return the edges of the columns, (width + 1,), in batches from 0."""
        return (np.arange(self.width + 1) - 0.5) * (self.span / max(self.width - 1, 1) / batch_ticks)


def divisions(scale: TimeScale, program: Program) -> Iterator[tuple[int, str]]:
    """Yield (tick, label) of round places, the most important first; with an empty label, only the tick is drawn.

    They are epochs if there are several, otherwise batches, otherwise timesteps; in a recording, its steps. Labels can be typed in
    `:go`.
    """
    batch, epoch = program.ticks, program.ticks * program.num_batches
    most = max(scale.width // _LABEL, 1)
    epochs, batches = -(-scale.span // epoch), -(-scale.span // batch)
    if steps := program.config.source.steps:
        shown = (
            range(batches)
            if batches <= most
            else at_steps(steps[:batches], ticks(steps[0], steps[batches - 1], most, integers=True))
        )
        for number in shown:
            yield number * batch, program.config.source.step(number)
        if batches <= most:
            yield from _timesteps(scale, program, batches)
        return
    yield 0, "e1"
    if batches <= most:
        for number in range(1, batches):
            e, b = divmod(number, program.num_batches)
            yield number * batch, f"b{b + 1}" if b else f"e{e + 1}"
        yield from _timesteps(scale, program, batches)
    elif epochs > 2:
        for n in ticks(1, epochs, most, integers=True):
            yield round(n - 1) * epoch, f"e{round(n)}"
        if epochs <= most:
            yield from ((n * batch, "") for n in range(batches) if n % program.num_batches)
        elif epochs * _BARE <= scale.width:
            yield from ((n * epoch, "") for n in range(epochs))
    else:
        yield from ((n * epoch, f"e{n + 1}") for n in range(1, epochs))
        complete = min(batches, program.num_batches)
        for n in ticks(1, complete, max(most // epochs, 1), integers=True):
            yield from ((e * epoch + round(n - 1) * batch, f"b{round(n)}") for e in range(epochs))


def at_steps(steps: Sequence[int], numbers: Iterable[float]) -> list[int]:
    """Return the batches of a recording that have these steps, or the first ones after them, in order; `steps` are all of it."""
    at = {bisect_left(steps, number) for number in numbers}
    return [0, *sorted(batch for batch in at if 0 < batch < len(steps))]


def _timesteps(scale: TimeScale, program: Program, batches: int) -> Iterator[tuple[int, str]]:
    """Yield the ends of timesteps and phases if there is room for them."""
    if scale.column(program.end_of_timestep(0)) < _TIMESTEP:
        return
    for number in range(batches):
        start = number * program.ticks
        yield start + program.loss_tick, "loss"
        for t in range(program.seq_length):
            yield start + program.end_of_timestep(t), f"t{t + 1}"
        yield start + program.backward_end, "update"
