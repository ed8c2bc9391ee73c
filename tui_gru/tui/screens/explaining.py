"""A screen on which any number can be asked where it comes from, and followed there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.program.naming import typed_entry
from tui_gru.debugger.program.position import position_of
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.panels.line_at_work import LineAtWork
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.loss_curve import LossCurve
from tui_gru.tui.screens.looking import LookingScreen
from tui_gru.tui.widgets.cells import CellPanel, NumberAsked
from tui_gru.tui.widgets.matrix import MatrixView

if TYPE_CHECKING:
    from tui_gru.debugger.derivation.origin import Node, ValueRef
    from tui_gru.debugger.session.guards import Progress
    from tui_gru.tui.panels.origin import Leaf, OriginPanel


class ExplainingScreen(LookingScreen):
    """The debugger goes along: a number that is followed is stood at where it was computed."""

    _trail: tuple[Leaf, ...] = ()

    def on_number_asked(self, event: NumberAsked) -> None:
        self._ask_about(event.ref.name, event.ref.index, event.ref.t)

    def _ask_about(self, name: str, index: tuple[int, ...], t: int | None) -> None:
        from tui_gru.debugger.derivation.origin import ValueRef  # late, as all that the first picture does not need

        self.ask(ValueRef(name, index, t, self.snapshot.position.tick))

    def ask(self, number: ValueRef) -> None:
        """Lay the derivation of a number over the blackboard; where one is there already, it is come back to."""
        self._derive(replace(number, name=self.session.program.code_name(number.name)), follow=False)

    def on_origin_panel_followed(self, event: OriginPanel.Followed) -> None:
        self._derive(event.number, follow=True)

    def _derive(self, number: ValueRef, *, follow: bool) -> None:
        from tui_gru.tui.panels.origin import Leaf  # late, as all that the first picture does not need

        found: list[Leaf] = []

        def derive(progress: Progress | None) -> None:
            root = self.session.origin(number, progress=progress)
            while follow and root.derivation.kind == "copy" and root.terms[0].number is not None:
                # What is only handed on is followed to where it was computed.
                root = self.session.origin(root.terms[0].number, progress=progress)
            assert root.number is not None
            tick = root.number.tick if root.derivation.tick is None else root.derivation.tick
            if follow:
                self.session.seek(tick)
            _work_out(root)
            found.append(Leaf.of(root, position_of(self.session.program, tick), self.session.anchor(tick)))

        self.do(derive, batches=self.session.batches_to(number.tick), then=lambda: self._turn_to(found), opens=True)

    def _turn_to(self, found: list[Leaf]) -> None:
        if not found:
            return
        panel = self._origin
        if panel is None:
            from tui_gru.tui.panels.origin import OriginPanel

            self._trail = ()
            self.cover(OriginPanel(found[0]))
        else:
            self._trail = (*self._trail, panel.leaf)
            panel.turn_to(found[0])

    def on_origin_panel_left(self) -> None:
        """Back to the derivation before, and to where it was computed."""
        panel = self._origin
        if panel is None:
            return
        trail = [leaf for leaf in self._trail if leaf.anchor is None or self.session.holds(leaf.anchor)]
        if not trail:
            self.lift()
            return
        *earlier, leaf = trail
        self._trail = tuple(earlier)
        batches = self.session.batches_to(leaf.place.tick)
        self.do(lambda progress: self.session.seek(leaf.place), batches=batches, then=lambda: panel.turn_to(leaf), opens=True)

    def on_origin_panel_opened(self, event: OriginPanel.Opened) -> None:
        panel = self._origin
        if panel is not None:
            self.do(lambda progress: _work_out(event.node), then=lambda: panel.open_at(event.path), opens=True)

    async def on_origin_panel_changes_asked(self, event: OriginPanel.ChangesAsked) -> None:
        """When it last changed by more than what is typed: a search back in time, ready to be completed."""
        number = event.number
        now, before = (typed_entry(name, number.index) for name in (number.name, f"prev({number.name})"))
        await self.run_action(f"command({f'back abs({now} - {before}) > '!r})")

    def on_origin_panel_copied(self, event: OriginPanel.Copied) -> None:
        self.app.copy_to_clipboard(event.text)
        self.say(f"copied as {event.kind}: {len(event.text.splitlines())} lines")

    @property
    def _origin(self) -> OriginPanel | None:
        from tui_gru.tui.panels.origin import OriginPanel

        return self.overlay if isinstance(self.overlay, OriginPanel) else None

    def action_explain(self) -> None:
        """Enter without a cell in focus: the result of the line at work, or what has the focus."""
        focused = self.focused
        if isinstance(focused, MatrixView):
            focused.action_choose()
        elif isinstance(focused, CellPanel) and focused.spot is not None:
            focused.action_ask()
        elif isinstance(focused, LossCurve):
            self._explain_loss(focused.pointed)
        elif focused is None or isinstance(focused, (Listing, LineAtWork)):
            self._explain_line()
        else:
            self.say(with_keys(self, "there is no number to ask about here; <panel.next> goes to the next panel"), warning=True)

    def _explain_loss(self, batch: int | None) -> None:
        """The loss of the batch pointed at (from 0 over the run), else of the present one, or the one before while it has none."""
        from tui_gru.debugger.derivation.origin import ValueRef  # late, too

        position, ticks = self.snapshot.position, self.snapshot.program.ticks
        tick = position.tick if self.snapshot.value("loss") is not None else position.number * ticks
        if batch is not None and batch != position.number:
            tick = batch * ticks + self.snapshot.program.loss_tick
        if tick:
            self.ask(ValueRef("loss", (), None, tick))
        else:
            self.say(with_keys(self, "no batch has come to its loss yet: <step.batch> runs one"), warning=True)

    def _explain_line(self) -> None:
        """The result of the line just executed, in the row that is looked at."""
        line = self.snapshot.line
        if line is None or line.formula is None:
            self.say(
                with_keys(self, "nothing is computed here yet: step on, then <explain> says where a number comes from"),
                warning=True,
            )
            return
        row = self.view.row or 0
        index = tuple(row if axis == "row" else 0 for axis in self.session.program.names[line.target].counted)
        self._ask_about(line.target, index, None)


def _work_out(node: Node) -> None:
    """Have the terms of a node, and what stands beside each of them, ready to be drawn."""
    for term in node.terms:
        term.derivation  # noqa: B018 - kept once it has been asked for
