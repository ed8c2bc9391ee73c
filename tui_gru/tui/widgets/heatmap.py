"""A matrix too large for its numbers: two cells an entry, with sign and first digit on a coloured ground."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui_gru.tui.palette import LEVELS, Palette
from tui_gru.tui.widgets.written import Array, Kind

#: Cells an entry takes.
CELL = 2

_NOT_FINITE = 3 * LEVELS
_BLANK = _NOT_FINITE + 1


@lru_cache(maxsize=32)
def _segments(palette: Palette, kind: Kind) -> tuple[Segment, ...]:
    """A segment for every code: LEVELS colours by three signs (−, 0, +), then not finite, then blank."""
    segments = []
    middle = LEVELS // 2
    for level in range(LEVELS):
        for sign in (-1, 0, 1):
            if kind == "signed":
                tenths = round(abs(level - middle) / middle * 9)
                segments.append(
                    Segment(f"{' ' if sign == 0 else '+' if sign > 0 else '-'}{tenths}", palette.signed_scale[level])
                )
            elif kind == "unit":
                tenths = round(level / (LEVELS - 1) * 10)
                segments.append(Segment(f"{tenths:2d}", palette.unit_scale[level]))
            else:
                one = level > middle
                segments.append(
                    Segment(" 1" if one else " 0", palette.strong + palette.unit_scale[-1] if one else palette.dim)
                )
    segments.append(Segment(f" {palette.glyphs.not_finite}", palette.warning))
    segments.append(Segment(f" {palette.glyphs.blank}", palette.blank))
    return tuple(segments)


def codes(values: Array, kind: Kind, scale: float) -> Array:
    """For each entry the number of its segment. values (R, C) -> int (R, C)."""
    finite = np.isfinite(values)
    safe = np.where(finite, values, 0)
    part = (safe / (2 * scale) + 0.5) if kind == "signed" else safe
    level = np.rint(np.clip(part, 0, 1) * (LEVELS - 1)).astype(np.intp)
    return np.where(finite, level * 3 + np.sign(safe).astype(np.intp) + 1, _NOT_FINITE)


def heat_row(
    palette: Palette, values: Array | None, count: int, *, kind: Kind, scale: float, cursor: int | None, quiet: bool
) -> Strip:
    """One row of a heat map. values (C,), or None for `count` blanks; `cursor` is a column to mark."""
    table = _segments(palette, kind)
    numbers = [_BLANK] * count if values is None else codes(values, kind, scale).tolist()
    row = [table[number] for number in numbers]
    if quiet:
        row = [Segment(segment.text, _quiet(palette, segment.style)) for segment in row]
    if cursor is not None and 0 <= cursor < len(row):
        row[cursor] = Segment(row[cursor].text, palette.cursor)
    return Strip(row, CELL * len(row))


@lru_cache(maxsize=1024)
def _quiet(palette: Palette, style: Style | None) -> Style:
    return palette.dim if style is None else palette.quiet(style)
