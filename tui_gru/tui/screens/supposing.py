"""A screen on which one can suppose another number, see what would follow from it, and make it so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.debugger.program.names import Kind
from tui_gru.debugger.program.naming import spoken, typed_entry
from tui_gru.debugger.program.typed import quoted
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.numbers import given
from tui_gru.tui import answers
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.screens.looking import LookingScreen
from tui_gru.tui.widgets.cells import CellPanel
from tui_gru.tui.widgets.matrix import MatrixView
from tui_gru.tui.widgets.refs import Ref

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.what_if import WhatIf
    from tui_gru.debugger.derivation.origin import ValueRef
    from tui_gru.tui.panels.what_if import WhatIfPanel


class SupposingScreen(LookingScreen):
    """Subclasses open the `:` line with a command begun (`action_command`)."""

    async def action_command(self, text: str, value: str = "", rest: str = "") -> None:
        """Begin a command, with a value selected in it."""
        raise NotImplementedError

    async def action_suppose(self) -> None:
        """Begin the command that puts another number in the place of the one under the cursor."""
        ref = self._under_cursor()
        if ref is None:
            self.say(
                with_keys(self, "put the cursor on a number first: <panel.next> goes from panel to panel, the arrows to a number"),
                warning=True,
            )
            return
        is_input, given = self.snapshot.program.names[ref.name].kind is Kind.INPUT, self.snapshot.config.given
        if is_input and given is not None and self.snapshot.program.model.page.inputs[ref.name].one_hot:
            self.say("tokens are given, and stay as they are; change the row of the table instead", warning=True)
            return
        if is_input and given is None:
            await self.action_command(*self._character(ref))
            return
        value = self.snapshot.value(ref.name, ref.t)
        if value is None:
            self.say(f"{ref.name} is not computed here yet; step on to where it is", warning=True)
            return
        t = "" if ref.t is None or ref.t == self.snapshot.position.t else f" t {ref.t + 1}"
        number = value[ref.index] if ref.index else value
        await self.action_command(f"what-if {typed_entry(ref.name, ref.index)} ", str(number), t)

    def _character(self, ref: Ref) -> tuple[str, str]:
        """The command that changes a character of the text, and the character that is there."""
        snapshot = self.snapshot
        assert isinstance(snapshot.corpus, Corpus)  # characters are read of a text only
        t = snapshot.position.t if ref.t is None else ref.t
        place = snapshot.corpus.position_in_text(snapshot.position.batch, t, ref.index[0]) + (ref.name == snapshot.program.target)
        return f"set text[{place}] ", quoted(snapshot.corpus.text[place])

    def _under_cursor(self) -> Ref | None:
        """The number of this moment that the cursor is on."""
        from tui_gru.tui.panels.origin import OriginPanel

        focused = self.focused
        if isinstance(focused, OriginPanel):
            number = focused.number
            return None if number is None else self._here(number)
        if isinstance(focused, MatrixView):
            return None if focused.refs is None else focused.refs(*focused.cursor)
        if isinstance(focused, CellPanel):
            return None if focused.spot is None else focused.spot.ref
        return None

    def _here(self, number: ValueRef) -> Ref | None:
        """A number of a derivation, if it is of the batch that one is in."""
        same = (number.tick - 1) // self.snapshot.program.ticks == self.snapshot.position.number
        return Ref(number.name, number.index, number.t) if same else None

    def suppose(self, name: str, index: tuple[int, ...], value: float, t: int | None) -> None:
        """Show what would follow in this batch from another number. `t` is 0-based, None for the position's."""
        found: list[WhatIf] = []

        def suppose(_: object) -> None:
            found.append(self.session.what_if(self.session.program.code_name(name), index, value, t))

        self.do(suppose, then=lambda: self._show_what_if(found[0]), opens=True)

    def _show_what_if(self, what_if: WhatIf) -> None:
        from tui_gru.tui.panels.what_if import WhatIfPanel

        panel = WhatIfPanel(what_if)
        panel.read_at = self.session.anchor()
        self.cover(panel)

    def on_what_if_panel_nudged(self, event: WhatIfPanel.Nudged) -> None:
        """Suppose a number some steps away; a count typed before says how many."""
        from tui_gru.tui.panels.what_if import WhatIfPanel

        panel, what_if, steps = self.overlay, event.what_if, event.direction * self.take_count()
        if not isinstance(panel, WhatIfPanel):
            return
        if self.snapshot.position.number != what_if.now.position.number:
            self.say("this is of another batch; ask again in the one that you are in now", warning=True)
            return
        found: list[WhatIf] = []

        def suppose(_: object) -> None:
            found.append(self.session.what_if(what_if.name, what_if.index, what_if.nudged(steps), what_if.t))

        self.do(suppose, then=lambda: panel.turn_to(found[0]), opens=True)

    def on_what_if_panel_kept(self, event: WhatIfPanel.Kept) -> None:
        """Go to where the number was computed, and change it there; in the past this starts a branch."""
        what_if = event.what_if
        before = self.snapshot

        def keep(progress: object) -> None:
            self.session.adopt(what_if)

        def say() -> None:
            named = spoken(self.snapshot.program, what_if.name, what_if.index)
            self.answer(f"{named} is {given(what_if.value)} from here on{answers.branched(before, self.snapshot)}")

        self.lift()
        self.do(keep, batches=self.session.batches_to(), then=say)
