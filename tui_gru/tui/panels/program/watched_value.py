"""Formats a watched value on one line: a number, a truth value, a text, or as much of an array as fits."""

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

from tui_gru.debugger.breakpoints.resolved import computed_here
from tui_gru.debugger.program.naming import shown_char
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.stops import Watched
from tui_gru.engine import numbers
from tui_gru.engine.numbers import same
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.widgets.boxes import Row

_LARGEST_WHOLE = 1e9
#: The position in an error message, which is of no use where the typed text is not visible.
_COLUMN = re.compile(r"^column \d+: ")
#: An array of more elements is summarized.
_MOST = 64


def just_changed(snapshot: Snapshot, watched: Watched) -> bool:
    """Return True if the line just executed has changed the value. A value computed for the first time has not changed."""
    if watched.before is None or watched.value is None or _same(watched.value, watched.before):
        return False
    learns = snapshot.record.gradients is not None
    return computed_here(watched.watch.expression, snapshot.program, snapshot.position, learns=learns)


def written_value(palette: Palette, watched: Watched, room: int, *, fresh: bool) -> Row:
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


_Parts = list[tuple[str, Style]]


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


def _fitted(palette: Palette, parts: _Parts, room: int) -> Row:
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
