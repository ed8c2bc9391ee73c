"""A matrix on screen: its numbers if they fit, otherwise a heat map with a summary."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip

from tui_gru import analysis
from tui_gru.analysis.summaries import Summary
from tui_gru.engine import numbers
from tui_gru.engine.numbers import exact, significant
from tui_gru.tui.draw import EMPTY, Box, CellRow, Ref, Refs, SegmentRow, from_rows, merged_segments
from tui_gru.tui.panel import LabelledPlace, Panel, contents
from tui_gru.tui.terminal import NumberInView
from tui_gru.tui.theme import LEVELS, Palette, fitting, transliterate, truncated
from tui_gru.tui.written import ENTRIES, AnyArray, NumberScale, bracketed_matrix, scale_of

if TYPE_CHECKING:
    from tui_gru.analysis.summaries import ValueRange

# ------------------------------------------------------------------------------
# A heat map: two cells per entry with its sign and its magnitude in tenths of the scale; and the order of rows and columns.


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
    codes = [_BLANK] * count if values is None else _codes(values, kind, scale, least).tolist()
    row = [table[number] for number in codes]
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

    def follow(self, columns: Sequence[int] | None) -> None:
        """Take an order of the columns from others, or their own if it is None; unless they are sorted."""
        if not self.by:
            self._orders[1] = columns

    def next(self, values: AnyArray | None) -> None:
        """Switch between rows, columns, both and neither sorted by the size of these values; without values, sort neither."""
        self.by = _CHOICES[(_CHOICES.index(self.by) + 1) % len(_CHOICES)] if values is not None else ""
        for axis, word in enumerate(("rows", "columns")):
            self._orders[axis] = (
                analysis.summaries.by_size(values, axis).tolist() if values is not None and word in self.by else None
            )

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


# ------------------------------------------------------------------------------
# A matrix on screen: its numbers if they fit, otherwise a scrolling heat map with a summary.


#: Rows above a heat map (summary and column names), and the least height of a heat map.
_HEAD, _LEAST_MAP = 2, 5
#: The cells of the title before a matrix that is drawn in cells, of the shares after it, short and in words, and the least between
#: them; and the most cells of an entry.
NAME, _SHARES, _SPELLED, LEAST_CELLS, _MOST = 17, 20, 25, 24, 4


@lru_cache(maxsize=4096)
def _halves(upper: Style, lower: Style) -> Style:
    """Return the style of an upper half block in the background of one style, over that of another."""
    return Style(color=upper.bgcolor, bgcolor=lower.bgcolor)


class MatrixView(Panel):
    """Shows a two-dimensional array (a vector is one row), as dots if it is not computed yet.

    With the focus, arrow keys move a cursor, and the border shows the exact number under it. If the numbers do not fit, a heat map
    with a summary line is shown; in a panel too low for a heat map, a histogram with shares. If `mapped`, it is drawn beside its
    title in cells, one for each column, whose halves are two rows.
    """

    SHOWS_FOCUS = True
    ASKING = frozenset({"choose"})
    MOVING = frozenset({"move", "page", "edge"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1, 0)", "Number", key_display="arrows"),
        ("down", "move(1, 0)"),
        ("left", "move(0, -1)"),
        ("right", "move(0, 1)"),
        ("pageup", "page(-1)"),
        ("pagedown", "page(1)"),
        ("home", "edge(-1)"),
        ("end", "edge(1)"),
        Binding("enter", "choose", "Explain"),
        ("comma", "sort"),
        ("underscore", "near_zero"),
    ]

    cursor: reactive[tuple[int, int]] = reactive((0, 0))

    def __init__(self, name: str = "", *, id: str | None = None, classes: str | None = None) -> None:
        """Create a view. `name` is the title in the border. `refs`, if set later, maps entries to references of the run."""
        super().__init__(id=id, classes=classes)
        self.title = name
        self.refs: Refs | None = None
        self.values: AnyArray | None = None
        self.shape = (1, 1)
        self.kind: NumberScale = "signed"
        self.row: int | None = None
        self.scale = 1.0
        self.limits: ValueRange | None = None
        self.near_zero_shown = True
        self.mapped = False
        self.captioned = ""
        self._shown_array: object = None  # what `show_array` was last given
        self._summary: tuple[str, Summary] | None = None  # with the form that it is for
        self._widest_name: int | None = None
        self._ordering = Ordering()
        self._rank = 0  # of the entry to which `go_to_largest` moved last

    def show_array(
        self,
        values: AnyArray | None,
        *,
        kind: NumberScale = "signed",
        shape: tuple[int, int] | None = None,
        scale: float | None = None,
        fresh: bool = False,
        row: int | None = None,
        limits: ValueRange | None = None,
        named: Hashable = None,
    ) -> None:
        """Show this array. None is a value that is not computed yet, drawn as dots in `shape` (by default the last one shown).

        `scale` is the |x| with the strongest colour, by default the largest of the array, rounded up. `fresh` is True for a value
        just computed. `row` is singled out: the others are dimmed. `limits` are those of a value that can be saturated.
        `named` is what the names of the array and its entries depend on. If all is as before, nothing is drawn.
        """
        shown = contents(values), kind, shape, scale, fresh, row, limits, named
        self.values = None if values is None else np.atleast_2d(values)
        if shown == self._shown_array:
            return
        self._shown_array = shown
        self.limits, self._summary, self._widest_name = limits, None, None
        if self.values is not None:
            self.shape = (self.values.shape[0], self.values.shape[1])
        elif shape is not None:
            self.shape = shape
        self.kind, self.row = kind, row
        self.scale = scale_of(self.values) if scale is None else scale
        self.fresh = fresh
        self.set_reactive(MatrixView.cursor, self.validate_cursor(self.cursor))
        self.caption()
        self.refresh_content()

    @property
    def as_numbers(self) -> bool:
        """True if the array is shown as numbers, False if as a heat map or a histogram."""
        return not self._in_cells and self._entry_form(self.content_size) is not None

    def name_cell(self, row: int, column: int) -> str:
        """Return the name of an entry in the border, by default two 0-based indices."""
        return f"[{row}, {column}]"

    def name_row(self, row: int) -> str:
        """Return the name in front of a row of a heat map."""
        return str(row)

    def name_column(self, column: int) -> str:
        """Return the name above a column of a heat map."""
        return str(column)

    def place_of(self, row: int, column: int) -> str:
        """Return the place of an entry in words."""
        return self.name_cell(row, column)

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        return [] if self.values is None or self.refs is None else [(self.refs(0, 0), self.values)]

    # Drawing

    @property
    def in_view(self) -> range:
        """The rows that are shown if there is room for numbers: all."""
        return range(self.shape[0])

    def _entry_form(self, room: Size) -> bool | None:
        """Return whether entries are written compactly, None if not even those fit."""
        columns = self.shape[1]
        for compact in (False, True):
            width = columns * (ENTRIES[self.kind, compact].width + 1) + 1
            if len(self.in_view) <= room.height and width <= room.width:
                return compact
        return None

    def build(self, width: int, height: int) -> Box:
        compact, rows = self._entry_form(Size(width, height)) or False, self.in_view
        return bracketed_matrix(
            self.palette,
            None if self.values is None else self.values[rows.start : rows.stop],
            kind=self.kind,
            shape=(len(rows), self.shape[1]),
            scale=self.scale,
            fresh=self.fresh,
            row=None if self.row is None else self.row - rows.start,
            cursor=(self.cursor[0] - rows.start, self.cursor[1]) if self.has_focus else None,
            compact=compact,
        )

    @property
    def form(self) -> Literal["numbers", "map", "strips", "cells"]:
        """The form of the drawing: cells, numbers, a heat map, or, without room for its rows, a histogram with shares."""
        if self._in_cells:
            return "cells"
        if self.as_numbers:
            return "numbers"
        return "map" if self.content_size.height >= _LEAST_MAP or not self._framed else "strips"

    @property
    def _framed(self) -> bool:
        """True if a heat map has a frame. It has none if the whole map fits only without one."""
        (rows, columns), (width, height) = self.shape, self.content_size
        bare = rows <= height and CELL * columns <= width
        return not bare or (rows + _HEAD <= height and height >= _LEAST_MAP and self._label_width + CELL * columns <= width)

    @property
    def _head(self) -> int:
        """The number of fixed rows above a heat map."""
        return _HEAD if self._framed else 0

    @property
    def summary(self) -> Summary | None:
        """The summary of the array, or of the selected row in a panel without room for a map; None if it is not computed yet."""
        form = self.form
        if self.values is not None and (self._summary is None or self._summary[0] != form):
            one = self.row is not None and self.row < len(self.values) and form == "strips"
            values = self.values[self.row : self.row + 1] if one and self.row is not None else self.values
            self._summary = (
                form,
                analysis.summaries.summary(values, self.limits, bins=0 if form == "cells" else BINS),
            )  # a histogram is half of the time
        return None if self._summary is None else self._summary[1]

    @property
    def _gutter(self) -> int:
        """The number of fixed cells in front of a heat map."""
        return self._label_width if self._framed else 0

    @property
    def _label_width(self) -> int:
        """The width of the row names with a blank, 0 for a single row."""
        if self._widest_name is None:
            rows = self.shape[0]
            self._widest_name = max(cell_len(self.name_row(row)) for row in range(rows)) + 1 if rows > 1 else 0
        return self._widest_name

    def _built(self) -> Box:
        form = self.form
        if form != self.captioned:
            self.call_next(self.caption)  # the content size may change without a resize of the panel
        if form == "numbers":
            return super()._built()
        (count, columns), (width, height) = self.shape, self.content_size
        virtual_size = Size(0, 0)
        if form == "map":
            room = width - (self.styles.scrollbar_size_vertical if count + self._head > height else 0)
            wide = self._gutter + CELL * columns
            # Half an entry is never shown, so the last one may need one more cell of scrolling.
            virtual_size = Size(wide + CELL - 1 if wide > room else wide, count + self._head)
        if virtual_size != self.virtual_size:  # not during drawing, since it causes a layout
            self.call_next(self._set_virtual_size, virtual_size)
        if form == "strips":
            return Box([tuple(strip) for strip in self._summary_rows(width, height)], width)
        if form == "cells":
            return self._cells(width, height)
        return EMPTY  # a heat map is drawn line by line on demand

    def render_line(self, y: int) -> Strip:
        if self.form != "map":
            return super().render_line(y)
        width = self.scrollable_content_region.width
        return self._map_line(y, width).adjust_cell_length(width).apply_style(self._ground)

    @property
    def _in_cells(self) -> bool:
        return self.mapped and not self.zoomed

    def _cells(self, width: int, height: int) -> Box:
        palette, signed = self.palette, self.kind == "signed"
        ink = palette.accent if self.fresh else palette.strong if self.has_focus else palette.plain
        title = truncated(transliterate(self.title or "", palette.glyphs), NAME - 1, palette.glyphs)
        lead, below = Segment(title + " " * (NAME - cell_len(title)), ink), Segment(" " * NAME)
        if self.values is None:
            return from_rows([(lead, Segment(palette.glyphs.blank, palette.blank))])
        rows, columns = self.rows_in_cells(height), self._columns_in_cells(width)
        finite, _, level = levels(self.values, self.scale if signed else 1.0, signed=signed)
        scale = palette.signed_scale if signed else palette.unit_scale
        styles = {
            i: [scale[k] if good else palette.warning for good, k in zip(finite[i].tolist(), level[i].tolist(), strict=True)]
            for i in rows
        }
        at = columns.index(self.cursor[1]) if self.has_focus and self.cursor[1] in columns else None
        drawn, size = list[SegmentRow](), self._cell_size(width)
        for upper, *lower in (rows[y : y + 2] for y in range(0, len(rows), 2)):
            tops = styles[upper]
            inks = [_halves(tops[j], styles[lower[0]][j]) if lower else tops[j] for j in columns if j is not None]
            signs = ["▀" if lower else " "] * len(inks)
            if None in columns:
                signs.insert(columns.index(None), palette.glyphs.ellipsis)
                inks.insert(columns.index(None), palette.dim)
            if at is not None and self.cursor[0] in (upper, *lower):  # the half of the other row is drawn in the ink of the cursor
                signs[at] = " " if not lower else "▄" if self.cursor[0] == upper else "▀"
                inks[at] = palette.cursor
            drawn.append((below if drawn else lead, *merged_segments([sign * size for sign in signs], inks)))
        room = width - NAME - len(columns) * size - 2
        if (summary := self.summary) is not None and room + 2 >= _SHARES:
            words = list(_words(summary, self.kind, self._where, short=room < _SPELLED))
            both = "  ".join((words[0].ljust(len("0 % near ±1") if room >= _SPELLED else 0), *words[1:2]))
            for y, word in enumerate(words[: len(drawn)] if len(drawn) > 1 or cell_len(both) > room else [both]):
                drawn[y] = (
                    *drawn[y],
                    Segment(f"  {truncated(transliterate(word, palette.glyphs), room, palette.glyphs)}", palette.dim),
                )
        return from_rows(drawn)

    def rows_in_cells(self, height: int) -> list[int]:
        """Return the rows of the matrix that cells show: that which is singled out, or as many as fit, with that of the cursor."""
        if self.row is not None:
            return [self.row]
        count = min(2 * max(height, 1), self.shape[0])
        first = min(max(self.cursor[0] - count + 1, 0) if self.has_focus else 0, self.shape[0] - count)
        return list(range(first, first + count))

    def _cell_size(self, width: int) -> int:
        """Return the cells of an entry: more than one where all columns and the shares in words have room."""
        return min(max((width - NAME - _SPELLED - 2) // max(self.shape[1], 1), 1), _MOST)

    def _columns_in_cells(self, width: int) -> list[int | None]:
        """Return the columns in their order; if they do not fit, the first and the last of them with None between."""
        count, room = self.shape[1], max(width - NAME, LEAST_CELLS)
        first = (room - 1) // 2
        places = range(count) if count <= room else (*range(first), None, *range(count - (room - 1 - first), count))
        return [None if place is None else self._ordering.entry(1, place) for place in places]

    def _summary_rows(self, width: int, height: int) -> Sequence[Strip]:
        """Draw a panel without room for a map: its summary. With the focus, the row and the place of the cursor come first."""
        rows = strips(self.palette, self.summary, self.kind, self._where, width, height)
        if not self.has_focus or self.values is None:
            return rows
        row, at = self.cursor[0], self._ordering.position(1, self.cursor[1])
        first = min(max(at - width // (2 * CELL), 0), max(self.shape[1] - width // CELL, 0))
        heat = self._heat(row, first, min(first + width // CELL, self.shape[1]))
        place = truncated(transliterate(self.place_of(*self.cursor), self.palette.glyphs), width, self.palette.glyphs)
        return [heat, Strip([Segment(place, self.palette.plain)]), *rows[1:]][:height]

    def _map_line(self, y: int, width: int) -> Strip:
        """Draw a line of a heat map: the summary, the names of the columns, or a row. Only the entries in view are computed."""
        head, gutter = self._head, self._gutter
        if head and y == 0:
            return summary_strip(self.palette, self.summary, self.kind, self._where, width)
        first = self.scroll_offset.x // CELL
        last = min(first + max(width - gutter, 0) // CELL, self.shape[1])
        if y < head:
            names = [self.name_column(self._ordering.entry(1, place)) for place in range(first, last)]
            marked = self._ordering.position(1, self.cursor[1]) - first if self.has_focus else None
            return column_strip(self.palette, names, first, self.shape[1], gutter, width, marked)
        place = self.scroll_offset.y + y - head
        if place >= self.shape[0]:
            return Strip.blank(width)
        row = self._ordering.entry(0, place)
        if not gutter:
            return self._heat(row, first, last)
        name = transliterate(self.name_row(row), self.palette.glyphs)
        chosen = row == self.row or (self.has_focus and row == self.cursor[0])
        ink = self.palette.strong if chosen else self.palette.dim
        label = Segment(" " * (gutter - 1 - cell_len(name)) + name + " ", ink)
        return Strip.join([Strip([label], gutter), self._heat(row, first, last)])

    def _heat(self, row: int, first: int, last: int) -> Strip:
        """Draw the entries of a row at the positions `first` … `last` − 1."""
        return heat_row(
            self.palette,
            None if self.values is None else self.values[row, self._ordering.columns(first, last)],
            last - first,
            kind=self.kind,
            scale=self.scale,
            cursor=self._ordering.position(1, self.cursor[1]) - first if self.has_focus and row == self.cursor[0] else None,
            quiet=self.row is not None and row != self.row,
            least=0.0 if self.near_zero_shown else self._least,
        )

    @property
    def _least(self) -> float:
        """The magnitude below which the summary counts an entry as near zero."""
        summary = self.summary
        if summary is None or not summary.finite:
            return 0.0
        ends = (self.limits.low, self.limits.high) if self.limits is not None else (summary.smallest, summary.largest)
        return analysis.summaries.NEAR_ZERO * max(map(abs, ends))

    def _where(self, index: tuple[int, ...]) -> str:
        row = index[0] if self.row is None or self.form != "strips" else self.row
        return self.place_of(row, index[1])

    # Order and hiding

    def sort(self) -> str:
        """Switch between rows, columns, both and neither sorted by their present size. Return which are sorted now."""
        self._ordering.next(self.values)
        self._changed()
        return self._ordering.by

    def unsort(self) -> None:
        """Restore the order of rows and columns, for another array."""
        self._ordering = Ordering()

    @property
    def sorted_by(self) -> str:
        """What is sorted by size: rows, columns, rows and columns, or nothing."""
        return self._ordering.by

    def toggle_near_zero(self) -> bool:
        """Hide the entries near zero in a heat map, or show them again. Return True if they are shown."""
        self.near_zero_shown = not self.near_zero_shown
        self._changed()
        return self.near_zero_shown

    def action_sort(self) -> None:
        self.sort()

    def action_near_zero(self) -> None:
        self.toggle_near_zero()

    def _changed(self) -> None:
        self.caption()
        self.refresh_content()
        self._show_cursor()

    # Important entries

    @property
    def exact(self) -> str:
        """The number under the cursor with all its digits; a dot if it is not computed yet."""
        return self.palette.glyphs.blank if self.values is None else exact(self.values[self.cursor])

    def go_to_largest(self) -> int | None:
        """Move the cursor to the largest entry, or from it to the next largest. Return its 1-based rank, None without entries."""
        if self.values is None:
            return None
        places = analysis.summaries.largest_entries(self.values, self._rank + 1)
        on_it = 0 < self._rank <= len(places) and places[self._rank - 1] == self.cursor
        self._rank = self._rank + 1 if on_it and self._rank < len(places) else 1
        if not places:
            return None
        self.cursor = (places[self._rank - 1][0], places[self._rank - 1][1])
        return self._rank

    def unrank(self) -> None:
        """Have `go_to_largest` begin with the largest entry again."""
        self._rank = 0

    def saturated_unit(self) -> int | None:
        """Return the next unit after the cursor that is saturated in nearly all rows, in a circle; None if there is none."""
        if self.values is None or self.limits is None:
            return None
        return analysis.summaries.next_saturated_unit(self.values, self.limits, self.cursor[1])

    def go_to_saturated(self) -> bool:
        """Move the cursor to the next unit that is saturated in nearly all rows, in a circle. Return False if there is none."""
        unit = self.saturated_unit()
        if unit is None:
            return False
        self.cursor = (self.cursor[0], unit)
        return True

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self.shape[0]

    def get_content_width(self, container: Size, viewport: Size) -> int:
        columns = self.shape[1]
        return min(columns * (ENTRIES[self.kind, False].width + 1) + 1, max(container.width, CELL))

    def plain_text(self) -> str:
        """Return all entries in full, a line per row."""
        rows = [] if self.values is None else [" ".join(exact(x) for x in row) for row in self.values]
        return "".join(f"{line}\n" for line in (self.heading, "", *rows))

    # The cursor

    def validate_cursor(self, cursor: tuple[int, int]) -> tuple[int, int]:
        rows, columns = self.shape
        return min(max(cursor[0], 0), max(rows - 1, 0)), min(max(cursor[1], 0), max(columns - 1, 0))

    def watch_cursor(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        self.refresh_content()
        self._show_cursor()
        self.caption()

    def _show_cursor(self) -> None:
        """Scroll to the entry under the cursor."""
        if self.form == "map":  # the fixed rows and cells cover a part of the scrolled area
            row, column = (self._ordering.position(axis, entry) for axis, entry in enumerate(self.cursor))
            region = Region(CELL * column, row, self._gutter + 2 * CELL - 1, 1 + self._head)
            self.scroll_to_region(region, animate=False, force=True)

    @property
    def note_room(self) -> int:
        """The cells for the text below, by default in its own border."""
        return self.border_room

    def caption(self) -> None:
        """Set the title, and below the number under the cursor or, without the focus, the shape and the scale of a heat map."""
        if not self.is_attached:
            return
        note: str | list[str] | None = None
        self.captioned = self.form
        if self.has_focus and self.shape[0] and self.shape[1]:
            note = f"{self.name_cell(*self.cursor)} = {self.exact}"
            if len(note) > self.note_room:
                note = self.exact  # the digits matter more than the place, which is in view
        elif not self.as_numbers:
            note = self._map_notes()
        elif len(shown := self.in_view) < self.shape[0]:
            rows = f"row {shown.start + 1}" if len(shown) == 1 else f"rows {shown.start + 1} to {shown.stop}"
            note = f"{rows} of {self.shape[0]}"
        self.set_titles(self.title, note)

    def _map_notes(self) -> list[str]:
        """Return the shape and the scale; of a map whose entries are all in view only the scale, if there is no room for both."""
        by, room, scale = self.palette.glyphs.by, self.border_room, self.scale if self.kind == "signed" else 1
        shape = f"{self.shape[0]}{by}{self.shape[1]}"
        if self.kind == "onehot" or self.values is None or self.form != "map":
            return [shape]
        tenths = f"tenths of {significant(scale)}" if self.kind == "signed" else "tenths"
        notes = [shape, tenths]
        if not self._framed and len(" · ".join(notes)) > room:
            notes = [next((note for note in (tenths, f"{by}{significant(scale / 10)}") if len(note) <= room), shape)]
        notes += [f"{self.sorted_by} by size"] if self.sorted_by else []
        return notes if self.near_zero_shown else [*notes, "near 0 hidden"]

    def action_move(self, rows: int, columns: int) -> None:
        """Move the cursor by a number of positions on screen."""
        places = (self._ordering.position(axis, self.cursor[axis]) + by for axis, by in enumerate((rows, columns)))
        row, column = self.validate_cursor((next(places), next(places)))
        if self.shape[0] and self.shape[1]:
            self.cursor = (self._ordering.entry(0, row), self._ordering.entry(1, column))

    def action_page(self, direction: int) -> None:
        self.action_move(direction * max(self.content_size.height - (1 if self.as_numbers else self._head), 1), 0)

    def action_edge(self, direction: int) -> None:
        self.action_move(0, direction * self.shape[1])

    def choose(self) -> None:
        if self.refs is not None:
            self.request("number", self.refs(*self.cursor))

    def numbers_in_view(self) -> Iterator[NumberInView]:
        """Yield the entries, if they are numbers."""
        if self.refs is None or self.values is None or self.form != "numbers":
            return
        (width, height), name = self.content_size, self.refs(0, 0).name
        entry = ENTRIES[self.kind, bool(self._entry_form(self.content_size))].width
        for y in range(height):
            columns: dict[tuple[int, int], int] = {}
            for x in range(width):
                if (cell := self._cell_at(x, y)) is not None:
                    columns.setdefault(cell, x)
            for cell, x in columns.items():
                yield NumberInView(x, y, entry, name, float(self.values[cell]))

    def places(self) -> Sequence[LabelledPlace]:
        """Return the entries, if they are numbers; otherwise the rows in view, as many as there are letters for."""
        if self.refs is None or not self.shape[0] or not self.shape[1]:
            return ()
        width, height = self.content_size
        if self.form == "numbers":
            placed = dict[tuple[int, int], LabelledPlace]()
            for y in range(height):
                for x in range(width):
                    if (cell := self._cell_at(x, y)) is not None:
                        placed.setdefault(cell, LabelledPlace(x, y))
            return list(placed.values())
        if self.form == "cells":
            rows = self.rows_in_cells(height)
            return [LabelledPlace(0, y // 2, self.shape[1], rows[y]) for y in range(0, len(rows), 2) if y // 2 < height]
        if self.form == "map":
            shown = range(self._head, height)
            rows = [y - self._head + self.scroll_offset.y for y in shown]
            return [
                LabelledPlace(0, y, self.shape[1], self._ordering.entry(0, row))
                for y, row in zip(shown, rows, strict=True)
                if row < self.shape[0]
            ]
        return [LabelledPlace(0, 0, self.shape[1], self.cursor[0])]

    def point_to(self, place: LabelledPlace, column: int = 0) -> None:
        if place.columns:
            self.cursor = (place.row, column)
        else:
            super().point_to(place)

    def entry_of_column(self, place: int) -> int:
        return self._ordering.entry(1, place)

    def largest_size(self) -> float | None:
        places = [] if self.values is None else analysis.summaries.largest_entries(self.values, 1)
        return None if self.values is None or not places else abs(float(self.values[places[0]]))

    def go_to_largest_number(self) -> None:
        self.unrank()
        self.go_to_largest()

    def column_at(self, place: int) -> int | None:
        if self.form == "cells":
            width = self.content_size.width
            columns = self._columns_in_cells(width)
            entry = self._ordering.entry(1, place)
            return NAME + columns.index(entry) * self._cell_size(width) if entry in columns else None
        if self.form == "map":
            at = self._gutter + place * CELL - self.scroll_offset.x
            return at if self._gutter <= at < self.content_size.width else None
        return None

    def point_at(self, x: int, y: int) -> bool:
        cell = self._cell_at(x, y)
        if cell is not None:
            self.cursor = cell
        return cell is not None

    def _cell_at(self, x: int, y: int) -> tuple[int, int] | None:
        """Return the entry at a position in the panel, None if there is none."""
        if self._in_cells:
            width, height = self.content_size
            rows, columns = self.rows_in_cells(height), self._columns_in_cells(width)
            place = (x - NAME) // self._cell_size(width)
            chosen = columns[place] if 0 <= place < len(columns) else None
            return (rows[2 * y], chosen) if chosen is not None and 2 * y < len(rows) else None
        compact = self._entry_form(self.content_size)
        if compact is not None:
            row = y + self.in_view.start if y < len(self.in_view) else -1
            column = (x - 1) // (ENTRIES[self.kind, compact].width + 1)  # after the bracket
        elif self.form == "map" and y >= self._head and x >= self._gutter:
            row, column = y - self._head + self.scroll_offset.y, (x - self._gutter) // CELL + self.scroll_offset.x // CELL
        else:
            return None
        inside = 0 <= row < self.shape[0] and 0 <= column < self.shape[1]
        return (self._ordering.entry(0, row), self._ordering.entry(1, column)) if inside else None


# ------------------------------------------------------------------------------
# The frame of a heat map: a summary line and column names; and the summary shown instead of a map in a low panel.


BINS = 48  # of a summary; the columns of the widest histogram
_COLUMNS = 16  # cells of the histogram in a summary line, at most
_EVERY = 5  # every fifth column has its number above
_WIDE = 50  # cells for the words of a summary line; narrower lines use abbreviations

Where = Callable[[tuple[int, ...]], str]


def histogram(palette: Palette, summary: Summary, width: int) -> Segment:
    """Draw the histogram of a summary, `width` cells wide. A bin that is not empty has at least the lowest column."""
    counts = [int(part.sum()) for part in np.array_split(summary.counts, max(min(width, len(summary.counts)), 1))]
    signs, tallest = palette.glyphs.column, max(counts, default=0) or 1
    heights = [min(-(-n * (len(signs) - 1) // tallest), len(signs) - 1) for n in counts]
    cells, more = divmod(max(width, 0), len(heights))
    return Segment("".join(signs[level] * (cells + (i < more)) for i, level in enumerate(heights)), palette.gate)


def summary_strip(palette: Palette, summary: Summary | None, kind: NumberScale, where: Where, width: int) -> Strip:
    """Draw the summary of a matrix in a line: histogram, range, shares, and the largest entry with its place."""
    if summary is None:
        return Strip([Segment(truncated("not computed yet", width, palette.glyphs), palette.blank)]).adjust_cell_length(width)
    columns = min(_COLUMNS, width // 5)
    room = width - columns - 2
    bad = summary.entries - summary.finite
    words = list(_words(summary, kind, where, short=room < _WIDE))
    low, high = (numbers.compact(x).strip() for x in (summary.smallest, summary.largest))
    all_of_it = " · ".join([f"{low} … {high}", *words] if summary.finite else words)
    shown = transliterate(all_of_it if cell_len(all_of_it) <= room else fitting(words, room), palette.glyphs)
    ink = palette.warning if bad else palette.dim
    row = [histogram(palette, summary, columns), Segment(f"  {truncated(shown, room, palette.glyphs)}", ink)]
    return Strip(row).adjust_cell_length(width)


def strips(palette: Palette, summary: Summary | None, kind: NumberScale, where: Where, width: int, height: int) -> Sequence[Strip]:
    """Draw the summary of a matrix for a panel without room for its rows: the histogram, and the shares below it."""
    if summary is None:
        return [Strip([Segment(palette.glyphs.blank * width, palette.blank)], width)] * min(height, 1)
    strip_rows = [Strip([histogram(palette, summary, width)], width)]
    bad = summary.entries - summary.finite
    line = ""
    for word in _words(summary, kind, where, short=True):
        word = word if cell_len(word) <= width else word.partition(" at ")[0]  # rather without its place than cut
        longer = f"{line}  {word}" if line else word
        if line and cell_len(longer) > width:
            strip_rows.append(_line(palette, line, width, bad=bad > 0 and len(strip_rows) == 1))
            longer = word
        line = longer
    strip_rows.append(_line(palette, line, width, bad=bad > 0 and len(strip_rows) == 1))
    return strip_rows[:height]


def _line(palette: Palette, words: str, width: int, *, bad: bool) -> Strip:
    text = truncated(transliterate(words, palette.glyphs), width, palette.glyphs)
    return Strip([Segment(text, palette.warning if bad else palette.dim)]).adjust_cell_length(width)


def _words(summary: Summary, kind: NumberScale, where: Where, *, short: bool) -> Iterator[str]:
    """Yield what is not finite, the shares of entries, the mean of a gate and the largest entry, the most important first."""
    if bad := summary.entries - summary.finite:
        yield f"{bad:,} not finite"
    if not summary.finite:
        return
    limits = summary.limits
    if limits is not None and limits.low == 0:
        yield _share(summary, summary.low, "0", short)
        yield _share(summary, summary.high, f"{limits.high:g}", short)
        yield f"mean {numbers.compact_unit(summary.mean).strip()}"
    elif limits is not None:
        yield _percent(summary, summary.saturated, f"≈±{limits.high:g} {{}}" if short else f"{{}} near ±{limits.high:g}", short)
    if limits is None or limits.low < 0:
        yield _share(summary, summary.near_zero, "0", short)
    if summary.dead:
        yield f"{summary.dead} dead" if short else numbers.counted(summary.dead, "dead unit")
    if summary.peak is not None and kind == "signed":
        largest = summary.largest if summary.largest >= -summary.smallest else summary.smallest
        yield f"{'max' if short else 'largest'} {numbers.compact(largest).strip()} at {where(summary.peak)}"


def _share(summary: Summary, count: int, near: str, short: bool) -> str:
    return _percent(summary, count, f"≈{near} {{}}" if short else f"{{}} near {near}", short)


def _percent(summary: Summary, count: int, words: str, short: bool) -> str:
    share = summary.share(count)
    percent = "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
    return words.format(percent.replace(" ", "") if short else percent)


def column_strip(
    palette: Palette, names: Sequence[str], first: int, count: int, gutter: int, width: int, marked: int | None
) -> Strip:
    """Draw the names of the columns in view above their cells: all characters, every fifth number, or as many names as fit; and a
    mark at a side where others are out of view.

    `first` is the first column in view, 0-based, of `count`; `marked` is the index in `names` of the column under the cursor.
    """
    row = CellRow(width)
    for is_cut, x in ((first > 0, gutter), (first + len(names) < count, gutter + CELL * len(names) - 1)):
        if is_cut and names and row.free(x, 1):
            row.put(x, palette.glyphs.ellipsis, palette.dim)
    if marked is not None and 0 <= marked < len(names):
        _put(row, gutter + CELL * marked, names[marked], palette.strong, palette)
    in_order = all(name.isdecimal() and int(name) == first + i + 1 for i, name in enumerate(names))
    spacing = -(-(max(map(cell_len, names), default=1) + 1) // CELL)  # columns from one name to the next
    for i, name in enumerate(names):
        if int(name) % _EVERY == 0 or int(name) == 1 if in_order else i % spacing == 0:
            _put(row, gutter + CELL * i, name, palette.dim, palette)
    return row.strip()


def _put(row: CellRow, x: int, name: str, ink: Style, palette: Palette) -> None:
    """Write a name above its column unless it would touch another name."""
    name = transliterate(name, palette.glyphs)
    x += cell_len(name) == 1
    if row.free(x - 1, cell_len(name) + 1) or (x == 0 and row.free(x, cell_len(name))):
        row.put(x, name, ink)
