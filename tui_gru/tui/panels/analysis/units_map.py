"""Units over time: units by characters as a heat map, with what each goes with; the unit under the cursor as a curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.message import Message

from tui_gru.debugger.analysis.activity import Activity, Correlated, over_row
from tui_gru.debugger.analysis.classes import CharacterClass
from tui_gru.debugger.program.naming import shown_char
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.running.weights import Array
from tui_gru.tui.look.characters import cut, fitting, in_context, one_cell
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.look.palette import LEVELS, Palette
from tui_gru.tui.view import View
from tui_gru.tui.widgets.boxes import EMPTY, Box, Row, clip, from_rows
from tui_gru.tui.widgets.cells import NumberAsked
from tui_gru.tui.widgets.overlay import Overlay, hidden
from tui_gru.tui.widgets.refs import Ref

SORTS = ("by class", "by variation", "by number", "like this one")
_NOTES = (
    (90, 24),
    (60, 15),
)  # least width of the panel, and cells for the class of each unit; narrower panels show it below the map only
_WIDEST = 6  # cells of a character, in a row of few
_FOOT = 5  # rows under the map: the curve of the unit, and where it is on
_PICKED = 4  # units whose curves are kept, at most
_HALF = 0.5  # of the scale: from there on a cell has a sign, so that colour does not stand alone
_WEAK = 0.1  # a correlation under this is not worth saying
_NOT_FINITE = LEVELS * 3


class UnitsMap(Overlay):
    """Of a row of the batch it is live; of a whole text it shows the weights that read it."""

    ASKING = frozenset({"choose", "row"})
    BINDINGS: ClassVar[list[BindingType]] = hidden(
        ("up", "unit(-1)", "Unit before"),
        ("down", "unit(1)", "Next unit"),
        ("left", "character(-1)", "Character before"),
        ("right", "character(1)", "Next character"),
        ("pageup", "page(-1)", "Back"),
        ("pagedown", "page(1)", "On"),
        ("home", "character(-999999999)", "Beginning"),
        ("end", "character(999999999)", "End"),
        ("greater_than_sign", "place(1)", "Next place where it is on"),
        ("less_than_sign", "place(-1)", "The one before"),
        ("slash", "class", "A class of characters"),
        ("tab", "sort", "Sort"),
        ("space", "pick", "Keep its curve"),
        ("r", "row", "Row or text"),
        ("enter", "choose", "Explain, or go there"),
    )

    class RowAsked(Message):
        """Another row of the batch is to be shown, 0-based, or with None the whole text."""

        def __init__(self, name: str, row: int | None) -> None:
            super().__init__()
            self.name, self.row = name, row

    class ClassAsked(Message):
        """A class of characters is to be typed."""

    class PlaceAsked(Message):
        """A character of the text, 0-based, is to be gone to."""

        def __init__(self, at: int) -> None:
            super().__init__()
            self.at = at

    def __init__(self, activity: Activity, notes: Sequence[Correlated], *, of: str = "") -> None:
        """`notes` say of each unit what it goes with; `of` says in words when a whole text was read."""
        super().__init__()
        self.activity, self._of = activity, of
        self._notes, self._class = list(notes), ""
        self._sort, self._order = SORTS[1], list[int]()
        self.unit, self.at = 0, 0
        self._first, self._top = 0, 0
        self._room, self._cell = (1, 1), 1  # units and characters in view, and cells of a character
        self._snapshot: Snapshot | None = None
        self._places: list[int] = []
        self.picked: list[int] = []
        self._sort = SORTS[0] if self._notes else SORTS[1]
        self._arrange()
        self.unit = self._order[0]

    def show(self, snapshot: Snapshot, view: View) -> None:
        activity = self.activity
        if activity.row is not None and (self._snapshot is None or snapshot.moment is not self._snapshot.moment):
            self.activity = over_row(snapshot.moment, activity.name, activity.row)
            self.at = min(snapshot.position.t, len(self.activity.values) - 1)
        self._snapshot = snapshot
        self._changed()

    def go_with(self, chosen: CharacterClass) -> None:
        """Sort by the correlation with a class of characters, and say it of each unit. Raises `TuiGruError`."""
        found = self.activity.class_correlations(chosen)
        self._notes = [Correlated(chosen.name, float(r)) for r in found]
        self._class, self._sort = chosen.name, SORTS[0]
        self._arrange()
        self.unit = self._order[0]
        self._changed()

    def _arrange(self) -> None:
        units = range(self.activity.units)
        if self._sort == "by class":
            key = [-abs(note.r) for note in self._notes]
        elif self._sort == "by variation":
            key = [-float(d) for d in self.activity.deviations]
        elif self._sort == "like this one":
            key = [-abs(float(r)) for r in self.activity.correlations(self.unit)]
            key[self.unit] = -2.0
        else:
            key = [float(unit) for unit in units]
        self._order = sorted(units, key=lambda unit: (key[unit], unit))

    # Drawing

    def build(self, width: int, height: int) -> Box:
        if self._snapshot is None:
            return EMPTY
        palette = self.palette
        label = self._label
        notes = next((cells for least, cells in _NOTES if width >= least), 0) if self._notes else 0
        room, down = max(width - label - notes, 1), max(min(height - 1 - _FOOT - len(self._kept), self.activity.units), 1)
        self._cell = min(max(room // max(len(self.activity.values), 1), 1), _WIDEST)
        across = room // self._cell
        self._room = (down, across)
        self._keep_in_view()
        here = slice(self._first, self._first + across)
        rows: list[Row] = [(Segment(" " * label), *self._characters(palette, here))]
        shown = self._order[self._top : self._top + down]
        scale, bounded = self._scale()
        codes = _codes(self.activity.values[here][:, shown].T, scale, signed=bounded != (0, 1))
        table = _table(palette, self._cell, bounded == (0, 1))
        for unit, code in zip(shown, codes, strict=True):
            chosen = unit == self.unit
            ink = palette.accent if chosen else palette.plain
            cells = _merged(table, code.tolist())
            note = self._note(unit, notes - 2) if notes else ""
            gap = " " * (room - len(code) * self._cell)
            rows.append((Segment(self._called(unit).ljust(label), ink), *cells, Segment(gap), Segment(f"  {note}", palette.dim)))
        rows += self._foot(palette, label, here, width)
        return clip(palette, from_rows(rows), width, height)

    @property
    def _label(self) -> int:
        """Cells before the map and its curves."""
        return len(f"curve {self.activity.units}") + 1

    def _called(self, unit: int) -> str:
        return f"unit {unit + 1}"

    def _note(self, unit: int, room: int) -> str:
        """What a unit goes with; where there is no room for the whole name, its beginning."""
        note = self._notes[unit]
        r = f" {note.r:+.2f}"
        return cut(str(note.what), room - len(r), self.palette.glyphs) + r if abs(note.r) >= _WEAK else ""

    def _scale(self) -> tuple[float, tuple[float, float]]:
        assert self._snapshot is not None
        low, high = self._snapshot.program.ranges.get(self.activity.name, (-np.inf, np.inf))
        if np.isfinite(high - low):
            return max(abs(low), abs(high)), (low, high)
        finite = self.activity.values[np.isfinite(self.activity.values)]
        return float(np.abs(finite).max(initial=0.0)) or 1.0, (low, high)

    def _characters(self, palette: Palette, here: slice) -> Iterator[Segment]:
        """The characters over their cells; the one under the cursor stands out."""
        text = self.activity.text[here] if self.activity.text else "·" * len(self.activity.values[here])
        shown = "".join(one_cell(char, palette.glyphs).center(self._cell) for char in text)
        at, after = ((self.at - self._first + i) * self._cell for i in (0, 1))
        yield Segment(shown[:at], palette.dim)
        yield Segment(shown[at:after], palette.cursor)
        yield Segment(shown[after:], palette.dim)

    @property
    def _kept(self) -> list[int]:
        """The units picked out, but for that under the cursor, which has its curve in any case."""
        return [unit for unit in self.picked if unit != self.unit]

    def _curve(self, palette: Palette, unit: int, label: int, here: slice) -> Row:
        """A unit as columns under the characters."""
        scale, (low, _) = self._scale()
        values, column = self.activity.unit(unit)[here], palette.glyphs.column
        parts = np.nan_to_num((values / scale if low == 0 else (values / scale + 1) / 2), nan=0.0)
        levels = np.clip(np.rint(parts * (len(column) - 1)), 0, len(column) - 1).astype(int)
        bars = "".join(column[k] * self._cell for k in levels.tolist())
        ink = palette.accent if unit == self.unit else palette.plain
        return (Segment(f"curve {unit + 1}".ljust(label), ink), Segment(bars, palette.gate))

    def _foot(self, palette: Palette, label: int, here: slice, width: int) -> Iterator[Row]:
        activity, unit = self.activity, self.unit
        for each in (*self._kept, unit):
            yield self._curve(palette, each, label, here)
        now = activity.unit(unit)[self.at]
        words = "not computed yet" if not np.isfinite(now) else f"{now:+.4f}"
        char = f" after “{shown_char(activity.text[self.at])}”" if activity.text else f" at t {self.at + 1}"
        like = [f"{self._called(int(each.what))} ({each.r:+.2f})" for each in activity.like(unit, 3) if abs(each.r) >= _WEAK]
        goes = f" · goes with {self._note(unit, width)}" if self._notes and abs(self._notes[unit].r) >= _WEAK else ""
        yield _line(palette, f"{words}{char}{goes}", width, f"like it: {', '.join(like)}" if like else "")
        for said, places in (("most on in  ", activity.most(unit, 4)), ("least in    ", activity.least(unit, 4))):
            yield tuple(self._excerpts(palette, said, [place.at for place in places], width))
        yield ()

    def _excerpts(self, palette: Palette, said: str, places: Sequence[int], width: int) -> Iterator[Segment]:
        """Places of the text, the character highlighted; as many as there is room for."""
        yield Segment(said, palette.dim)
        room = width - len(said)
        for at in places if self.activity.text else ():
            parts = in_context(self.activity.text, at, 10, 6, palette.glyphs)
            used = sum(map(cell_len, parts)) + 3
            if used > room:
                return
            room -= used
            yield from (Segment(parts[0], palette.plain), Segment(parts[1], palette.target + Style(reverse=True)))
            yield Segment(f"{parts[2]}   ", palette.plain)
        if not self.activity.text:
            yield Segment(", ".join(f"t {at + 1}" for at in places), palette.plain)

    def _keep_in_view(self) -> None:
        down, across = self._room
        length = len(self.activity.values)
        self._first = max(min(self._first, length - across), 0)
        self._first = min(max(self._first, self.at + 1 - across), self.at)
        place = self._order.index(self.unit)
        self._top = max(min(self._top, self.activity.units - down), 0)
        self._top = min(max(self._top, place + 1 - down), place)

    def _changed(self) -> None:
        activity, program = self.activity, self._snapshot.program if self._snapshot is not None else None
        name = program.writer.name(activity.name) if program is not None else activity.name
        of = f"row {activity.row + 1}, live" if activity.row is not None else f"the text, {self._of}"
        sort = f"with {self._class}" if self._class and self._sort == SORTS[0] else self._sort
        hints = [
            f"tab: {sort}",
            "/ class",
            "< > where it is on",
            "r row or text",
            "space keeps",
            "enter there",
            with_keys(self, "<stop> closes"),
        ]
        count = f"{self.at + 1:,} of {len(activity.values):,}"
        self.set_titles(f"{name} over {of} · {count}", fitting(hints, max(self.outer_size.width - 6, 0) or 10**6))
        self.refresh_content()

    def on_resize(self) -> None:
        self._changed()

    # Keys

    def action_unit(self, by: int) -> None:
        place = self._order.index(self.unit) + by
        self._choose_unit(self._order[min(max(place, 0), len(self._order) - 1)])

    def _choose_unit(self, unit: int) -> None:
        if unit != self.unit:
            self.unit, self._places = unit, []
        self._changed()

    def action_character(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), len(self.activity.values) - 1)
        self._changed()

    def action_page(self, by: int) -> None:
        self.action_character(by * self._room[1])

    def action_place(self, by: int) -> None:
        """The next of the places where the unit is highest, in the order of the text."""
        self._places = self._places or sorted(place.at for place in self.activity.most(self.unit, 20))
        ahead = [at for at in self._places if (at - self.at) * by > 0]
        if ahead:
            self.at = min(ahead, key=lambda at: abs(at - self.at))
            self._changed()

    def action_sort(self) -> None:
        sorts = SORTS if self._notes else SORTS[1:]
        self._sort = sorts[(sorts.index(self._sort) + 1) % len(sorts)]
        self._arrange()
        self._changed()

    def action_pick(self) -> None:
        """Keep the curve of the unit under the cursor, or no longer; of too many the newest stay."""
        if self.unit in self.picked:
            self.picked.remove(self.unit)
        else:
            self.picked = [*self.picked, self.unit][-_PICKED:]
        self._changed()

    def action_class(self) -> None:
        self.post_message(self.ClassAsked())

    def action_row(self) -> None:
        """The whole text, then row after row."""
        rows = self._snapshot.config.batch_size if self._snapshot is not None else 0
        after = 0 if self.activity.row is None else self.activity.row + 1
        self.post_message(self.RowAsked(self.activity.name, after if after < rows else None))

    def action_choose(self) -> None:
        if self.activity.row is not None:
            self.post_message(NumberAsked(Ref(self.activity.name, (self.activity.row, self.unit), self.at)))
        else:
            self.post_message(self.PlaceAsked(self.at))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or not 1 <= offset.y <= self._room[0]:
            return
        label = self._label
        self.at = min(max(self._first + (offset.x - label) // self._cell, 0), len(self.activity.values) - 1)
        self._choose_unit(self._order[min(self._top + offset.y - 1, len(self._order) - 1)])


def _codes(values: Array, scale: float, *, signed: bool) -> Array:
    """For each entry the number of its segment: its colour, by its sign where that is large."""
    finite = np.isfinite(values)
    part = np.clip(np.where(finite, values, 0) / scale, -1 if signed else 0, 1)
    level = np.rint((part / 2 + 0.5 if signed else part) * (LEVELS - 1)).astype(np.intp)
    sign = np.where(part >= _HALF, 1, np.where(part <= -_HALF, 2, 0))
    return np.where(finite, level * 3 + sign, _NOT_FINITE)


@lru_cache(maxsize=8)
def _table(palette: Palette, width: int, unit: bool) -> tuple[Segment, ...]:
    """A segment for every code: the colours of the scale by three signs, then what is not there."""
    scale = palette.unit_scale if unit else palette.signed_scale
    found = [Segment(sign.center(width), tint) for tint in scale for sign in (" ", "+", "-")]
    return (*found, Segment(palette.glyphs.blank.center(width), palette.blank))


def _merged(table: Sequence[Segment], codes: Sequence[int]) -> Iterator[Segment]:
    """Cells beside each other that look the same as one segment."""
    begin = 0
    for i in range(1, len(codes) + 1):
        if i == len(codes) or codes[i] != codes[begin]:
            segment = table[codes[begin]]
            yield segment if i == begin + 1 else Segment(segment.text * (i - begin), segment.style)
            begin = i


def _line(palette: Palette, words: str, width: int, right: str) -> Row:
    words, right = transliterate(words, palette.glyphs), transliterate(right, palette.glyphs)
    words = cut(words, width, palette.glyphs)
    room = width - cell_len(words) - 2
    right = right if cell_len(right) <= room else ""
    return (Segment(words, palette.plain), Segment(" " * (room + 2 - cell_len(right))), Segment(right, palette.dim))
