"""A scroll view that keeps the lines that it has drawn, until Textual marks a part of it to be drawn again."""

from __future__ import annotations

from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip


class KeptLines(ScrollView):
    """A scroll view that draws its lines only if something has changed.

    Whenever any widget is drawn, Textual asks all those on the screen for their lines. It keeps these too, but puts them together
    anew each time, which takes longer than all that has changed.
    """

    _lines_kept: tuple[Region, list[Strip]] | None = None

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._lines_kept is None or self._lines_kept[0] != crop:
            lines = super().render_lines(crop)
            self._lines_kept = crop, lines  # afterwards, since drawing may mark a part of it
        return self._lines_kept[1]

    def _set_dirty(self, *regions: Region) -> None:
        self._lines_kept = None
        super()._set_dirty(*regions)
