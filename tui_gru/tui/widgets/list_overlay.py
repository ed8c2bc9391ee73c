"""A list with a cursor, which covers the blackboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.geometry import Size

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.widgets.boxes import Box, SegmentRow, clip, from_rows
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel

_MARK = "▸ "


class ListRow(NamedTuple):
    """A row of a list. `entry` is the number of its entry, from 0, None for a row of no entry. Entries may have several rows."""

    row: SegmentRow
    entry: int | None = None


class ListOverlay(SnapshotPanel):
    """A list with a cursor. Subclasses implement its rows (`lines`) and what enter does with the entry under the cursor (`choose`).

    A subclass that draws its entries itself (`content`) implements `entries` and `entry_at` instead of `lines`.
    """

    ASKING = frozenset({"choose"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "move(-1)"),
        ("down", "move(1)"),
        ("pageup", "move(-10)"),
        ("pagedown", "move(10)"),
        ("home", "move(-9999)"),
        ("end", "move(9999)"),
        ("enter", "choose"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.cursor = 0
        self._lines: Sequence[ListRow] = ()

    def lines(self, width: int) -> Sequence[ListRow]:
        """Return the rows for this width, which excludes the mark of the cursor."""
        raise NotImplementedError

    def choose(self) -> None:
        """Do what enter and a double click do with the entry under the cursor, by default nothing."""

    @property
    def above(self) -> int:
        """The number of rows above the entry under the cursor that stay in view; above the first entry, all do."""
        return 0

    def move_to(self, entry: int) -> None:
        """Move the cursor to an entry and scroll it into view."""
        self.cursor = entry
        self.refresh_content()
        self._ensure_built()
        self._keep_in_view()

    @property
    def entries(self) -> int:
        """The number of entries at the last drawing."""
        return 1 + max((line.entry for line in self._lines if line.entry is not None), default=-1)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        self._lines = self.lines(max(width - len(_MARK), 1))
        self.cursor = min(self.cursor, max(self.entries - 1, 0))
        rows, marked = [], False
        for row, entry in self._lines:
            here = entry == self.cursor and entry is not None and not marked
            marked |= here
            mark = transliterate(_MARK, palette.glyphs) if here else " " * len(_MARK)
            rows.append((Segment(mark, palette.accent), *row))
        return clip(palette, from_rows(rows), width, len(rows))

    def action_move(self, by: int) -> None:
        self._ensure_built()
        if not self.entries:
            self.scroll_relative(y=by, animate=False)
            return
        self.move_to(min(max(self.cursor + by, 0), self.entries - 1))

    def action_choose(self) -> None:
        self._ensure_built()
        if self.entries:
            self.choose()

    def entry_at(self, row: int) -> int | None:
        """Return the entry on a row of the last drawing, None if there is none."""
        return self._lines[row].entry if 0 <= row < len(self._lines) else None

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        entry = None if offset is None else self.entry_at(offset.y + self.scroll_offset.y)
        if entry is not None:
            self.move_to(entry)
            if event.chain == 2:
                self.choose()

    def _set_virtual_size(self, size: Size) -> None:
        super()._set_virtual_size(size)
        self._keep_in_view()

    def _keep_in_view(self) -> None:
        rows = [i for i, line in enumerate(self._lines) if line.entry == self.cursor]
        if rows:
            head = self.cursor == 0 and rows[-1] < self.scrollable_content_region.height
            first = 0 if head else rows[0] - self.above  # at the first entry, show the rows above it too
            self.scroll_to_rows(first, rows[-1])
