"""The lines that a scroll view has drawn, which it keeps until Textual marks a part of it to be drawn again."""

from __future__ import annotations

from typing import Any, TypeVar

from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip

View = TypeVar("View", bound=type[ScrollView])
#: Lines, and the region of the view that they show.
KeptLines = tuple[Region, list[Strip]]


def forgets_lines(kind: View) -> View:
    """Decorate the class of a scroll view: its `lines_kept` are set to None when Textual marks a part of it to be drawn again.

    Whenever any widget is drawn, Textual asks all those on the screen for their lines. It keeps these too, but puts them together
    anew each time, which takes longer than all that has changed.
    """
    set_dirty = kind._set_dirty

    def forget(view: Any, *regions: Region) -> None:
        view.lines_kept = None
        set_dirty(view, *regions)

    kind._set_dirty = forget  # type: ignore[assignment]
    return kind
