"""Arrays written as on a blackboard: aligned numbers between tall brackets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.engine import numbers
from tui_gru.tui.draw import Box, Cell, Refs, SegmentRow, bracket, from_rows
from tui_gru.tui.theme import Palette, transliterate

AnyArray = np.ndarray[Any, np.dtype[Any]]

#: The kind of an array, which decides its format and colours: signed numbers, numbers from 0 to 1 (gates, probabilities),
#: or one-hot rows.
NumberScale = Literal["signed", "unit", "onehot"]


class EntryFormat(NamedTuple):
    """The format of an entry of one kind: its width in cells and the function that writes it."""

    width: int
    write: Callable[[float], str]


ENTRIES: dict[tuple[NumberScale, bool], EntryFormat] = {
    ("signed", False): EntryFormat(numbers.WIDE, numbers.wide),
    ("signed", True): EntryFormat(numbers.COMPACT, numbers.compact),
    ("unit", False): EntryFormat(numbers.UNIT, numbers.unit),
    ("unit", True): EntryFormat(numbers.COMPACT_UNIT, numbers.compact_unit),
    ("onehot", False): EntryFormat(1, lambda x: f"{abs(x):.0f}" if x in (0, 1) else "?"),
    ("onehot", True): EntryFormat(1, lambda x: f"{abs(x):.0f}" if x in (0, 1) else "?"),
}


def scale_of(values: AnyArray | None) -> float:
    """Return the magnitude of the strongest colour: the largest finite |x|, rounded up to 1, 1.5, 2, 3, 5, 7 or 10.

    Rounding prevents colours from flickering while a number changes. The scale depends only on the values, not on earlier ones, so
    that a moment has the same colours however it was reached.
    """
    if values is None or values.size == 0:
        return 1.0
    largest = float(max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None)))
    if not math.isfinite(largest):
        largest = float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
    if largest == 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next((step * power for step in (1, 1.5, 2, 3, 5, 7) if largest <= step * power), 10 * power)


def entry_style(palette: Palette, kind: NumberScale, value: float, scale: float) -> Style:
    """Return the style of an entry by its value."""
    if kind == "onehot":
        return palette.strong if value else palette.dim
    if value == 0:
        return palette.dim
    return palette.signed(value / scale) if kind == "signed" else palette.unit(value)


def shown_indices(count: int, limit: int | None, focus: int | None = None) -> list[int | None]:
    """Return which of `count` lines to show in `limit` places: indices, and None where lines are left out.

    The first line, the last one and the one in focus are always shown. If the limit is too small for that, the lines around the one
    in focus are shown.
    """
    if limit is None or count <= limit:
        return list(range(count))
    middle = min(max(0 if focus is None else focus, 0), count - 1)
    if limit < 5:
        start = min(max(middle - limit // 2, 0), count - limit)
        return list(range(start, start + limit))
    if middle < limit - 2:
        return [*range(limit - 2), None, count - 1]
    if middle >= count - (limit - 2):
        return [0, None, *range(count - limit + 2, count)]
    room = limit - 4
    start = min(middle - room // 2, count - 2 - room)
    return [0, None, *range(start, start + room), None, count - 1]


def matrix(
    palette: Palette,
    values: AnyArray | None,
    *,
    kind: NumberScale = "signed",
    shape: tuple[int, int] | None = None,
    scale: float | None = None,
    fresh: bool = False,
    row: int | None = None,
    cursor: tuple[int, int] | None = None,
    compact: bool = False,
    column_labels: Sequence[str] | None = None,
    elide: tuple[int | None, int | None] = (None, None),
    focus: tuple[int | None, int | None] = (None, None),
    refs: Refs | None = None,
) -> Box:
    """Draw a matrix, or a vector as one row, between tall brackets.

    If `values` is None, they are not computed yet and drawn as dots in the given `shape`. `scale` is the |x| of the strongest
    colour, by default the largest of the array. `fresh` is True for values just computed; zeros among them stay dimmed. `row` is
    singled out: the others are dimmed. `cursor` marks one entry. `elide` is the most rows and columns to show, which include marked
    entries and the row and column in `focus`; the full shape is then written beside the matrix. `refs` maps row and column to
    references, at which a cursor can point.
    """
    table = None if values is None else np.atleast_2d(values)
    rows, columns = table.shape if table is not None else (shape or (1, 1))
    scale = scale_of(table) if scale is None else scale
    entry = ENTRIES[kind, compact]
    glyphs = palette.glyphs
    at_row, at_column = cursor if cursor is not None else (focus[0] if row is None else row, focus[1])
    shown_rows = shown_indices(rows, elide[0], at_row)
    shown_columns = shown_indices(columns, elide[1], at_column)
    labels = [] if column_labels is None else [transliterate(label, glyphs) for label in column_labels]
    width = max([entry.width, *(cell_len(labels[j]) for j in shown_columns if j is not None and j < len(labels))])
    dot = glyphs.blank.center(width)

    def cell(i: int, j: int) -> Segment:
        if table is None:
            return Cell.of(dot, palette.cursor if cursor == (i, j) else palette.blank, None if refs is None else refs(i, j))
        value = table[i, j]
        style = entry_style(palette, kind, float(value), scale)
        if cursor == (i, j):
            style = palette.cursor
        elif row is not None and i != row:
            style = palette.quiet(style)
        elif fresh and value != 0:
            style = palette.fresh(style)
        return Cell.of(entry.write(value).rjust(width), style, None if refs is None else refs(i, j))

    gap = Segment(" ")
    lines: list[SegmentRow] = []
    for i in shown_rows:
        line: list[Segment] = []
        for j in shown_columns:
            if line:
                line.append(gap)
            if i is not None and j is not None:
                line.append(cell(i, j))
            elif j is not None:
                line.append(Segment(glyphs.vertical_ellipsis.center(width), palette.dim))
            else:
                line.append(Segment(glyphs.ellipsis if i is not None else glyphs.diagonal_ellipsis, palette.dim))
        lines.append(tuple(line))
    box = bracket(palette, from_rows(lines, axis=max(len(lines) - 1, 0) // 2), palette.accent if fresh else None)
    if labels:
        box = _with_column_labels(palette, box, shown_columns, labels, width)
    if None in shown_rows or None in shown_columns or len(shown_rows) < rows or len(shown_columns) < columns:
        note = Segment(f" {rows}{glyphs.by}{columns}", palette.dim)
        box = from_rows((*box.rows[:-1], (*box.rows[-1], note)), box.axis)
    return box


def _with_column_labels(palette: Palette, box: Box, shown: list[int | None], labels: Sequence[str], width: int) -> Box:
    written = [" " if j is None else labels[j] if j < len(labels) else "" for j in shown]
    cells = [text if j is None else " " * (width - cell_len(text)) + text for j, text in zip(shown, written, strict=True)]
    line = " ".join(cells)
    lead = box.width - 1 - cell_len(line)  # the bracket is after the last column
    heading = (Segment(" " * lead), Segment(line, palette.dim))
    return from_rows((heading, *box.rows), box.axis + 1)
