"""Horizontal bars for a distribution over a few names, and columns side by side for a series."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment

from tui_gru.engine import numbers
from tui_gru.engine.running.weights import Array
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import Box, from_rows
from tui_gru.tui.widgets.refs import Cell, Ref

_WORD = " target"
#: The shortest bar in cells; with less room, only the numbers are drawn.
_SHORTEST = 4


def bars(
    palette: Palette,
    values: Sequence[float] | None,
    labels: Sequence[str],
    width: int,
    *,
    target: int | None = None,
    full: float = 1.0,
    write: Callable[[float], str] = numbers.unit,
    fresh: bool = False,
    word: bool = True,
    signed: bool = False,
    refs: Sequence[Ref] | None = None,
) -> Box:
    """Draw a bar for each label, with its value at the right.

    The target is between two markers, with `word` it is also named if there is room. If `values` is None, they are not computed
    yet and drawn as dots. `full` is the value of a bar of full length. With `signed`, the length of a bar is the magnitude of its
    value and its colour the sign; zeros are dimmed. `refs` are the references of the values.
    """
    names = [transliterate(label, palette.glyphs) for label in labels]
    name_width = max(map(cell_len, names), default=0)
    number_width = len(write(0.0))
    rest = width - (2 + name_width + 1 + 1 + number_width + 2)  # marker, name, number, marker, and the gaps between them
    word = word and target is not None and rest - len(_WORD) >= 2 * _SHORTEST
    length = rest - (len(_WORD) if word else 0)
    length = length if length >= _SHORTEST else 0

    rows = []
    for index, name in enumerate(names):
        chosen = index == target
        ink = palette.target if chosen else palette.gate
        name_style = palette.target if chosen else palette.plain
        row = [
            Segment(" " * (name_width - cell_len(name))),
            Segment(f"{palette.glyphs.target} " if chosen else "  ", palette.target),
            Segment(name, name_style),
            Segment(" "),
        ]
        if values is None:
            row.append(Segment(" " * length + " "))
            row.append(Segment(palette.glyphs.blank.center(number_width), palette.blank))
        else:
            value = float(values[index])
            number = palette.fresh(palette.plain) if fresh else name_style
            if signed:
                ink = palette.negative if value < 0 else palette.positive
                number = number if value else palette.dim
            row.append(Segment(bar(palette, abs(value / full) if signed else value / full, length), ink))
            row.append(Segment(" "))
            ink = number if math.isfinite(value) else palette.warning
            row.append(Cell.of(write(value), ink, None if refs is None else refs[index]))
        row.append(Segment(f" {palette.glyphs.target_end}" if chosen else "  ", palette.target))
        row.append(Segment((_WORD if chosen else " " * len(_WORD)) if word else "", palette.target))
        rows.append(row)
    return from_rows(rows)


def column_signs(palette: Palette, parts: Array, width: int = 1) -> str:
    """Return a column for each part (0 to 1, NaN as 0), each `width` cells wide."""
    signs = palette.glyphs.column
    levels = np.clip(np.rint(np.nan_to_num(parts) * (len(signs) - 1)), 0, len(signs) - 1).astype(int)
    return "".join(signs[level] * width for level in levels.tolist())


def bar(palette: Palette, part: float, length: int) -> str:
    """Return a bar over `part` (0 to 1) of `length` cells, in eighths if there are such glyphs, padded with blanks."""
    steps = len(palette.glyphs.bar) - 1
    filled = round(min(max(part, 0.0), 1.0) * length * steps) if math.isfinite(part) else 0
    if filled == 0 and part > 0 and length:
        filled = 1  # a part that is not 0 is drawn with at least one step
    whole, rest = divmod(filled, steps)
    return (palette.glyphs.bar[-1] * whole + (palette.glyphs.bar[rest] if rest else "")).ljust(length)
