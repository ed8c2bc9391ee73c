"""The panel that covers the blackboard: a list, a report, a derivation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.containers import Container

from tui_gru.tui.widgets.overlay import Overlay

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


class OverlayHost:
    """One overlay at a time; the listing and the header stay in view."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._coming: Overlay | None = None  # it is being laid

    @property
    def overlay(self) -> Overlay | None:
        """What covers the blackboard, if anything does."""
        return next(iter(self._screen.query(Overlay)), None)

    @property
    def expecting(self) -> bool:
        """Whether an overlay is being laid, which the next key may be for."""
        return self._coming is not None

    def cover(self, overlay: Overlay, *, of_this_moment: bool = False, then: Callable[[], object] | None = None) -> None:
        """Cover the blackboard with a panel, which gets every snapshot, and the focus; the keys typed meanwhile are for it.

        With `of_this_moment`, it is lifted when this moment is no longer part of the timeline. `then` is called once it is there.
        """
        if of_this_moment:
            overlay.read_at = self._screen.session.anchor()
        self._coming = overlay
        work: Callable[[], Awaitable[None]] = partial(self._lay, overlay, then)  # a coroutine that never begins would be warned of
        self._screen.run_worker(work, exclusive=True, group="overlay")

    async def _lay(self, overlay: Overlay, then: Callable[[], object] | None) -> None:
        screen = self._screen
        try:
            board = screen.query_one("#blackboard", Container)
            for earlier in screen.query(Overlay):
                await earlier.remove()
            await board.mount(overlay)
            board.add_class("-covered")
            screen.add_class("-overlaid")
            overlay.show(screen.snapshot, screen.view)
            screen.set_focus(overlay)  # at once: the next key may be waiting already
        finally:
            if self._coming is overlay:
                self._coming = None
        if then is not None:
            then()

    def lift(self) -> None:
        """Uncover the blackboard."""
        for overlay in self._screen.query(Overlay):
            overlay.read_at = None  # until it is removed, it is not to be found gone
            overlay.remove()
        self._screen.query_one("#blackboard").remove_class("-covered")
        self._screen.remove_class("-overlaid")
        self._screen.set_focus(None)

    def lift_what_is_gone(self) -> str:
        """Lift an overlay of a moment that is no longer there, and say so; the empty text where nothing is lifted."""
        overlay = self.overlay
        if overlay is None or overlay.read_at is None or self._screen.session.holds(overlay.read_at):
            return ""
        self.lift()
        return "what was shown is of a moment that is not there any more"
