"""The listing of the program, with an arrow at the line just executed."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.message import Message

from tui_gru.debugger.program.line_table import Program, ProgramLine
from tui_gru.debugger.program.listing import ListingRow
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.stops import Breakpoint, Watch
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import Glyphs, transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets import boxes
from tui_gru.tui.widgets.panel import PanelRows
from tui_gru.tui.widgets.snapshot_panel import Compared, SnapshotPanel, Titles, View

#: Cells before the text: breakpoint, arrow or trail, and a blank.
_GUTTER = 3
#: Rows kept in view above and below the arrow if the panel is tall enough.
_CONTEXT = 4
#: From this width on, a level is indented by two cells, below by one.
_WIDE = 40
_WORDS = re.compile(r"(\bfor\b|\bin\b|\bover\b.*)")


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

    @dataclass
    class LineChosen(Message):
        """Posted when the text of a line is clicked."""

        line: ProgramLine

    @dataclass
    class GutterChosen(Message):
        """Posted when the gutter of a line is clicked, where its breakpoint is shown."""

        line: ProgramLine

    COMPARED = Compared.BOTH

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.position, snapshot.stops, _learns(snapshot)

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return a title for the program, and the shapes of the values that the line reads, as many as fit."""
        given, line = snapshot.config.given, snapshot.line
        title = "training loop" if given is None else "forward and backward" if given.learns else "forward pass"
        shapes = _shapes(snapshot, line) if line is not None else []
        while shapes and cell_len("  ".join(shapes)) > self.size.width - 6:
            shapes.pop()
        return title, "  ".join(shapes) or None

    def show(self, snapshot: Snapshot, view: View) -> None:
        self.virtual_size = Size(0, len(snapshot.program.rows))  # the size is known before building, so the first layout can scroll
        super().show(snapshot, view)

    def content(self, snapshot: Snapshot, width: int, height: int) -> PanelRows:
        palette, rows, arrow = self.palette, snapshot.program.rows, arrow_row(snapshot)
        width, height = self.canvas(width, height, partial(_whole_size, rows, palette))
        phase, block = snapshot.position.phase, snapshot.line.block if snapshot.line is not None else -1
        loss = rows_until_loss(rows)
        learns = _learns(snapshot)

        def draw(index: int) -> boxes.SegmentRow:
            row = rows[index]
            stop = foremost(stops_on(snapshot, row.line)) if row.line is not None else None
            state = RowSigns(
                stop=sign_of(stop, palette.glyphs) if stop is not None else " ",
                disabled=stop is not None and not stop.enabled,
                arrow=index == arrow,
                passed=index < arrow and row.line is not None and row.line.phase == phase,
                idle=index > loss and not learns,
            )
            counting = row.counter != "t" or (snapshot.timestep is not None and row.block == block)
            value = f"{row.counter} {snapshot.value(row.counter) + 1}" if row.counter and counting else ""
            return _written(palette, _indented(row, width), width, state, value)

        return PanelRows(len(rows), width, draw)

    # Following the arrow

    def _follow(self) -> None:
        if self._snapshot is not None:
            arrow, context = arrow_row(self._snapshot), min(_CONTEXT, (self.scrollable_content_region.height - 1) // 2)
            self.scroll_to_rows(arrow - context, arrow + context)

    def on_resize(self) -> None:
        super().on_resize()
        self._follow()

    # The mouse

    def _row_at(self, event: events.MouseEvent) -> ListingRow | None:
        offset = event.get_content_offset(self)
        rows = self.snapshot.program.rows
        index = len(rows) if offset is None else offset.y + self.scroll_offset.y
        return rows[index] if index < len(rows) else None

    def _in_gutter(self, event: events.MouseEvent) -> bool:
        offset = event.get_content_offset(self)
        return offset is not None and offset.x < _GUTTER - 1

    def on_click(self, event: events.Click) -> None:
        row = self._row_at(event)
        if row is not None and row.line is not None:
            self.post_message((self.GutterChosen if self._in_gutter(event) else self.LineChosen)(row.line))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Set the tooltip: over a line its explanation, with its text if that is cut off; over the gutter its breakpoints."""
        row = self._row_at(event)
        words = self._tooltip_of(self.snapshot, row, self._in_gutter(event)) if row is not None else ""
        self.tooltip = Content(transliterate(words, self.palette.glyphs)) if words else None

    def _tooltip_of(self, snapshot: Snapshot, row: ListingRow, in_gutter: bool) -> str:
        program, width = snapshot.program, self.scrollable_content_region.width
        if in_gutter and row.line is not None:
            return "\n".join(described(stop, program) for stop in stops_on(snapshot, row.line)) or "click to set a breakpoint"
        whole = row.text if _GUTTER + cell_len(_indented(row, width)) > width else ""
        words = ""
        if row.line is not None:
            from tui_gru.tui.explanations.here import about_line  # imported late: only needed under the mouse

            words = about_line(program, row.line)
        return "\n".join(filter(None, (whole, words)))


def arrow_row(snapshot: Snapshot) -> int:
    """Return the index of the row of the line just executed, 0 at the start."""
    target = snapshot.line.target if snapshot.line is not None else None
    return next((i for i, row in enumerate(snapshot.program.rows) if row.line is not None and row.line.target == target), 0)


def _learns(snapshot: Snapshot) -> bool:
    """Return True if the backward pass of this batch is executed."""
    return snapshot.learning or snapshot.record.gradients is not None


def stops_on(snapshot: Snapshot, line: ProgramLine) -> tuple[Breakpoint, ...]:
    """Return the breakpoints and log points of a line."""
    return tuple(stop for stop in snapshot.stops.breakpoints if stop.line == line.target)


def rows_until_loss(rows: tuple[ListingRow, ...]) -> int:
    """Return the row of the loss, or the last row of a forward pass without a loss. Backward pass and update are below it."""
    last = max(i for i, row in enumerate(rows) if row.line is not None and row.line.phase in ("forward", "loss"))
    return next((i for i, row in enumerate(rows) if row.line is not None and row.line.phase == "loss"), last)


def _shapes(snapshot: Snapshot, line: ProgramLine) -> list[str]:
    names = snapshot.program.names
    named = [(snapshot.program.writer.name(n), np.shape(snapshot.value(n))) for n in line.reads if n in names]
    return [f"{name} {'×'.join(map(str, shape))}" for name, shape in named if shape]


def _whole_size(rows: tuple[ListingRow, ...], palette: Palette) -> Size:
    """Return the size at which no row is cut off, in cells."""
    return Size(_GUTTER + max(cell_len(transliterate(_indented(row, _WIDE), palette.glyphs)) for row in rows), len(rows))


def _indented(row: ListingRow, width: int) -> str:
    return " " * (row.indent * (2 if width >= _WIDE else 1)) + row.text


@lru_cache(maxsize=1024)
def _written(palette: Palette, text: str, width: int, state: RowSigns, value: str) -> boxes.SegmentRow:
    """Draw a row of the listing in exactly `width` cells."""
    glyphs = palette.glyphs
    room = max(width - _GUTTER, 0)
    written = cut(transliterate(text, glyphs), room, glyphs)
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


def plain(stop: Breakpoint) -> bool:
    """True if the breakpoint has only a line, so that it can be deleted without losing anything else."""
    return not (stop.condition or stop.hits or stop.log)


def foremost(stops: Iterable[Breakpoint]) -> Breakpoint | None:
    """Return the breakpoint whose sign is shown if a line has several: enabled first, then stopping, then unconditional."""
    return min(stops, key=lambda stop: (not stop.enabled, bool(stop.log), sometimes(stop)), default=None)


def clauses(stop: Breakpoint) -> tuple[tuple[str, str], ...]:
    """Return the clauses after the line as pairs of keyword (`if`, `hits`, `log`) and text."""
    parts = (("if", stop.condition), ("hits", stop.hits), ("log", stop.log))
    return tuple((keyword, text) for keyword, text in parts if text)


def command_of(stop: Breakpoint | Watch, *, id: bool = False) -> str:
    """Return the command that sets a stop, with `id` the command that changes it."""
    number = f"#{stop.id}" if id else ""
    if isinstance(stop, Watch):
        words = ["watch", number, stop.expression, "stop" if stop.stops else ""]
    else:
        words = ["break", number, stop.line, *(word for clause in clauses(stop) for word in clause)]
    return " ".join(word for word in words if word)


def described(stop: Breakpoint, program: Program) -> str:
    """Describe a breakpoint for the border or a tooltip: `breakpoint 2 on h̃ if any(h > 0.9), disabled`."""
    place = f" on {program.writer.name(stop.line)}" if stop.line else ""
    when = "".join(f" {keyword} {what}" for keyword, what in clauses(stop) if keyword != "log")
    kind = "log point" if stop.log else "breakpoint"
    log = f": {stop.log}" if stop.log else ""
    return f"{kind} {stop.id}{place}{when}{log}{'' if stop.enabled else ', disabled'}"
