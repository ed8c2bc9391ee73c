"""The watches: each expression with its current value, and its previous one if it has just changed."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.stops import Watched
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.panels.program.watched_value import just_changed, written_value
from tui_gru.tui.widgets.boxes import EMPTY, Box, Row, from_rows
from tui_gru.tui.widgets.panel import Rows
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles, View

#: The largest part of the width for expressions, and the cells before and after them.
_PART, _LEAD, _GAP = 0.5, 2, 2
#: The width of the longest expression with the longest value, in cells.
_WIDEST = 2000


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

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box | Rows:
        if not self._shown:
            return EMPTY
        width = self.canvas(width, height, lambda: Size(_WIDEST, 0)).width
        half = max(int(width * _PART) - _LEAD, 4)
        names = (transliterate(snapshot.stops.watches[i].expression, self.palette.glyphs) for i in self._shown)
        column = min(max(map(cell_len, names)), half)

        def draw(row: int) -> Row:
            watched = snapshot.watched[self._shown[row]]
            return from_rows([self._row(watched, just_changed(snapshot, watched), column, width)]).rows[0]

        return Rows(len(self._shown), width, draw)

    def _row(self, watched: Watched, fresh: bool, column: int, width: int) -> Row:
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
