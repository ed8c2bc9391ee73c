"""The listing of the program, the log, and the watches."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip

from tui_gru.debugger.position import as_typed, position_of
from tui_gru.debugger.program import ListingRow, Program, ProgramLine, shown_char
from tui_gru.debugger.stops import Breakpoint, LogLine, Watch, Watched, computed_here, described
from tui_gru.engine import numbers
from tui_gru.engine.numbers import same
from tui_gru.engine.source import Ability
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui import draw as boxes
from tui_gru.tui.draw import EMPTY, Box, RowsOnDemand, SegmentRow, clip, from_rows, row_width, shortened_row, styled_row, text_box
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import Compared, LabelledPlace, SnapshotPanel, Titles
from tui_gru.tui.theme import Glyphs, Palette, transliterate, truncated

# ------------------------------------------------------------------------------
# The listing of the program, with an arrow at the line just executed.


#: Cells before the text: breakpoint, arrow or trail, and a blank.
_GUTTER = 3
#: Rows kept in view above and below the arrow if the panel is tall enough.
_CONTEXT = 4
#: The fewest lines of one kind that are folded into a row, and the names that stand for all of them.
_FOLDED, _NAMED = 3, 4
_WORDS = re.compile(r"(\bfor\b|\bin\b|\bover\b.*)")


class FoldedRow(NamedTuple):
    """A row as it is drawn: `lines` lines from the row `first` of the program on, more than one if they are folded."""

    row: ListingRow
    first: int
    lines: int = 1


def folded_rows(program: Program, arrow: int) -> list[FoldedRow]:
    """Return the rows with the gradients of the parameters, and their updates, in a row each, unless the arrow is inside."""
    rows: list[FoldedRow] = []
    for first, last in _groups(program):
        inside = first <= arrow < last
        if last - first < _FOLDED or inside:
            rows += [FoldedRow(program.rows[i], i) for i in range(first, last)]
        else:
            rows.append(_folded(program, first, last))
    return rows


@lru_cache(maxsize=8)
def _groups(program: Program) -> tuple[tuple[int, int], ...]:
    """Return the first row and the row after the last of each run of lines that do the same for every parameter."""
    lines = [row.line if row.line is not None and _parameter(program, row.line) else None for row in program.rows]
    keys = [i if line is None else (line.phase, line.block, line.op == "+=") for i, line in enumerate(lines)]
    ends = [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]]
    return tuple(pairwise([0, *ends, len(keys)]))


def _parameter(program: Program, line: ProgramLine) -> str:
    """Return the parameter whose gradient or update a line computes, empty for other lines."""
    if line.op == "+=" and line.target.startswith("d"):
        return line.target[1:] if line.target[1:] in program.parameters else ""
    ends = [name for name in program.parameters if f"_{line.target}".endswith(f"_{name}")]
    return max(ends, key=len, default="") if line.phase == "update" else ""


@lru_cache(maxsize=64)
def _folded(program: Program, first: int, last: int) -> FoldedRow:
    """Return the rows from `first` to before `last` as one."""
    text = _folded_text(program, [row.line for row in program.rows[first:last] if row.line is not None])
    return FoldedRow(program.rows[first]._replace(text=text), first, last - first)


def _folded_text(program: Program, lines: Sequence[ProgramLine]) -> str:
    """Return the names of the parameters and what is done with each: `Wz Wr Wh Uz … by −= η⊙d…`."""
    names = list(dict.fromkeys(_parameter(program, line) for line in lines))
    done = [line for line in lines if _parameter(program, line) == names[0]][-1]
    gradient = "d" if done.op == "+=" else ""
    shown = [f"{gradient}{name}" for name in (names if len(names) <= _NAMED + 1 else [*names[:_NAMED], names[-1]])]
    if len(names) > _NAMED + 1:
        shown.insert(_NAMED, "…")
    sign, _, change = done.text.partition(" ")[2].partition(" ")
    return f"{' '.join(map(program.writer.name, shown))} {sign} {'…' if gradient else change.replace(names[0], '…')}"


@lru_cache(maxsize=8)
def fewest_and_most(program: Program) -> tuple[int, int]:
    """Return the rows of a listing: with all groups of lines folded, and with the arrow inside the longest of them."""
    fewest, longest = len(folded_rows(program, -1)), max(last - first for first, last in _groups(program))
    return fewest, fewest + (longest - 1 if longest >= _FOLDED else 0)


class RowSigns(NamedTuple):
    """The signs and colours of a row: the sign of its stop, the arrow, `passed` if executed, `idle` if never executed."""

    stop: str
    disabled: bool
    arrow: bool
    passed: bool
    idle: bool


class Listing(SnapshotPanel):
    """The lines of the program with the signs of their breakpoints. It scrolls to keep the arrow in view."""

    ABOUT = (
        "The program: the equations in the order in which a batch computes them. The arrow is at the line just executed. A "
        "click on a line runs to it, a click before it sets a breakpoint."
    )

    COMPARED = Compared.BOTH
    DEFAULT_CSS = "Listing { padding: 0; }"

    _rows: Sequence[FoldedRow] = ()
    _pointed: int | None = None  # the row of the program that a jump went to, None once the focus is elsewhere

    @property
    def pointed(self) -> str:
        """The target of the line that a jump went to; empty if there is none."""
        line = None if self._pointed is None else self.snapshot.program.rows[self._pointed].line
        return "" if line is None else line.target

    @property
    def pointed_text(self) -> str:
        """The line that a jump went to."""
        return "" if self._pointed is None else self.snapshot.program.rows[self._pointed].text

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.position, snapshot.state.stops, _learns(snapshot)

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return a title for the program, and which of its lines was executed last."""
        source, lines = snapshot.config.source, [row.line for row in snapshot.program.rows if row.line is not None]
        title = "forward and backward" if source.can(Ability.BACKWARD) else "forward pass"
        title = "training loop" if source.can(Ability.TRAIN) else title
        target = "" if snapshot.line is None else snapshot.line.target
        number = next((i for i, line in enumerate(lines, 1) if line.target == target), 0)
        place = f"line {number} of {len(lines)}" if number else f"{len(lines)} lines"
        return Titles(title, place, keys=with_keys(self, "<breakpoint> break here") if number else "")

    def show(self, snapshot: Snapshot, view: View) -> None:
        self._rows = folded_rows(snapshot.program, arrow_row(snapshot))
        self.virtual_size = Size(0, len(self._rows))  # the size is known before building, so the first layout can scroll
        super().show(snapshot, view)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, arrow = self.palette, arrow_row(snapshot)
        program_rows = enumerate(snapshot.program.rows)
        rows = self._rows = [FoldedRow(row, i) for i, row in program_rows] if self.zoomed else folded_rows(snapshot.program, arrow)
        cells = (row.indent + cell_len(transliterate(row.text, palette.glyphs)) for row, _, _ in rows)
        width, height = self.canvas(width, height, lambda: Size(_GUTTER + max(cells), len(rows)))
        phase, block = snapshot.position.phase, snapshot.line.block if snapshot.line is not None else -1
        loss = rows_until_loss(snapshot.program.rows)
        learns = _learns(snapshot)

        def draw(index: int) -> boxes.SegmentRow:
            row, first, count = rows[index]
            lines = [listed.line for listed in snapshot.program.rows[first : first + count] if listed.line is not None]
            stops = [stop for line in lines for stop in snapshot.stops_on(line)]
            # Of several, that of an enabled one is shown, of these of one that stops, of these of one that stops each time.
            stop = min(stops, key=lambda stop: (not stop.enabled, bool(stop.log), sometimes(stop)), default=None)
            state = RowSigns(
                stop=sign_of(stop, palette.glyphs) if stop is not None else " ",
                disabled=stop is not None and not stop.enabled,
                arrow=first == arrow,
                passed=first < arrow and row.line is not None and row.line.phase == phase,
                idle=first > loss and not learns,
            )
            counting = row.counter != "t" or (snapshot.timestep is not None and row.block == block)
            value = f"{row.counter} {snapshot.value(row.counter) + 1}" if row.counter and counting else ""
            value = f"{count} lines" if count > 1 else value
            return _written(palette, row.indent, row.text, width, state, value)

        return Box(RowsOnDemand(len(rows), draw), width)

    # Following the arrow

    def _follow(self) -> None:
        if self._snapshot is not None:
            at, context = arrow_row(self._snapshot), min(_CONTEXT, (self.scrollable_content_region.height - 1) // 2)
            arrow = next(i for i, row in enumerate(self._rows) if row.first <= at < row.first + row.lines)
            self.scroll_to_rows(arrow - context, arrow + context)

    def on_resize(self) -> None:
        super().on_resize()
        self._follow()

    # A jump to a line, which is marked as long as the panel has the focus

    def places(self) -> Sequence[LabelledPlace]:
        first, height = self.scroll_offset.y, self.scrollable_content_region.height
        rows = enumerate(self._rows[first : first + height])
        return [LabelledPlace(0, y) for y, shown in rows if shown.row.line is not None]

    def point_at(self, x: int, y: int) -> bool:
        index = y + self.scroll_offset.y
        if not 0 <= index < len(self._rows) or self._rows[index].row.line is None:
            return False
        self._pointed = self._rows[index].first
        self.refresh()
        return True

    def choose(self) -> None:
        if self.pointed:
            self.request("line", self.pointed)

    def on_blur(self, event: events.Blur) -> None:
        if self._pointed is not None:
            self._pointed = None
            self.refresh()

    def render_line(self, y: int) -> Strip:
        strip, index = super().render_line(y), y + self.scroll_offset.y
        if self._pointed is None or not 0 <= index < len(self._rows) or self._rows[index].first != self._pointed:
            return strip
        return Strip([Segment(strip.text, self._ground + self.palette.cursor)], strip.cell_length)

    # The mouse

    def _row_at(self, event: events.MouseEvent) -> ListingRow | None:
        offset = event.get_content_offset(self)
        index = len(self._rows) if offset is None else offset.y + self.scroll_offset.y
        return self._rows[index].row if index < len(self._rows) else None

    def _in_gutter(self, event: events.MouseEvent) -> bool:
        offset = event.get_content_offset(self)
        return offset is not None and offset.x < _GUTTER - 1

    def on_click(self, event: events.Click) -> None:
        row = self._row_at(event)
        if row is not None and row.line is not None:
            self.request("line.gutter" if self._in_gutter(event) else "line", row.line.target)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Set the tooltip: over a line its explanation, with its text if that is cut off; over the gutter its breakpoints."""
        row = self._row_at(event)
        words = self._tooltip_of(self.snapshot, row, self._in_gutter(event)) if row is not None else ""
        self.tooltip = Content(transliterate(words, self.palette.glyphs)) if words else None

    def _tooltip_of(self, snapshot: Snapshot, row: ListingRow, in_gutter: bool) -> str:
        program, width = snapshot.program, self.scrollable_content_region.width
        if in_gutter and row.line is not None:
            return "\n".join(described(stop, program) for stop in snapshot.stops_on(row.line)) or "click to set a breakpoint"
        full_text = row.text if _GUTTER + row.indent + cell_len(row.text) > width else ""
        words = ""
        if row.line is not None:
            from tui_gru.tui.about import about_line

            words = about_line(program, row.line)
        return "\n".join(filter(None, (full_text, words)))


def arrow_row(snapshot: Snapshot) -> int:
    """Return the index of the row of the line just executed, 0 at the start."""
    target = snapshot.line.target if snapshot.line is not None else None
    return next((i for i, row in enumerate(snapshot.program.rows) if row.line is not None and row.line.target == target), 0)


def _learns(snapshot: Snapshot) -> bool:
    """Return True if the backward pass of this batch is executed."""
    return (snapshot.settings.learning and not snapshot.moment.why_missing()) or snapshot.record.gradients is not None


def rows_until_loss(rows: tuple[ListingRow, ...]) -> int:
    """Return the row of the loss, or the last row of a forward pass without a loss. Backward pass and update are below it."""
    last = max(i for i, row in enumerate(rows) if row.line is not None and row.line.phase in ("forward", "loss"))
    return next((i for i, row in enumerate(rows) if row.line is not None and row.line.phase == "loss"), last)


def _tightened(text: str, room: int, glyphs: Glyphs) -> str:
    """Return a line without the blanks around its signs, as far as needed for it to fit, or else cut."""
    for signs in ("", "+−-", "+−-="):
        written = transliterate(re.sub(rf" ([{re.escape(signs)}]=?) ", r"\1", text) if signs else text, glyphs)
        if cell_len(written) <= room:
            return written
    return truncated(transliterate(text, glyphs), room, glyphs)


@lru_cache(maxsize=1024)
def _written(palette: Palette, indent: int, text: str, width: int, state: RowSigns, value: str) -> boxes.SegmentRow:
    """Draw a row of the listing in exactly `width` cells."""
    glyphs = palette.glyphs
    room = max(width - _GUTTER, 0)
    written = " " * indent + _tightened(text, max(room - indent, 0), glyphs)
    spare = room - cell_len(written)
    value = value if cell_len(value) < spare else ""
    tail = " " * (spare - cell_len(value)) + value
    ink = palette.dim if state.disabled else palette.warning
    if state.arrow:
        mark = Style.combine([palette.line, Style(color=ink.color)])
        return Segment(state.stop, mark), Segment(f"{glyphs.arrow} {written}{tail}", palette.line)
    trail = Segment(f"{glyphs.axis_vertical if state.passed else ' '} ", palette.dim)
    body = [Segment(written, palette.dim)] if state.idle else _coloured(palette, written)
    return tuple(segment for segment in (Segment(state.stop, ink), trail, *body, Segment(tail, palette.dim)) if segment.text)


def _coloured(palette: Palette, text: str) -> list[Segment]:
    """Return styled segments: keywords in their colour; the axes of sums and the headings of layers dimmed."""
    if text.lstrip().startswith("#"):
        return [Segment(text, palette.dim)]
    styles = {"for": palette.keyword, "in": palette.keyword}
    parts = _WORDS.split(text)
    return [Segment(part, styles.get(part, palette.dim) if index % 2 else palette.plain) for index, part in enumerate(parts)]


def sign_of(stop: Breakpoint | Watch, glyphs: Glyphs) -> str:
    """Return the sign of a stop, which shows whether it is enabled, stops only sometimes, or only logs."""
    if isinstance(stop, Breakpoint) and stop.log:
        return glyphs.log_point if stop.enabled else glyphs.log_point_off
    if not stop.enabled:
        return glyphs.breakpoint_off
    return glyphs.breakpoint_sometimes if isinstance(stop, Breakpoint) and sometimes(stop) else glyphs.breakpoint


def sometimes(stop: Breakpoint) -> bool:
    """True if the breakpoint has a condition or a hit count, so it does not stop every time."""
    return bool(stop.condition or stop.hits)


# ------------------------------------------------------------------------------
# The log: the lines written by log points, each with its place, newest last.


#: The number of lines shown before and after the current position.
_AROUND = 200
#: The panel grows with its lines up to this number.
_GROWS = 8


class Log(SnapshotPanel):
    """The arrow is at the last line written up to the current position, which is kept in view; later lines are dimmed."""

    ABOUT = "The lines that log points have written, each with its place in the run."

    _lines: tuple[LogLine, ...] = ()
    _arrow_line = -1

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.position.tick, id(snapshot.log)  # as long as the panel has the log, no other has this id

    def titles(self, snapshot: Snapshot) -> Titles:
        return Titles("log", numbers.counted(len(snapshot.log), "line") if snapshot.log else None)

    def show(self, snapshot: Snapshot, view: View) -> None:
        tick, log = snapshot.position.tick, snapshot.log
        past = bisect_right(log, tick, key=lambda line: line.tick)
        first = max(past - _AROUND, 0)
        rows = None if self._snapshot is None else min(len(self._lines), _GROWS)
        self._lines, self._arrow_line = log[first : past + _AROUND], past - first - 1
        super().show(snapshot, view)
        if rows != min(len(self._lines), _GROWS):
            self.refresh(layout=True)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        if not self._lines:
            return clip(palette, text_box(palette, "nothing logged yet", palette.dim), width, height)
        places = [as_typed(position_of(snapshot.program, line.tick)) for line in self._lines]
        column = max(map(len, places))
        width = self.canvas(width, height, lambda: Size(column + 4 + max(cell_len(line.text) for line in self._lines), 0)).width
        rows = zip(self._lines, places, range(len(places)), strict=True)
        return from_rows(self._row(line, place.ljust(column), index, width) for line, place, index in rows)

    def _row(self, line: LogLine, place: str, index: int, width: int) -> SegmentRow:
        palette, glyphs = self.palette, self.palette.glyphs
        text = "".join(char if char.isprintable() else shown_char(char) for char in line.text)
        text = truncated(transliterate(text, glyphs), max(width - len(place) - 4, 0), glyphs)
        if index == self._arrow_line:
            now = line.tick == self.snapshot.position.tick
            ink = palette.line if now else palette.plain
            spare = " " * (width - len(place) - 4 - cell_len(text)) if now else ""
            return (Segment(f"{glyphs.arrow} {place}  {text}{spare}", ink),)
        return Segment(f"  {place}  ", palette.dim), Segment(text, palette.dim if index > self._arrow_line else palette.plain)

    # Scrolling to the current position

    def _follow(self) -> None:
        height = self.scrollable_content_region.height
        if height < 1:
            return
        below = min(len(self._lines) - 1 - self._arrow_line, height // 2)
        self.scroll_to(y=max(self._arrow_line + below + 1 - height, 0), animate=False, immediate=True, force=True)

    def on_resize(self) -> None:
        super().on_resize()
        self._follow()


# ------------------------------------------------------------------------------
# The watches: each expression with its current value, and its previous one if it has just changed.


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
        return Titles("watches", with_keys(self, "<stops> edits"))

    def show(self, snapshot: Snapshot, view: View) -> None:
        rows = len(self._shown)
        self._shown = tuple(i for i, watch in enumerate(snapshot.state.stops.watches) if watch.enabled)
        super().show(snapshot, view)
        if rows != len(self._shown):
            self.refresh(layout=True)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if not self._shown:
            return EMPTY
        width = self.canvas(width, height, lambda: Size(_WIDEST, 0)).width
        half = max(int(width * _PART) - _LEAD, 4)
        names = (transliterate(snapshot.state.stops.watches[i].expression, self.palette.glyphs) for i in self._shown)
        column = min(max(map(cell_len, names)), half)

        def draw(row: int) -> SegmentRow:
            watched = snapshot.watched[self._shown[row]]
            return from_rows([self._row(watched, just_changed(snapshot, watched), column, width)]).rows[0]

        return Box(RowsOnDemand(len(self._shown), draw), width)

    def _row(self, watched: Watched, fresh: bool, column: int, width: int) -> SegmentRow:
        """Draw an expression, at least `column` cells of it, and its value after the column or wherever it fits."""
        palette, glyphs = self.palette, self.palette.glyphs
        expression = transliterate(watched.watch.expression, glyphs)
        room = max(width - _LEAD - _GAP, 0)
        value = written_value(palette, watched, max(room - min(cell_len(expression), column), 0), fresh=fresh)
        room -= row_width(value)
        name = truncated(expression, room, glyphs)
        return (
            Segment(f"{glyphs.breakpoint if watched.watch.stops else ' '} ", palette.warning),
            Segment(name, palette.accent if fresh else palette.keyword),
            Segment(" " * (_GAP + max(min(column, room) - cell_len(name), 0))),
            *value,
        )


def just_changed(snapshot: Snapshot, watched: Watched) -> bool:
    """Return True if the line just executed has changed the value. A value computed for the first time has not changed."""
    if watched.before is None or watched.value is None or not _differs(np.asarray(watched.value), watched.before).any():
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
            kind = element.dtype.kind
            written = str(int(element)) if kind == "b" else numbers.compact(element) if kind in "fiu" else str(element)
            yield written, palette.accent if new else palette.plain
    yield "]", palette.dim


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


def _differs(value: NDArray[Any], before: Any) -> NDArray[np.bool_]:
    """Return where two arrays differ, as booleans; everywhere if their shapes differ. NaN equals NaN."""
    earlier = np.asarray(before)
    if earlier.shape != value.shape:
        return np.ones(value.shape, bool)
    return ~np.asarray(same(value, earlier))


def _width(palette: Palette, parts: _Parts) -> int:
    return row_width(styled_row(palette, *parts))


def _fitted(palette: Palette, parts: _Parts, room: int) -> SegmentRow:
    """Return the pieces as segments, cut off with a mark if they do not fit."""
    return shortened_row(palette, styled_row(palette, *parts), room)
