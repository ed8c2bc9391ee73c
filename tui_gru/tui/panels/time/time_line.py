"""The time line at the bottom of the screen: the loss of the whole run, signs at its events, and the current position."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.panels.time.time_rows import (
    LossColumns,
    TimelineMark,
    loss_columns,
    placed,
    put_branches,
    put_divisions,
    put_here,
    put_signs,
    timeline_marks,
)
from tui_gru.tui.widgets.boxes import EMPTY, Box, from_rows
from tui_gru.tui.widgets.cell_row import CellRow
from tui_gru.tui.widgets.plots.envelope import LossSeries
from tui_gru.tui.widgets.plots.time_scale import TimeScale, place_name
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, View


class TimeLine(SnapshotPanel):
    """The loss over the whole run with the scale below it, or, in one row, the loss overlaid with the signs.

    A click goes to a place, as do the arrow keys with the focus. Dragging moves through time up to the newest moment. A column
    with a sign stands for the exact place of the sign.
    """

    ABOUT = (
        "The whole run from left to right: its loss as columns, the current position, marks, stops, and forks of other "
        "branches. ← → move, enter goes to the next sign, a click goes to a place."
    )

    ALLOW_MAXIMIZE = False  # it has two rows
    ASKING = frozenset({"move", "end", "next"})
    DEFAULT_CSS = "TimeLine { height: 2; border: none !important; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Through time", key_display="← →"),
        ("right", "move(1)"),
        ("home", "end(False)"),
        ("end", "end(True)"),
        Binding("enter", "next(1)", "Next sign"),
        ("backspace", "next(-1)"),
    ]

    @dataclass
    class Sought(Message):
        """Posted to go to a tick; `along` is True if it continues the previous jump."""

        tick: int
        along: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._series, self._versions = LossSeries(), 0
        self._columns: tuple[object, LossColumns] | None = None
        self._signs: tuple[TimelineMark, ...] = ()
        self._signs_of: tuple[object, ...] = ()
        self._base: tuple[object, CellRow] | None = None
        self._asked: int | None = None  # the column last requested, from which the next key continues
        self._under_way = False  # the requested place has not been shown yet
        self._grasped: int | None = None  # the tick at which a drag began, None if there is no drag
        self._wanted: int | None = None  # the tick to go to after the next refresh

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot."""
        self._versions += self._series.follow(snapshot.losses, snapshot.position.number, snapshot.branch)
        signs_of = snapshot.branch, snapshot.marks, snapshot.hits, tuple((f.name, f.source, f.tick) for f in snapshot.forks)
        if signs_of != self._signs_of:
            self._signs_of, self._signs = signs_of, timeline_marks(snapshot)
        if self._snapshot is not None and snapshot.position != self._snapshot.position and not self._under_way:
            self._asked = None  # the position was changed by something else
        self._under_way = False
        super().show(snapshot, view)

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return self._versions, snapshot.newest, snapshot.position, self._signs

    @property
    def scale(self) -> TimeScale:
        """The scale from the beginning to the end of the run, or of the newest batch if the run has no end."""
        snapshot = self.snapshot
        batch = snapshot.program.ticks
        end = max(-(-snapshot.newest.tick // batch), 1) * batch if snapshot.last is None else snapshot.last.tick
        return TimeScale(end, self.content_size.width)

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if width < 1:
            return EMPTY
        palette, scale = self.palette, self.scale
        here = scale.column(snapshot.position.tick)
        curve = self._curve(snapshot, scale).cells(palette, here)
        if height == 1:
            put_signs(curve, placed(palette, scale, self._signs))
            curve.put(here, palette.glyphs.here, palette.cursor if self.has_focus else palette.accent)
            return from_rows([curve.strip()])
        row = self._with_signs(palette, scale)
        put_here(row, palette, here, snapshot.position, focused=self.has_focus)
        put_branches(row, palette, scale, self._signs)
        put_divisions(row, palette, scale, snapshot.program)
        return from_rows([curve.strip(), row.strip()])

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh_content()

    def _curve(self, snapshot: Snapshot, scale: TimeScale) -> LossColumns:
        key = (self._versions, scale, snapshot.newest.tick)
        if self._columns is None or self._columns[0] != key:
            self._columns = key, loss_columns(self._series.envelope, scale, snapshot.program.ticks, snapshot.newest.tick)
        return self._columns[1]

    def _with_signs(self, palette: Palette, scale: TimeScale) -> CellRow:
        """Return a row with the signs in it, into which the rest is written."""
        key = (scale, palette, self._signs)
        if self._base is None or self._base[0] != key:
            self._base = key, CellRow(scale.width)
            put_signs(self._base[1], placed(palette, scale, self._signs))
        return self._base[1].copy()

    # Moving through time

    @property
    def expecting(self) -> bool:
        """True if a requested place has not been shown yet."""
        return self._wanted is not None or self._under_way

    def seek(self, tick: int) -> None:
        """Request to go to a tick. Of several requests before the next refresh, only the last counts."""
        due, self._wanted = self._wanted is not None, tick
        if not due:
            self.call_after_refresh(self._ask)

    def _ask(self) -> None:
        tick, self._wanted = self._wanted, None
        if tick is not None and tick != self.snapshot.position.tick:
            self._under_way = True
            self.post_message(self.Sought(tick, along=self._grasped not in (None, self.snapshot.position.tick)))

    def action_move(self, columns: int) -> None:
        """Go by columns, at least by one tick."""
        scale, here = self.scale, self.snapshot.position.tick
        at = scale.column(here) if self._asked is None else self._asked
        self._asked = min(max(at + columns, 0), scale.width - 1)
        tick = self.tick_of(self._asked)
        if (tick - here) * columns <= 0:
            tick = here + columns
        self._go_to(min(max(tick, 0), self.snapshot.newest.tick))

    def action_end(self, newest: bool) -> None:
        self._asked = None
        self._go_to(self.snapshot.newest.tick if newest else 0)

    def action_next(self, direction: int) -> None:
        """Go to the next place with a sign."""
        here = self.snapshot.position.tick
        ahead = [sign.tick for sign in self._signs if (sign.tick - here) * direction > 0]
        if ahead:
            self._asked = None
            self._go_to(min(ahead) if direction > 0 else max(ahead))

    def _go_to(self, tick: int) -> None:
        self._grasped = None
        self.seek(tick)

    def on_blur(self) -> None:
        self._asked = None

    # The mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1:
            self.capture_mouse()
            self._grasped = self.snapshot.position.tick
            self._asked = None
            self.seek(self._tick_under(event))
            event.stop()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        tick = self._tick_under(event)
        if self.app.mouse_captured is self:
            self.seek(min(tick, self.snapshot.newest.tick))
        self.tooltip = Content(transliterate(self.describe(tick), self.palette.glyphs))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.release_mouse()

    def _tick_under(self, event: events.MouseEvent) -> int:
        return self.tick_of(event.get_content_offset_capture(self).x)

    def tick_of(self, column: int) -> int:
        """Return the tick that a column stands for: that of its sign, otherwise of its outlier, otherwise in its middle."""
        scale = self.scale
        signs = (sign.tick for sign in self._signs if scale.column(sign.tick) == column)
        sign = next(signs, None)
        return sign if sign is not None else self._standing_out(column) or scale.tick(column)

    def _standing_out(self, column: int) -> int | None:
        """Return the tick of the outlier among the losses of a column, None if there is none."""
        snapshot, scale = self.snapshot, self.scale
        if not 0 <= column < scale.width:
            return None
        ticks, way = snapshot.program.ticks, int(self._curve(snapshot, scale).standing_out[column])
        first, after = (math.ceil(edge) for edge in scale.batches(ticks)[column : column + 2])
        first, after = max(first, 0), min(after, len(self._series))
        if not way or after <= first:
            return None
        return self._series.envelope.furthest(first, after, way) * ticks + snapshot.program.loss_tick

    def describe(self, tick: int) -> str:
        """Describe a tick for the tooltip: its place, the loss of its batch, and the signs in its column."""
        snapshot, scale = self.snapshot, self.scale
        position = position_of(snapshot.program, tick)
        words = place_name(position)
        losses = self._series.envelope.values
        if tick > snapshot.newest.tick:
            words += " · not reached yet"
        elif position.number < len(losses):
            words += f" · loss {numbers.plain(losses[position.number])}"
        column = scale.column(tick)
        notes = dict.fromkeys(sign.note for sign in self._signs if scale.column(sign.tick) == column)
        if tick == self._standing_out(column):
            notes["this loss is an outlier"] = None
        return "\n".join([words, *list(notes)[:6]])
