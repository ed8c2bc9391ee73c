"""The watches: each expression with its current value, and its previous one if it has just changed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size

from tui_gru.debugger.breakpoints.resolved import computed_here
from tui_gru.debugger.program.naming import shown_char
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.stops import Watched
from tui_gru.engine import numbers
from tui_gru.engine.numbers import same
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.boxes import EMPTY, Box, SegmentRow, from_rows
from tui_gru.tui.widgets.panel import PanelRows
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles, View

#: The largest part of the width for expressions, and the cells before and after them.
_PART, _LEAD, _GAP = 0.5, 2, 2
#: The width of the longest expression with the longest value, in cells.
_WIDEST = 2000
_LARGEST_WHOLE = 1e9
#: The position in an error message, which is of no use where the typed text is not visible.
_COLUMN = re.compile(r"^column \d+: ")
#: An array of more elements is summarized.
_MOST = 64
_Parts = list[tuple[str, Style]]


class Watches(SnapshotPanel):
    """A row per enabled watch, so that rows do not move while stepping. A watch that stops runs has a sign before it.

    Only the rows in view are evaluated.
    """

    ABOUT = "The watched expressions: their values now and before the last step."

    _shown: tuple[int, ...] = ()  # the indices of the watches

    def titles(self, snapshot: Snapshot) -> Titles:
        return "watches", with_keys(self, "<stops> edits")

    def show(self, snapshot: Snapshot, view: View) -> None:
        rows = len(self._shown)
        self._shown = tuple(i for i, watch in enumerate(snapshot.stops.watches) if watch.enabled)
        super().show(snapshot, view)
        if rows != len(self._shown):
            self.refresh(layout=True)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box | PanelRows:
        if not self._shown:
            return EMPTY
        width = self.canvas(width, height, lambda: Size(_WIDEST, 0)).width
        half = max(int(width * _PART) - _LEAD, 4)
        names = (transliterate(snapshot.stops.watches[i].expression, self.palette.glyphs) for i in self._shown)
        column = min(max(map(cell_len, names)), half)

        def draw(row: int) -> SegmentRow:
            watched = snapshot.watched[self._shown[row]]
            return from_rows([self._row(watched, just_changed(snapshot, watched), column, width)]).rows[0]

        return PanelRows(len(self._shown), width, draw)

    def _row(self, watched: Watched, fresh: bool, column: int, width: int) -> SegmentRow:
        """Draw an expression, at least `column` cells of it, and its value after the column or wherever it fits."""
        palette, glyphs = self.palette, self.palette.glyphs
        expression = transliterate(watched.watch.expression, glyphs)
        room = max(width - _LEAD - _GAP, 0)
        value = written_value(palette, watched, max(room - min(cell_len(expression), column), 0), fresh=fresh)
        room -= sum(cell_len(segment.text) for segment in value)
        name = cut(expression, room, glyphs)
        return (
            Segment(f"{glyphs.breakpoint if watched.watch.stops else ' '} ", palette.warning),
            Segment(name, palette.accent if fresh else palette.keyword),
            Segment(" " * (_GAP + max(min(column, room) - cell_len(name), 0))),
            *value,
        )


def just_changed(snapshot: Snapshot, watched: Watched) -> bool:
    """Return True if the line just executed has changed the value. A value computed for the first time has not changed."""
    if watched.before is None or watched.value is None or _same(watched.value, watched.before):
        return False
    learns = snapshot.record.gradients is not None
    return computed_here(watched.watch.expression, snapshot.program, snapshot.position, learns=learns)


def written_value(palette: Palette, watched: Watched, room: int, *, fresh: bool) -> SegmentRow:
    """Draw the value in at most `room` cells; if `fresh`, as `old → new` if both fit, otherwise with changes highlighted."""
    if watched.error:
        return _fitted(palette, [(_COLUMN.sub("", watched.error), palette.warning)], room)
    if watched.value is None:
        return _fitted(palette, [(palette.glyphs.blank, palette.blank)], room)
    if not fresh:
        return _fitted(palette, _value(palette, watched.value, None, room), room)
    old = [(text, palette.dim) for text, _ in _value(palette, watched.before, None, room)]
    new = _value(palette, watched.value, watched.before, room)
    both = [*old, (" → ", palette.dim), *new]
    return _fitted(palette, both if _width(palette, both) <= room else new, room)


def _value(palette: Palette, value: Any, before: Any, room: int) -> _Parts:
    """Return the styled pieces of a value; with `before`, differences from that value are highlighted."""
    ink = palette.plain if before is None else palette.accent
    if not isinstance(value, np.ndarray):
        return [(_single(value), ink)]
    if value.size <= _MOST:
        fresh = np.zeros(value.shape, bool) if before is None else _differs(value, before)
        parts = list(_elements(palette, value, fresh))
        if _width(palette, parts) <= room:
            return parts
    return [(_summary(value), ink)]


def _single(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, str):
        return "".join(map(shown_char, value))
    number = float(value)
    if math.isfinite(number) and number.is_integer() and abs(number) < _LARGEST_WHOLE:
        return f"{number + 0:.0f}"  # `+ 0` removes the sign of a negative zero
    return numbers.wide(number).strip()


def _elements(palette: Palette, value: NDArray[Any], fresh: NDArray[np.bool_]) -> Iterator[tuple[str, Style]]:
    """Yield the pieces of an array as `[+0.12 -0.30]`, nested by its dimensions."""
    yield "[", palette.dim
    for index, (element, new) in enumerate(zip(value, fresh, strict=True)):
        if index:
            yield " ", palette.plain
        if element.ndim:
            yield from _elements(palette, element, new)
        else:
            yield _element(element), palette.accent if new else palette.plain
    yield "]", palette.dim


def _element(value: Any) -> str:
    return str(int(value)) if value.dtype.kind == "b" else numbers.compact(value) if value.dtype.kind in "fiu" else str(value)


def _summary(value: NDArray[Any]) -> str:
    """Summarize an array whose elements do not fit: its shape, and the range of its numbers."""
    shape = "×".join(map(str, value.shape))
    if value.dtype.kind == "b":
        return f"{shape}, {int(value.sum())} true"
    if value.dtype.kind not in "fiu":
        return shape
    finite = value[np.isfinite(value)]
    lost = value.size - finite.size
    if not finite.size:
        return f"{shape}, none finite"
    words = f"{shape}, {numbers.compact(finite.min()).strip()} … {numbers.compact(finite.max()).strip()}"
    return f"{words}, {lost} not finite" if lost else words


def _same(value: Any, before: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(before, np.ndarray):
        return not _differs(np.asarray(value), before).any()
    return bool(same(value, before))


def _differs(value: NDArray[Any], before: Any) -> NDArray[np.bool_]:
    """Return where two arrays differ, as booleans; everywhere if their shapes differ. NaN equals NaN."""
    earlier = np.asarray(before)
    if earlier.shape != value.shape:
        return np.ones(value.shape, bool)
    return ~np.asarray(same(value, earlier))


def _width(palette: Palette, parts: _Parts) -> int:
    return sum(cell_len(transliterate(text, palette.glyphs)) for text, _ in parts)


def _fitted(palette: Palette, parts: _Parts, room: int) -> SegmentRow:
    """Return the pieces as segments, cut off with a mark if they do not fit."""
    segments: list[Segment] = []
    for text, style in parts:
        text = transliterate(text, palette.glyphs)
        shown = cut(text, room, palette.glyphs)
        segments.append(Segment(shown, style))
        room -= cell_len(shown)
        if shown != text:
            break
    return tuple(segments)
