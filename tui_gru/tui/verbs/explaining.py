"""Verbs that show where a number comes from, and what would change if it were another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.tui import answers
from tui_gru.tui.verbs.verb import Arguments, with_keys

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.what_if import WhatIf
    from tui_gru.debugger.derivation.origin import ValueRef
    from tui_gru.tui.panels.lists.what_if import WhatIfPanel
    from tui_gru.tui.screens.main import MainScreen
    from tui_gru.tui.widgets.cells import NumberAsked
    from tui_gru.tui.widgets.refs import Ref


def why(screen: MainScreen, rest: Arguments) -> None:
    """Show where a number comes from: `NAME[INDEX] [t TIMESTEP]`."""
    from tui_gru.debugger.derivation.origin import ValueRef
    from tui_gru.debugger.program.typed import Reader
    from tui_gru.tui.verbs.verb import example

    program = screen.session.program
    reader = Reader(rest, example(program, "$h[1,0], $W[3,0], loss, or $z[0,1] t 2 for another timestep"))
    name, index = reader.entry()
    screen.derivations.ask(ValueRef(name, index, reader.timestep(program.seq_length), screen.snapshot.position.tick))


def number_asked(screen: MainScreen, event: NumberAsked) -> None:
    ask_about(screen, event.ref.name, event.ref.index, event.ref.t, before=event.ref.before)


def ask_about(screen: MainScreen, name: str, index: tuple[int, ...], t: int | None, *, before: bool = False) -> None:
    """Show where a number of this moment comes from; with `before`, of the moment before the line just executed."""
    from tui_gru.debugger.derivation.origin import ValueRef  # imported late: not needed for the first screen

    screen.derivations.ask(ValueRef(name, index, t, screen.snapshot.position.tick - before))


def explain(screen: MainScreen) -> None:
    """Show where the number under the cursor comes from; without a cursor, the result of the current line."""
    from tui_gru.tui.panels.program.current_line import CurrentLine
    from tui_gru.tui.panels.program.listing import Listing
    from tui_gru.tui.panels.time.loss_curve import LossCurve
    from tui_gru.tui.widgets.cells import CellPanel
    from tui_gru.tui.widgets.matrix import MatrixView

    focused = screen.focused
    if isinstance(focused, MatrixView):
        focused.action_choose()
    elif isinstance(focused, CellPanel) and focused.spot is not None:
        focused.action_ask()
    elif isinstance(focused, LossCurve):
        _explain_loss(screen, focused.pointed)
    elif focused is None or isinstance(focused, (Listing, CurrentLine)):
        _explain_line(screen)
    else:
        screen.say(with_keys(screen, "there is no number to ask about here; <panel.next> goes to the next panel"), warning=True)


def _explain_loss(screen: MainScreen, batch: int | None) -> None:
    """Show where a loss comes from.

    `batch` is the batch under the pointer, counted from 0 over the run. If it is None, the loss is that of the current batch, or
    of the previous one if the current batch has none yet.
    """
    from tui_gru.debugger.derivation.origin import ValueRef  # imported late: not needed for the first screen

    position, ticks = screen.snapshot.position, screen.snapshot.program.ticks
    tick = position.tick if screen.snapshot.value("loss") is not None else position.number * ticks
    if batch is not None and batch != position.number:
        tick = batch * ticks + screen.snapshot.program.loss_tick
    if tick:
        screen.derivations.ask(ValueRef("loss", (), None, tick))
    else:
        screen.say(with_keys(screen, "no loss has been computed yet; <step.batch> runs a batch"), warning=True)


def _explain_line(screen: MainScreen) -> None:
    """Show where the result of the line just executed comes from, in the selected row; before the first line, start the tour."""
    line = screen.snapshot.line
    if screen.snapshot.position.tick == 0 and screen.snapshot.config.given is None:
        screen.tour.begin()
        return
    if line is None or line.formula is None:
        words = "no value has been computed yet: step first, then <explain> shows where a number comes from"
        screen.say(with_keys(screen, words), warning=True)
        return
    row = screen.view.row or 0
    index = tuple(row if axis == "row" else 0 for axis in screen.session.program.names[line.target].counted)
    ask_about(screen, line.target, index, None)


# What-if


def what_if(screen: MainScreen, rest: Arguments) -> None:
    """Suppose another value: `NAME[INDEX] VALUE [t TIMESTEP]`."""
    from tui_gru.debugger.program.typed import Reader
    from tui_gru.tui.verbs.verb import example

    program, session = screen.session.program, screen.session
    reader = Reader(rest, example(program, "$z[0,1] 0.5, $W[3,0] -1, or $h[1,0] 0 t 2 for another timestep"))
    name, index = reader.entry()
    reader.take("=")
    value = reader.number(name)
    t = reader.timestep(program.seq_length)

    def show(what_if: WhatIf) -> None:
        from tui_gru.tui.panels.lists.what_if import WhatIfPanel

        screen.overlays.cover(WhatIfPanel(what_if), of_this_moment=True)

    screen.do(lambda _: session.what_if(program.code_name(name), index, value, t), then=show, opens=True)


def what_if_nudged(screen: MainScreen, event: WhatIfPanel.Nudged) -> None:
    """Suppose a value a number of steps away; the number is the count typed before the key."""
    from tui_gru.tui.panels.lists.what_if import WhatIfPanel

    panel, what_if, steps = screen.overlay, event.what_if, event.direction * screen.pending.take_count()
    if not isinstance(panel, WhatIfPanel):
        return
    if screen.snapshot.position.number != what_if.now.position.number:
        screen.say("this what-if belongs to another batch; ask again in the current one", warning=True)
        return

    def suppose(_: object) -> WhatIf:
        return screen.session.what_if(what_if.name, what_if.index, what_if.nudged(steps), what_if.t)

    screen.do(suppose, then=panel.turn_to, opens=True)


def what_if_kept(screen: MainScreen, event: WhatIfPanel.Kept) -> None:
    """Go to where the number was computed, and change it there. In the past, this starts a branch."""
    from tui_gru.debugger.program.naming import spoken
    from tui_gru.engine.numbers import given

    what_if, before = event.what_if, screen.snapshot

    def say(_: object) -> None:
        named = spoken(screen.snapshot.program, what_if.name, what_if.index)
        where = answers.moved(before, screen.snapshot) + answers.branched(before, screen.snapshot)
        screen.answer(f"{named} is {given(what_if.value + 0)} from here on{where}")

    screen.overlays.lift()
    screen.do(lambda _: screen.session.adopt(what_if), batches=screen.session.batches_to(), then=say)


async def suppose(screen: MainScreen) -> None:
    """Open the `:` line with the command that replaces the number under the cursor."""
    from tui_gru.debugger.program.names import ValueKind
    from tui_gru.debugger.program.naming import typed_entry

    ref = under_cursor(screen)
    if ref is None:
        words = "put the cursor on a number first: <panel.next> goes from panel to panel, the arrows to a number"
        screen.say(with_keys(screen, words), warning=True)
        return
    snapshot = screen.snapshot
    is_input, given = snapshot.program.names[ref.name].kind is ValueKind.INPUT, snapshot.config.given
    if is_input and given is not None and snapshot.program.model.page.inputs[ref.name].one_hot:
        screen.say("tokens are input and cannot be changed; change the row of the embedding table instead", warning=True)
        return
    if is_input and given is None:
        await screen.open_line(*_character(screen, ref))
        return
    value = snapshot.value(ref.name, ref.t)
    if value is None:
        screen.say(f"{ref.name} has not been computed yet; step to the line that computes it", warning=True)
        return
    t = "" if ref.t is None or ref.t == snapshot.position.t else f" t {ref.t + 1}"
    number = value[ref.index] if ref.index else value
    await screen.open_line(f"what-if {typed_entry(ref.name, ref.index)} ", str(number), t)


def _character(screen: MainScreen, ref: Ref) -> tuple[str, str]:
    """Return the command that changes a character of the text, and the present character."""
    from tui_gru.debugger.program.typed import quoted
    from tui_gru.engine.data.corpus import Corpus

    snapshot = screen.snapshot
    assert isinstance(snapshot.corpus, Corpus)  # only a text has characters
    t = snapshot.position.t if ref.t is None else ref.t
    place = snapshot.corpus.position_in_text(snapshot.position.batch, t, ref.index[0]) + (ref.name == snapshot.program.target)
    return f"set text[{place}] ", quoted(snapshot.corpus.text[place])


def under_cursor(screen: MainScreen) -> Ref | None:
    """Return the number of this moment under the cursor, None if there is none."""
    from tui_gru.tui.panels.lists.origin import OriginPanel
    from tui_gru.tui.widgets.cells import CellPanel
    from tui_gru.tui.widgets.matrix import MatrixView

    focused = screen.focused
    if isinstance(focused, OriginPanel):
        number = focused.number
        return None if number is None else _of_this_batch(screen, number)
    if isinstance(focused, MatrixView):
        return None if focused.refs is None else focused.refs(*focused.cursor)
    if isinstance(focused, CellPanel):
        return None if focused.spot is None else focused.spot.ref
    return None


def _of_this_batch(screen: MainScreen, number: ValueRef) -> Ref | None:
    """Return the reference to a number of a derivation, None if it belongs to another batch than the shown one."""
    from tui_gru.tui.widgets.refs import Ref

    same = (number.tick - 1) // screen.snapshot.program.ticks == screen.snapshot.position.number
    return Ref(number.name, number.index, number.t) if same else None
