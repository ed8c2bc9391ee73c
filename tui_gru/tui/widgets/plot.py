"""Curves: a long series drawn in braille dots between axes with round numbers, and as a sparkline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.palette import Palette
from tui_gru.tui.widgets.boxes import EMPTY, Box, from_rows, hstack, overlay, pad, text, vstack
from tui_gru.tui.widgets.envelope import Envelope
from tui_gru.tui.widgets.ticks import label, ticks
from tui_gru.tui.widgets.written import Array

Series = Envelope | Array | Sequence[float]

#: The fewest columns between two rules.
_RULES = 8

#: The bit of each of a braille pattern's dots, (4 rows, 2 columns), above U+2800.
_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def curve(
    palette: Palette,
    series: Series,
    width: int,
    height: int,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    here: float | None = None,
    second: Series | None = None,
    every: int | None = None,
    levels: Sequence[tuple[str, float]] = (),
    placeholder: str = "nothing yet",
) -> Box:
    """A plot of a series at x = 1, 2, 3 …, in width × height cells, axes and all.

    `x_range` is what the axis spans (default: the series), `here` an x to mark on it. `second` is drawn dotted, in
    another colour, under the first. A faint rule follows every `every` points, unless that is too dense. `levels` are
    heights with a name: those that the axis spans are dashed lines behind the series. A cross on the axis is where the
    series is not a finite number. Of a long series each column of dots shows lowest to highest; hand over an `Envelope`
    to have that cheap.
    """
    lines = [_envelope(one) for one in (series, second) if one is not None]
    longest = max(len(line) for line in lines)
    rows = height - 2
    if longest == 0 or rows < 1:
        note = text(palette, placeholder, palette.dim)
        return pad(note, left=max((width - note.width) // 2, 0), top=max((height - 1) // 2, 0)) if height > 0 else EMPTY
    x_low, x_high = x_range if x_range is not None else (1.0, float(max(longest, 2)))
    low, high = y_range if y_range is not None else _extent(lines, x_low, x_high)
    y_ticks = ticks(low, high, max(rows // 3, min(rows // 2 + 1, 4)))
    y_step = y_ticks[1] - y_ticks[0] if len(y_ticks) > 1 else high - low
    y_labels = [label(tick, y_step) for tick in y_ticks]
    margin = max(map(len, y_labels), default=0)
    columns = width - margin - 1
    if columns < 4:
        return text(palette, label(float(lines[0].values[-1]), 0.001) if len(lines[0]) else placeholder, palette.dim)

    canvas = _Canvas(palette, rows, columns)
    x_dots = canvas.dots_across
    per_dot = (x_high - x_low) / max(x_dots - 1, 1)
    edges = (x_low - 1) + (np.arange(x_dots + 1) - 0.5) * per_dot  # in indices: the first point is at x = 1
    broken = np.zeros(x_dots, bool)
    for line, ink, nth in zip(lines[::-1], (palette.second, palette.gate)[-len(lines) :], (3, 1)[-len(lines) :], strict=True):
        low_y, high_y, bad = line.columns(edges)
        if per_dot < 1:
            low_y, high_y = _joined(line, low_y, high_y, edges)
        canvas.draw(low_y, high_y, (low, high), ink, nth)
        broken |= bad
    if every is not None and every / per_dot >= _RULES * canvas.dots_per_column:
        canvas.rule([math.floor((x + 0.5 - x_low) / per_dot) for x in range(every, math.ceil(x_high), every) if x > x_low])

    def row_of(y: float) -> int:
        return round((rows - 1) * (high - y) / (high - low)) if high > low else rows // 2

    for name, y in levels:
        if low <= y <= high:
            canvas.level(row_of(y), name)
    place = [row_of(tick) for tick in y_ticks]
    at = dict(zip(place, y_labels, strict=True))
    glyphs = palette.glyphs
    axis = [
        (
            Segment(at.get(y, "").rjust(margin), palette.dim),
            Segment(glyphs.tick_vertical if y in at else glyphs.axis_vertical, palette.dim),
        )
        for y in range(rows)
    ]
    plot = hstack(from_rows(axis), canvas.box(), gap=0)
    crosses = np.flatnonzero(np.add.reduceat(broken, np.arange(0, x_dots, canvas.dots_per_column)))
    return vstack(plot, _x_axis(palette, margin, columns, (x_low, x_high), here, crosses))


def sparkline(palette: Palette, values: Series, width: int, style: Style | None = None) -> Box:
    """The series as one row of columns, lowest to highest; crosses where it is not a finite number."""
    line = _envelope(values)
    if not len(line) or width < 1:
        return text(palette, palette.glyphs.blank, palette.blank)
    count = min(width, len(line))
    low, high, broken = line.columns(np.linspace(0, len(line), count + 1))
    middle = (low + high) / 2
    least, most = (np.nanmin(middle), np.nanmax(middle)) if np.isfinite(middle).any() else (0.0, 0.0)
    levels = palette.glyphs.column
    ink = palette.gate if style is None else style
    signs = []
    for value, bad in zip(middle.tolist(), broken.tolist(), strict=True):
        if bad or math.isnan(value):
            signs.append(Segment(palette.glyphs.not_finite, palette.warning))
        else:
            part = (value - least) / (most - least) if most > least else 0.5
            signs.append(Segment(levels[1 + round(part * (len(levels) - 2))], ink))
    return from_rows([signs])


def _envelope(series: Series) -> Envelope:
    return series if isinstance(series, Envelope) else Envelope(series)


def _extent(lines: Sequence[Envelope], x_low: float, x_high: float) -> tuple[float, float]:
    """Lowest and highest of what the axis spans, with room around a flat line."""
    edges = np.linspace(math.floor(x_low) - 1, math.floor(x_high), 129)
    parts = [line.columns(edges) for line in lines]
    lows, highs = np.concatenate([p.low for p in parts]), np.concatenate([p.high for p in parts])
    if not np.isfinite(lows).any():
        return 0.0, 1.0
    low, high = float(np.nanmin(lows)), float(np.nanmax(highs))
    spare = (high - low) * 0.02 or abs(high) * 0.1 or 1.0
    return low - spare, high + spare


def _joined(line: Envelope, low: Array, high: Array, edges: Array) -> tuple[Array, Array]:
    """With fewer points than columns of dots, straight lines between the points."""
    first, last = max(int(edges[0]) - 1, 0), min(int(edges[-1]) + 2, len(line))
    if last - first < 2:
        return low, high
    centres = (edges[:-1] + edges[1:]) / 2
    ys = line.values[first:last]
    between = np.interp(centres, np.arange(first, last), np.where(np.isfinite(ys), ys, np.nan), left=np.nan, right=np.nan)
    return np.fmin(low, between), np.fmax(high, between)


def _x_axis(palette: Palette, margin: int, columns: int, span: tuple[float, float], here: float | None, crosses: Array) -> Box:
    """The axis with its ticks and labels, two rows."""
    glyphs = palette.glyphs
    low, high = span
    widest = max(cell_len(label(high, 1)) + 2, 4)
    marks = ticks(low, high, max(columns // (2 * widest), 2), whole=True)

    def column(x: float) -> int:
        return min(max(round((columns - 1) * (x - low) / (high - low)), 0), columns - 1) if high > low else 0

    line = [glyphs.axis_horizontal] * columns
    names = EMPTY if columns == 0 else text(palette, " " * columns)
    for mark in marks:
        line[column(mark)] = glyphs.tick_horizontal
        name = text(palette, label(mark, 1), palette.dim)
        names = overlay(names, name, min(max(column(mark) - name.width // 2, 0), columns - name.width), 0)
    axis = text(palette, "".join(line), palette.dim)
    for cross in crosses.tolist():
        axis = overlay(axis, text(palette, glyphs.not_finite, palette.warning), cross, 0)
    if here is not None and low <= here <= high:
        axis = overlay(axis, text(palette, glyphs.here, palette.accent), column(here), 0)
    corner = text(palette, " " * margin + glyphs.axis_corner, palette.dim)
    return vstack(hstack(corner, axis, gap=0), pad(names, left=margin + 1))


class _Canvas:
    """Dots in cells: 2 × 4 to a cell in braille, else one."""

    def __init__(self, palette: Palette, rows: int, columns: int) -> None:
        self._palette = palette
        self._rows, self._columns = rows, columns
        self.dots_per_column, self._dots_per_row = (2, 4) if palette.glyphs.braille else (1, 1)
        self.dots_across, self._dots_down = columns * self.dots_per_column, rows * self._dots_per_row
        self._dots = np.zeros((self._dots_down, self.dots_across), bool)
        self._inks: list[Style] = []
        self._ink = np.full((rows, columns), -1)  # which of the inks a cell is written in
        self._rules: list[int] = []
        self._levels: dict[int, str] = {}

    def draw(self, low: Array, high: Array, span: tuple[float, float], ink: Style, every: int) -> None:
        """Vertical runs of dots from low to high (n,), joined to their neighbours; only every so many columns."""
        bottom, top = span
        scale = (self._dots_down - 1) / (top - bottom) if top > bottom else 0.0
        upper = (top - high) * scale
        lower = (top - low) * scale
        gap_up = np.fmin(upper[1:], lower[:-1] - 1)  # reach up to the neighbour on the left, where it is higher
        gap_down = np.fmax(lower[1:], upper[:-1] + 1)
        upper = np.concatenate([upper[:1], np.where(np.isnan(upper[1:]), np.nan, gap_up)])
        lower = np.concatenate([lower[:1], np.where(np.isnan(lower[1:]), np.nan, gap_down)])
        rows = np.arange(self._dots_down)[:, None]
        with np.errstate(invalid="ignore"):
            dots = (rows >= np.rint(upper)) & (rows <= np.rint(lower))
        dots[:, np.arange(self.dots_across) % every != 0] = False
        self._dots |= dots
        cells = dots.reshape(self._rows, self._dots_per_row, self._columns, self.dots_per_column).any(axis=(1, 3))
        self._ink[cells] = len(self._inks)
        self._inks.append(ink)

    def rule(self, dots: list[int]) -> None:
        """Vertical lines at these columns of dots, wherever nothing is drawn."""
        self._rules = [dot // self.dots_per_column for dot in dots if dot < self.dots_across]
        self._inks.append(self._palette.dim)

    def level(self, row: int, name: str) -> None:
        """A dashed line along a row of cells, wherever nothing is drawn, with its name at the end; of two in a row the first."""
        self._levels.setdefault(row, name)
        self._inks.append(self._palette.dim)

    def box(self) -> Box:
        grouped = self._dots.reshape(self._rows, self._dots_per_row, self._columns, self.dots_per_column)
        if self._palette.glyphs.braille:
            patterns = np.einsum("rdce,de->rc", grouped, _BRAILLE)
            signs = [[chr(0x2800 + code) if code else " " for code in row] for row in patterns.tolist()]
        else:
            signs = [["*" if dot else " " for dot in row] for row in self._dots.tolist()]
        rows = []
        dash = transliterate("╌", self._palette.glyphs)
        for number, (row, inks) in enumerate(zip(signs, self._ink.tolist(), strict=True)):
            if (name := self._levels.get(number)) is not None:
                line = f" {name} ".rjust(len(row), dash) if len(name) + 2 < len(row) // 2 else dash * len(row)
                for column, sign in enumerate(line):
                    if row[column] == " ":
                        row[column], inks[column] = sign, len(self._inks) - 1
            for column in self._rules:
                if row[column] == " ":
                    row[column], inks[column] = self._palette.glyphs.vertical_ellipsis, len(self._inks) - 1
            runs: list[Segment] = []
            start = 0
            for end in range(1, len(row) + 1):
                if end == len(row) or inks[end] != inks[start]:
                    runs.append(Segment("".join(row[start:end]), self._inks[inks[start]] if inks[start] >= 0 else None))
                    start = end
            rows.append(runs)
        return from_rows(rows)
