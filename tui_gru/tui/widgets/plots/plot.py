"""Plots of long series: curves of braille dots with axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment

from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import EMPTY, Box, from_rows, hstack, overlay, pad, text, vstack
from tui_gru.tui.widgets.plots.axis import Axis, Scale, axis_of, label, ticks
from tui_gru.tui.widgets.plots.canvas import Canvas
from tui_gru.tui.widgets.plots.envelope import Envelope
from tui_gru.tui.widgets.plots.smoothing import LONG, mean_parts, smooth, standing_out
from tui_gru.tui.widgets.written import AnyArray

PlotSeries = Envelope | AnyArray | Sequence[float]

#: The least number of columns between two rules.
_RULES = 8


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
    here: float | None = None,
    pointed: float | None = None,
    second: PlotSeries | None = None,
    every: int | None = None,
    levels: Sequence[tuple[str, float]] = (),
    placeholder: str = "nothing yet",
) -> Plot:
    """Plot a series at x = 1, 2, 3 … in width × height cells, including the axes.

    `here` is an x marked on the axis, `pointed` an x at which a line is drawn. `second` is drawn dotted and in another colour
    behind the first. A faint rule follows every `every` points, unless that is too dense. `levels` are names and values: those in
    the range of the axis are drawn as dashed lines behind the series. Crosses on the axis mark values that are not finite.

    For a long series, each column of dots shows the range from lowest to highest, faint, with a smooth line over it; pass an
    `Envelope` to make that fast. Outliers are drawn in full colour, values off the axis as arrows at its edge, the furthest with
    its value.
    """
    lines = [_envelope(one) for one in (series, second) if one is not None]
    longest = max(len(line) for line in lines)
    rows = height - 2
    if longest == 0 or rows < 1:
        note = text(palette, placeholder, palette.dim)
        return Plot(pad(note, left=max((width - note.width) // 2, 0), top=max((height - 1) // 2, 0)) if height > 0 else EMPTY)
    last = float(max(longest, 2))
    axis = axis_of(lines, scale)
    marks = axis.ticks(max(rows // 3, min(rows // 2 + 1, 4)))
    margin = max((len(name) for _, name in marks), default=0)
    columns = width - margin - 1
    if columns < 4:
        return Plot(text(palette, label(float(lines[0].values[-1]), 0.001) if len(lines[0]) else placeholder, palette.dim))

    canvas = Canvas(palette, rows, columns)
    per_dot = (last - 1) / max(canvas.dots_across - 1, 1)
    broken = _draw(canvas, palette, lines, axis, per_dot)
    if every is not None and every / per_dot >= _RULES * canvas.dots_per_column:
        canvas.rule([math.floor((x - 0.5) / per_dot) for x in range(every, math.ceil(last), every) if x > 1])
    if pointed is not None:
        canvas.point(_column(pointed, last, columns))

    def row_of(y: float) -> int:
        part = float(axis.parts(np.array(y)))
        return round((rows - 1) * (1 - part))

    for name, y in levels:
        if axis.low <= y <= axis.high:
            canvas.level(row_of(y), name)
    at = {row_of(mark): name for mark, name in marks}
    glyphs = palette.glyphs
    upright = [
        (
            Segment(at.get(y, "").rjust(margin), palette.dim),
            Segment(glyphs.tick_vertical if y in at else glyphs.axis_vertical, palette.dim),
        )
        for y in range(rows)
    ]
    inside = hstack(from_rows(upright), canvas.box(), gap=0)
    crosses = np.flatnonzero(np.add.reduceat(broken, np.arange(0, len(broken), canvas.dots_per_column)))
    box = vstack(inside, _x_axis(palette, margin, columns, last, here, crosses))
    return Plot(box, margin, columns, last, canvas.standing_out)


def _draw(canvas: Canvas, palette: Palette, lines: Sequence[Envelope], axis: Axis, per_dot: float) -> AnyArray:
    """Draw the series, the first over the second. Return which columns of dots have a value that is not finite."""
    edges = (np.arange(canvas.dots_across + 1) - 0.5) * per_dot  # as indices: the first point is at x = 1
    broken = np.zeros(canvas.dots_across, bool)
    for line, ink, nth in zip(lines[::-1], (palette.second, palette.gate)[-len(lines) :], (3, 1)[-len(lines) :], strict=True):
        drawn = line.columns(edges)
        low, high = (axis.parts(values) for values in drawn[:2])
        if per_dot < 1:
            low, high = _joined(line, axis, low, high, edges)
        if per_dot >= LONG:
            means = mean_parts(line, axis, edges)
            out = standing_out(low, high, means)
            canvas.draw_long(low, high, smooth(means), out, ink, nth, faint=len(lines) == 1)
        else:
            canvas.draw(low, high, ink, nth)
        broken |= drawn.broken
        canvas.beyond(drawn.low, drawn.high, low, high)
    return broken


def _envelope(series: PlotSeries) -> Envelope:
    return series if isinstance(series, Envelope) else Envelope(series)


def _joined(line: Envelope, axis: Axis, low: AnyArray, high: AnyArray, edges: AnyArray) -> tuple[AnyArray, AnyArray]:
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


def _x_axis(palette: Palette, margin: int, columns: int, last: float, here: float | None, crosses: AnyArray) -> Box:
    """Draw the axis with its ticks and labels, in two rows."""
    glyphs = palette.glyphs
    widest = max(cell_len(label(last, 1)) + 2, 4)
    marks = ticks(1, last, max(columns // (2 * widest), 2), whole=True)

    line = [glyphs.axis_horizontal] * columns
    names = EMPTY if columns == 0 else text(palette, " " * columns)
    for mark in marks:
        column = _column(mark, last, columns)
        line[column] = glyphs.tick_horizontal
        name = text(palette, label(mark, 1), palette.dim)
        names = overlay(names, name, min(max(column - name.width // 2, 0), columns - name.width), 0)
    axis = text(palette, "".join(line), palette.dim)
    for cross in crosses.tolist():
        axis = overlay(axis, text(palette, glyphs.not_finite, palette.warning), cross, 0)
    if here is not None and 1 <= here <= last:
        axis = overlay(axis, text(palette, glyphs.here, palette.accent), _column(here, last, columns), 0)
    corner = text(palette, " " * margin + glyphs.axis_corner, palette.dim)
    return vstack(hstack(corner, axis, gap=0), pad(names, left=margin + 1))
