"""A heat map: two cells per entry with its sign and its magnitude in tenths of the scale; and the order of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_gru.tui.look.themes import LEVELS, Palette
from tui_gru.tui.widgets.written import AnyArray, NumberScale

#: Cells per entry.
CELL = 2

_NOT_FINITE = LEVELS * 3 * 10
_BLANK, _LEFT_OUT = _NOT_FINITE + 1, _NOT_FINITE + 2
_CHOICES = ("", "rows", "columns", "rows and columns")


@lru_cache(maxsize=32)
def _segments(palette: Palette, kind: NumberScale) -> tuple[Segment, ...]:
    """Return a segment for every code: LEVELS colours × three signs (0, +, −) × ten digits, then not finite, blank, hidden."""
    segments = []
    faint = Style(color=palette.dim.color)  # small entries are dimmed, such that the large ones stand out
    tints = palette.signed_scale if kind == "signed" else palette.unit_scale
    for tint in tints:
        for sign in " +-" if kind == "signed" else "   ":
            for tenths, digit in enumerate("0000000001" if kind == "onehot" else "0123456789"):
                segments.append(Segment(f"{sign}{digit}", tint if tenths else tint + faint))
    segments.append(Segment(f" {palette.glyphs.not_finite}", palette.warning))
    segments.append(Segment(f" {palette.glyphs.blank}", palette.blank))
    segments.append(Segment(" " * CELL))
    return tuple(segments)


def levels(values: AnyArray, scale: float, *, signed: bool) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return, for each value, whether it is finite, its part of the scale, and the index of its colour."""
    finite = np.isfinite(values)
    part = np.clip(np.where(finite, values, 0) / scale, -1 if signed else 0, 1)
    return finite, part, np.rint((part / 2 + 0.5 if signed else part) * (LEVELS - 1)).astype(np.intp)


def _codes(values: AnyArray, kind: NumberScale, scale: float, least: float = 0.0) -> AnyArray:
    """Return the code of each entry, from its colour, sign and tenths of the scale: values (C,) -> int (C,)."""
    signed = kind == "signed"
    finite, part, level = levels(values, scale if signed else 1.0, signed=signed)
    sign = np.where(part > 0, 1, np.where(part < 0, 2, 0))
    tenths = np.minimum(np.abs(part) * 10, 9).astype(np.intp)
    codes = np.where(finite, (level * 3 + sign) * 10 + tenths, _NOT_FINITE)
    return np.where(finite & (np.abs(values) < least), _LEFT_OUT, codes) if least else codes


def heat_row(
    palette: Palette,
    values: AnyArray | None,
    count: int,
    *,
    kind: NumberScale,
    scale: float,
    cursor: int | None,
    quiet: bool,
    least: float = 0.0,
) -> Strip:
    """Draw a row of a heat map: values (C,), or None for `count` blanks; `cursor` is a column to mark.

    Entries with a magnitude below `least` are hidden.
    """
    table = _segments(palette, kind)
    numbers = [_BLANK] * count if values is None else _codes(values, kind, scale, least).tolist()
    row = [table[number] for number in numbers]
    if quiet:
        row = [Segment(segment.text, _quiet(palette, segment.style)) for segment in row]
    if cursor is not None and 0 <= cursor < len(row):
        row[cursor] = Segment(row[cursor].text, palette.cursor)
    return Strip(row, CELL * len(row))


@lru_cache(maxsize=1024)
def _quiet(palette: Palette, style: Style | None) -> Style:
    return palette.dim if style is None else palette.quiet(style)


class Ordering:
    """The order. `by` names what is sorted by size: rows, columns, both, or nothing. It does not change with the values."""

    def __init__(self) -> None:
        self.by = ""
        self._orders: list[Sequence[int] | None] = [None, None]  # of rows and columns; None if not sorted

    def next(self, values: AnyArray | None) -> None:
        """Switch between rows, columns, both and neither sorted by the size of these values; without values, sort neither."""
        from tui_gru.debugger.analysis.summaries import by_size  # imported late: not needed at the start

        self.by = _CHOICES[(_CHOICES.index(self.by) + 1) % len(_CHOICES)] if values is not None else ""
        for axis, word in enumerate(("rows", "columns")):
            self._orders[axis] = by_size(values, axis).tolist() if values is not None and word in self.by else None

    def entry(self, axis: int, position: int) -> int:
        """Return the row (axis 0) or column (axis 1) at a position on screen."""
        order = self._orders[axis]
        return position if order is None else order[position]

    def position(self, axis: int, entry: int) -> int:
        """Return the position of a row or a column on screen."""
        order = self._orders[axis]
        return entry if order is None else order.index(entry)

    def columns(self, first: int, last: int) -> slice | Sequence[int]:
        """Return the index of the columns at the positions `first` … `last` − 1."""
        order = self._orders[1]
        return slice(first, last) if order is None else order[first:last]
