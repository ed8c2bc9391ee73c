"""Derivations of numbers: shows one over the blackboard, follows numbers from it, and goes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.program.naming import typed_entry
from tui_gru.debugger.program.position import position_of

if TYPE_CHECKING:
    from tui_gru.debugger.derivation.origin import Node, ValueRef
    from tui_gru.debugger.session.guards import SearchProgress
    from tui_gru.tui.panels.lists.origin import Leaf, OriginPanel
    from tui_gru.tui.screens.main import MainScreen


class Derivations:
    """Shows derivations. Following a number goes to the place where it was computed; going back returns from there."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._trail: tuple[Leaf, ...] = ()

    @property
    def _panel(self) -> OriginPanel | None:
        from tui_gru.tui.panels.lists.origin import OriginPanel

        overlay = self._screen.overlay
        return overlay if isinstance(overlay, OriginPanel) else None

    def ask(self, number: ValueRef) -> None:
        """Show the derivation of a number. If another is shown already, `left` returns to it."""
        name = self._screen.session.program.code_name(number.name)
        self._derive(replace(number, name=name), follow=False)

    def followed(self, event: OriginPanel.Followed) -> None:
        self._derive(event.number, follow=True)

    def _derive(self, number: ValueRef, *, follow: bool) -> None:
        from tui_gru.tui.panels.lists.origin import Leaf  # imported late: not needed for the first screen

        session = self._screen.session

        def derive(progress: SearchProgress | None) -> Leaf:
            root = session.origin(number, progress=progress)
            while follow and root.derivation.kind == "copy" and root.terms[0].number is not None:
                # A value that is only copied is followed to the line that computed it.
                root = session.origin(root.terms[0].number, progress=progress)
            assert root.number is not None
            tick = root.number.tick if root.derivation.tick is None else root.derivation.tick
            if follow:
                session.seek(tick)
            _work_out(root)
            return Leaf.of(root, position_of(session.program, tick), session.anchor(tick))

        self._screen.do(derive, batches=session.batches_to(number.tick), then=self._turn_to, opens=True)

    def _turn_to(self, leaf: Leaf) -> None:
        panel = self._panel
        if panel is None:
            from tui_gru.tui.panels.lists.origin import OriginPanel

            self._trail = ()
            self._screen.overlays.cover(OriginPanel(leaf))
        else:
            self._trail = (*self._trail, panel.leaf)
            panel.turn_to(leaf)

    def left(self) -> None:
        """Return to the previous derivation and to the place where its number was computed, or close the only one."""
        panel, session = self._panel, self._screen.session
        if panel is None:
            return
        trail = [leaf for leaf in self._trail if leaf.anchor is None or session.holds(leaf.anchor)]
        if not trail:
            self._screen.overlays.lift()
            return
        *earlier, leaf = trail
        self._trail = tuple(earlier)
        batches = session.batches_to(leaf.place.tick)
        self._screen.do(lambda _: session.seek(leaf.place), batches=batches, then=lambda _: panel.turn_to(leaf), opens=True)

    def opened(self, event: OriginPanel.Opened) -> None:
        panel = self._panel
        if panel is not None:
            self._screen.do(lambda _: _work_out(event.node), then=lambda _: panel.open_at(event.path), opens=True)

    async def changes_asked(self, event: OriginPanel.ChangesAsked) -> None:
        """Open the `:` line with a search back in time for a change of the number by more than a value to be typed."""
        number = event.number
        now, before = (typed_entry(name, number.index) for name in (number.name, f"prev({number.name})"))
        await self._screen.open_line(f"back abs({now} - {before}) > ")

    def copied(self, event: OriginPanel.Copied) -> None:
        self._screen.app.copy_to_clipboard(event.text)
        self._screen.say(f"copied as {event.kind}: {len(event.text.splitlines())} lines")


def _work_out(node: Node) -> None:
    """Compute the derivations of the terms of a node, such that drawing does not need to."""
    for term in node.terms:
        term.derivation  # noqa: B018 - the property caches it
