"""Shows and closes the overlay, the panel that covers the blackboard: a list, a report, a derivation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
        self._wanted: SnapshotPanel | None = None  # the overlay that covers the blackboard, or that is about to
        self._mounted: SnapshotPanel | None = None  # the overlay that was mounted last
        self._then: Callable[[], object] | None = None  # called once the wanted overlay is mounted
        self._mounting = False  # True while a worker mounts overlays
        self._came_from: Widget | None = None  # the widget that had the focus before the overlay

    @property
    def overlay(self) -> SnapshotPanel | None:
        """The overlay that covers the blackboard, None if there is none."""
        there = self._wanted is not None and self._wanted is self._mounted and self._wanted.is_attached
        return self._wanted if there else None

    @property
    def expecting(self) -> bool:
        """True while an overlay is being mounted, which the next key may be meant for."""
        return self._wanted is not None and self._wanted is not self._mounted

    @property
    def _on_board(self) -> list[SnapshotPanel]:
        """The overlay, and those before it that are not removed yet."""
        board = self._screen.panels.board
        return [] if board is None else [panel for panel in board.query_children(SnapshotPanel) if panel.has_class(COVERING)]

    def toggle(self, kind: type[SnapshotPanel]) -> None:
        """Cover the blackboard with a panel of this class, or close it if it covers the blackboard or is about to."""
        if isinstance(self._wanted, kind):
            self.lift()
        else:
            self.cover(kind())

    def cover(self, overlay: SnapshotPanel, *, of_this_moment: bool = False, then: Callable[[], object] | None = None) -> None:
        """Cover the blackboard with a panel, which gets the focus, every snapshot, and the keys typed until it is mounted.

        With `of_this_moment`, the overlay is closed when this moment is no longer part of the timeline. `then` is called once it is
        mounted.
        """
        if of_this_moment:
            overlay.read_at = self._screen.session.anchor()
        if self._wanted is None:
            self._came_from = self._screen.in_use
        overlay.add_class(COVERING)
        self._wanted, self._then = overlay, then
        if not self._mounting:
            self._mounting = True
            work: Callable[[], Awaitable[None]] = self._mount_wanted  # not a coroutine, which warns if never awaited
            self._screen.run_worker(work, group="overlay")

    async def _mount_wanted(self) -> None:
        """Mount the overlay that is wanted, and again the one that is wanted by then.

        This is one worker that is never cancelled: cancelled while it waits, it would leave a panel half mounted or half removed.
        """
        try:
            while self.expecting:
                await self._mount(self._wanted)
        except Exception:
            if self.expecting:
                self._wanted = None  # otherwise the keys would wait for it for ever
            raise
        finally:
            self._mounting = False

    async def _mount(self, overlay: SnapshotPanel | None) -> None:
        screen, board = self._screen, self._screen.panels.board
        assert board is not None
        assert overlay is not None
        for earlier in self._on_board:
            await earlier.remove()
        if overlay is self._wanted:
            await board.mount(overlay)
        if overlay is not self._wanted:  # closed or replaced meanwhile: then it must not get the focus
            return
        self._mounted = overlay
        board.add_class("-covered", update=False)  # the next line updates it
        screen.add_class("-overlaid")
        overlay.show(screen.snapshot, screen.view)
        screen.set_focus(overlay)  # without delay, since the next key may be waiting already
        then, self._then = self._then, None
        if then is not None:
            then()

    def lift(self) -> None:
        """Close the overlay, and return the focus to where it was."""
        self._wanted = self._mounted = self._then = None
        for overlay in self._on_board:
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
        overlay = self._wanted
        if overlay is None or overlay.read_at is None or self._screen.session.holds(overlay.read_at):
            return ""
        self.lift()
        return "the panel was closed: its moment is no longer in the timeline"
