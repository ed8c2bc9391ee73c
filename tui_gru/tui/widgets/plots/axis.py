"""The vertical axis of a curve, linear or logarithmic, with a range that leaves out exceptional values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from tui_gru.tui.widgets.plots.envelope import FEW, Envelope
from tui_gru.tui.widgets.written import AnyArray

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


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, both finite. With `log`, low must be > 0."""

    low: float
    high: float
    log: bool = False

    def parts(self, values: AnyArray) -> AnyArray:
        """Return the positions of values (any shape): 0 at `low`, 1 at `high`; 0.5 if low == high; NaN for NaN."""
        low, high = self._on_paper(self.low), self._on_paper(self.high)
        if high <= low:
            return np.where(np.isnan(values), np.nan, 0.5)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(values > 0, np.log10(values), np.where(np.isnan(values), np.nan, -np.inf))
        return (values - low) / (high - low)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return at most `count` round values on the axis with their labels."""
        if self.log and (found := self._log_ticks(count)):
            return [(value, label(value, value)) for value in found]
        marks = ticks(self.low, self.high, count)
        step = marks[1] - marks[0] if len(marks) > 1 else self.high - self.low
        return [(mark, label(mark, step)) for mark in marks]

    def _log_ticks(self, count: int) -> list[float]:
        """Return powers of ten, with 2 and 5 times those if there is room; an empty list if fewer than two fit."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for digits, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3), ((1,), 5), ((1,), 10), ((1,), 50)):
            marks = [digit * 10.0**power for power in range(first, last + 1) if power % every == 0 for digit in digits]
            marks = [mark for mark in marks if self.low <= mark <= self.high]
            if len(marks) <= count:
                return marks if len(marks) > 1 else []
        return []

    def _on_paper(self, value: float) -> float:
        return math.log10(value) if self.log else value


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


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Return at most `count` round numbers from low to high, in steps of 1, 2 or 5 times a power of ten; integers if `whole`."""
    span = high - low
    if count < 1 or not (math.isfinite(span) and span > 0):
        return [low] if count >= 1 and math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / count))
    for step in (m * power for m in (1, 2, 5, 10, 20, 50, 100)):
        if whole and step < 1:
            continue
        slack = 0 if whole else 1e-9
        first, last = math.ceil(low / step - slack), math.floor(high / step + slack)
        if last - first + 1 <= count:
            marks = [index * step for index in range(first, last + 1)]
            return marks if whole else [min(max(mark, low), high) for mark in marks]  # rounding must not leave the range
    return []


def label(value: float, step: float) -> str:
    """Return the label of a tick, with only the decimals that its step needs: `0.25`, `1,000`, `2e-06`."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
    return f"{value:,.{decimals}f}"
