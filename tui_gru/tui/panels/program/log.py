"""The log: the lines written by log points, each with its place, newest last."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size

from tui_gru.debugger.program.naming import shown_char
from tui_gru.debugger.program.position import as_typed, position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.stops import LogLine
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.widgets.boxes import Box, SegmentRow, clip, from_rows, text
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles, View

#: The number of lines shown before and after the current position.
_AROUND = 200
#: The panel grows with its lines up to this number.
_GROWS = 8


class Log(SnapshotPanel):
    """The arrow is at the last line written up to the current position, which is kept in view; later lines are dimmed."""

    ABOUT = "The lines that log points have written, each with its place in the run."

    _lines: tuple[LogLine, ...] = ()
    _here = -1

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.position.tick, id(snapshot.log)  # as long as the panel has the log, no other has this id

    def titles(self, snapshot: Snapshot) -> Titles:
        count = len(snapshot.log)
        return "log", f"{count} line{'s' if count != 1 else ''}" if count else None

    def show(self, snapshot: Snapshot, view: View) -> None:
        tick, log = snapshot.position.tick, snapshot.log
        past = bisect_right(log, tick, key=lambda line: line.tick)
        first = max(past - _AROUND, 0)
        rows = None if self._snapshot is None else min(len(self._lines), _GROWS)
        self._lines, self._here = log[first : past + _AROUND], past - first - 1
        super().show(snapshot, view)
        if rows != min(len(self._lines), _GROWS):
            self.refresh(layout=True)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        if not self._lines:
            return clip(palette, text(palette, "nothing logged yet", palette.dim), width, height)
        places = [as_typed(position_of(snapshot.program, line.tick)) for line in self._lines]
        column = max(map(len, places))
        width = self.canvas(width, height, lambda: Size(column + 4 + max(cell_len(line.text) for line in self._lines), 0)).width
        rows = zip(self._lines, places, range(len(places)), strict=True)
        return from_rows(self._row(line, place.ljust(column), index, width) for line, place, index in rows)

    def _row(self, line: LogLine, place: str, index: int, width: int) -> SegmentRow:
        palette, glyphs = self.palette, self.palette.glyphs
        text = "".join(char if char.isprintable() else shown_char(char) for char in line.text)
        text = cut(transliterate(text, glyphs), max(width - len(place) - 4, 0), glyphs)
        if index == self._here:
            now = line.tick == self.snapshot.position.tick
            ink = palette.line if now else palette.plain
            spare = " " * (width - len(place) - 4 - cell_len(text)) if now else ""
            return (Segment(f"{glyphs.arrow} {place}  {text}{spare}", ink),)
        ahead = index > self._here
        return Segment(f"  {place}  ", palette.dim), Segment(text, palette.dim if ahead else palette.plain)

    # Scrolling to the current position

    def _follow(self) -> None:
        height = self.scrollable_content_region.height
        if height < 1:
            return
        ahead = len(self._lines) - 1 - self._here
        below = min(ahead, height // 2)
        self.scroll_to(y=max(self._here + below + 1 - height, 0), animate=False, immediate=True, force=True)

    def on_resize(self) -> None:
        super().on_resize()
        self._follow()
