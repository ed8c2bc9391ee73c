"""Shows and closes the overlay, the panel that covers the blackboard: a list, a report, a derivation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.widget import Widget

from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


COVERING = "-overlay"  # the class of an overlay, by which main.tcss lays it out


class OverlayHost:
    """At most one overlay at a time; the listing and the header stay visible."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._coming: SnapshotPanel | None = None  # the overlay that is being mounted
        self._came_from: Widget | None = None  # the widget that had the focus before the overlay

    @property
    def overlay(self) -> SnapshotPanel | None:
        """The overlay that covers the blackboard, None if there is none."""
        return next(iter(self._overlays), None)

    @property
    def _overlays(self) -> list[SnapshotPanel]:
        """The overlay, and those before it that are not removed yet."""
        if (board := self._screen.panels.board) is None:
            return []
        return [panel for panel in board.query_children(SnapshotPanel) if panel.has_class(COVERING)]

    @property
    def expecting(self) -> bool:
        """True while an overlay is being mounted, which the next key may be meant for."""
        return self._coming is not None

    def cover(self, overlay: SnapshotPanel, *, of_this_moment: bool = False, then: Callable[[], object] | None = None) -> None:
        """Cover the blackboard with a panel, which gets the focus, every snapshot, and the keys typed until it is mounted.

        With `of_this_moment`, the overlay is closed when this moment is no longer part of the timeline. `then` is called once it is
        mounted.
        """
        if of_this_moment:
            overlay.read_at = self._screen.session.anchor()
        if self.overlay is None and self._coming is None:
            self._came_from = self._screen.in_use
        overlay.add_class(COVERING)
        self._coming = overlay
        work: Callable[[], Awaitable[None]] = partial(self._lay, overlay, then)  # not a coroutine, which warns if never awaited
        self._screen.run_worker(work, exclusive=True, group="overlay")

    async def _lay(self, overlay: SnapshotPanel, then: Callable[[], object] | None) -> None:
        screen = self._screen
        try:
            board = screen.panels.board
            assert board is not None
            for earlier in self._overlays:
                await earlier.remove()
            await board.mount(overlay)
            board.add_class("-covered", update=False)  # the next line updates it
            screen.add_class("-overlaid")
            overlay.show(screen.snapshot, screen.view)
            screen.set_focus(overlay)  # without delay, since the next key may be waiting already
        finally:
            if self._coming is overlay:
                self._coming = None
        if then is not None:
            then()

    def lift(self) -> None:
        """Close the overlay, and return the focus to where it was."""
        for overlay in self._overlays:
            overlay.read_at = None  # such that `lift_what_is_gone` ignores it until it is removed
            overlay.remove()
        if (board := self._screen.panels.board) is not None:
            board.remove_class("-covered", update=False)  # the next line updates it
        self._screen.remove_class("-overlaid")
        came_from, self._came_from = self._came_from, None
        self._screen.set_focus(came_from)
        self._screen.call_after_refresh(self._leave_hidden, came_from)

    def _leave_hidden(self, widget: Widget | None) -> None:
        """Take the focus from a panel that this page does not show; otherwise show its keys once it is laid out."""
        if widget is not None and widget is self._screen.focused and not all(node.display for node in widget.ancestors_with_self):
            self._screen.set_focus(None)
        self._screen.call_after_refresh(self._screen.bottom.refresh)

    def lift_what_is_gone(self) -> str:
        """Close an overlay whose moment is no longer in the timeline. Return a message, empty if none was closed."""
        overlay = self.overlay
        if overlay is None or overlay.read_at is None or self._screen.session.holds(overlay.read_at):
            return ""
        self.lift()
        return "the panel was closed: its moment is no longer in the timeline"
