"""Verbs that look: at another part of the screen, at an explanation, at where a number comes from and what it would change."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru import analysis
from tui_gru.debugger.derivation import ValueRef
from tui_gru.debugger.position import Reader, quoted, typed_entry, typed_index
from tui_gru.debugger.program import flow_names, spoken
from tui_gru.engine.config import Config
from tui_gru.engine.data import Corpus
from tui_gru.engine.source import Ability
from tui_gru.errors import TuiGruError
from tui_gru.paths import permitted
from tui_gru.session import answers
from tui_gru.tui import panels
from tui_gru.tui.keys import Arguments, commands_of, example, with_keys

if TYPE_CHECKING:
    from tui_gru.analysis.what_if import WhatIf
    from tui_gru.session.snapshot import Snapshot
    from tui_gru.tui.ask import Asked
    from tui_gru.tui.draw import Ref
    from tui_gru.tui.help import Explanation
    from tui_gru.tui.screen import MainScreen

FIRST_LESSON = "why"

# ------------------------------------------------------------------------------
# Verbs that change what is shown: row, layer, page, zoom, focus, theme, help; and escape and quit.


def row(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    """Single out the next or the previous row of the batch; between the last and the first, no row is singled out."""
    rows = screen.snapshot.config.batch_size
    now = -1 if screen.view.row is None else screen.view.row
    chosen = (now + 1 + direction) % (rows + 1) - 1
    screen.set_view(replace(screen.view, row=None if chosen < 0 else chosen))
    screen.say("no row is singled out" if chosen < 0 else f"row {chosen + 1} of {rows} is singled out")


def layer(screen: MainScreen, rest: Arguments) -> None:
    """Show the next layer or direction; after the last, that of the current line."""
    program = screen.session.program
    if len(program.layers) == 1:
        screen.say("this model has one layer, in one direction")
        return
    after = 0 if screen.view.layer is None else screen.view.layer + 1
    screen.set_view(replace(screen.view, layer=after if after < len(program.layers) else None))
    shown = "the layer of the current line" if screen.view.layer is None else program.layer_name(program.layers[after])
    screen.say(f"gates, weights and gradient flow show {shown}")


def page(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.layout import page_words

    pages = screen.panels
    pages.turn_to(pages.page + 1)
    one = "all panels are on this page"
    screen.say(page_words(pages.on_pages, pages.page) if pages.pages > 1 else one)


def theme(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.theme import checked_theme

    screen.app.theme = checked_theme(screen.app, str(rest))
    screen.say(f"the theme is {rest}")


# Explanations


def help_(screen: MainScreen, rest: Arguments) -> None:
    """Open the help; with arguments, show the explanation of that name in the message line, or the section of the manual about
    these words in the help. Raises `TuiGruError` if there is neither."""
    if not (rest and _explain_words(screen, rest)):
        screen.show_section(str(rest))


THIS_LINE = "this line"  # what `help` explains as the line just executed


def explanations_here(screen: MainScreen) -> tuple[list[Explanation], Callable[[], Iterable[Explanation]]]:
    """Return the explanations of what has the focus, and a function that returns all."""
    from tui_gru.tui.help import every_row, rows_here

    focused = screen.overlay if screen.focused is None else screen.focused
    keys, program = partial(with_keys, screen), screen.session.program
    of_focus = list(rows_here(screen.snapshot, focused, under_cursor(screen), keys))
    if focused is None:
        words = "<panel.next> goes from panel to panel, the arrows from number to number: <help> then explains it here"
        of_focus.append(("more", with_keys(screen, words)))

    return of_focus, partial(every_row, program, keys)


def _explain_words(screen: MainScreen, words: str) -> bool:
    """Explain a name, a sign or a panel; return False if the manual says more about these words than the signs do.

    Raises `TuiGruError` if neither says anything.
    """
    from tui_gru.tui import manual
    from tui_gru.tui.about import TERMS
    from tui_gru.tui.help import WORDS, explain_named, explanation_of, line_in_full

    if words.strip() == THIS_LINE:
        screen.say(line_in_full(screen.snapshot) or answers.place_in_full(screen.snapshot))
        return True
    program, keys = screen.session.program, partial(with_keys, screen)
    explanation, sections = explain_named(program, words, keys), manual.search(words)
    if not explanation and not (sections and manual.is_about(sections[0], words)):
        explanation = explanation_of(program, words, keys)
    if explanation:
        screen.say(explanation)
    elif not sections:
        cure = manual.suggestion(words, (*program.names, *WORDS, *TERMS))
        cure = cure or keys("type the name of a value, a sign or a panel; <help> explains what has the focus")
        raise TuiGruError(f"there is no explanation of {str(words)!r}; {cure}")
    return bool(explanation)


def say_where(screen: MainScreen, rest: Arguments) -> None:
    """Say where the run is: in the loops, on which line, and what comes next."""
    screen.answer(answers.place_in_full(screen.snapshot))


def ask(screen: MainScreen, rest: Arguments) -> None:
    """Ask: show the questions that fit the words, and the answer to the first; without words, those of this moment."""
    from tui_gru.tui.ask import AskScreen, needs_completing

    async def do(asked: Asked | None) -> None:
        match asked:
            case ("execute", command) if needs_completing(screen, command):
                await screen.open_line(command)
            case ("execute", command):
                screen.execute_each(commands_of(command))
            case ("verb", id):
                await screen.run_action(screen.verbs[id].action)
            case ("help", words):
                open_section(screen, words)

    screen.app.push_screen(AskScreen(screen, str(rest), *explanations_here(screen)), do)


def open_section(screen: MainScreen, words: str) -> None:
    """Open the section of the manual about these words, without words all keys and commands; what is typed there is asked."""
    from tui_gru.tui.help import HelpScreen

    def then(typed: str | None) -> None:
        if typed is not None:
            ask(screen, Arguments(typed))

    of_focus, _ = explanations_here(screen)
    screen.app.push_screen(HelpScreen(tuple(screen.verbs.values()), screen.session.program, of_focus, words), then)


def legend(screen: MainScreen, rest: Arguments) -> None:
    """Show the legend of colours and signs over the blackboard, or hide it if it is shown."""
    from tui_gru.tui.help import Legend

    screen.overlays.toggle(Legend)


RESULTS, RESULTS_FILE = "results", "results.md"


def take_lesson(screen: MainScreen, rest: Arguments) -> None:
    """List the lessons, or begin the one of this name or file; or write the results of the one under way to a file.

    Raises `TuiGruError` if there is none, or it has no such model, or the file exists.
    """
    from tui_gru.teaching.lesson import read_lesson, shipped_lessons
    from tui_gru.tui.lessons import finished_lessons
    from tui_gru.tui.panels.lessons import LessonList

    if rest.partition(" ")[0] == RESULTS and not Path(rest).exists():
        path = permitted(rest.removeprefix(RESULTS).strip() or RESULTS_FILE)
        if screen.walk is None or screen.walk.lesson is None:
            raise TuiGruError(f"no lesson is under way; begin one, and type lesson {RESULTS} at its end")
        screen.say(f"wrote {screen.walk.write_results(path)} to {path}")
    elif rest:
        typed = re.fullmatch(r"(.*?)(?:\s+seed\s+(\d{1,18}))?", rest)
        assert typed is not None
        screen.take_lesson(read_lesson(typed[1]), None if typed[2] is None else int(typed[2]))
    else:
        screen.overlays.cover(LessonList([read_lesson(name) for name in shipped_lessons()], finished_lessons()))


# Escape and quit


def escape(screen: MainScreen, rest: Arguments) -> None:
    """Stop a run; without one, end the first of these: a question, a count, play, zoom, an overlay, the focus, what a run has
    shown, a unit held at 0, a message."""
    if screen.running:
        screen.session.interrupt()
    elif screen.pending.withdraw():
        pass
    elif screen.pending.counting:
        screen.pending.take_count()
    elif screen.play.playing:
        screen.play.pause()
    elif screen.maximized is not None:
        screen.minimize()
    elif screen.overlay is not None:
        screen.overlays.lift()
    elif screen.focused is not None:
        screen.set_focus(None)
    elif screen.view.live:
        screen.set_view(replace(screen.view, live=False))
    elif screen.session.silent is not None:
        end_silence(screen)
    elif not screen.kept.decline():
        screen.say("")


def end_silence(screen: MainScreen) -> None:
    screen.do(lambda progress: screen.session.silence(), batches=0, then=lambda _: screen.answer("all units, as the run has them"))


def interrupt(screen: MainScreen, rest: Arguments) -> None:
    if screen.running:
        screen.session.interrupt()
    else:
        screen.say(with_keys(screen, "nothing is running; <quit> quits"))


def suspend(screen: MainScreen, rest: Arguments) -> None:
    """Stop the program as `ctrl+z` stops others, together with what the shell started it by."""
    if screen.app.is_headless or screen.app.is_web or not hasattr(signal, "SIGTSTP"):  # which Windows lacks
        screen.say("only a program in a terminal can be suspended", warning=True)
    else:
        os.kill(0, signal.SIGTSTP)


def quit_(screen: MainScreen, rest: Arguments) -> None:
    """Quit; if there is unrecorded work, only on the second call in a row."""
    if screen.kept.question and not screen.pending.leaving:
        screen.pending.leaving = True
        screen.say(with_keys(screen, "press <quit> again to quit and lose the changes that are not recorded"))
        return
    screen.session.interrupt()
    screen.app.exit()


# ------------------------------------------------------------------------------
# Verbs that show where a number comes from, and what would change if it were another.


def why(screen: MainScreen, rest: Arguments) -> None:
    """Show where a number comes from: `NAME[INDEX] [t TIMESTEP]`; by default the result of the current line."""
    if not rest:
        _explain_line(screen)
        return

    program = screen.session.program
    reader = Reader(rest, example(program, "$h[1,0], $W[3,0], loss, or $z[0,1] t 2 for another timestep"))
    name, index = reader.entry(program)
    t = reader.timestep(program.seq_length)
    if rest.begins < len("why ") and (words := _not_computed(screen, program.code_name(name), index, t)):
        screen.answer(words)  # an entry typed alone: what is known of it
        return
    screen.derivations.ask(ValueRef(name, index, t, screen.snapshot.position.tick))


def print_numbers(screen: MainScreen, rest: Arguments) -> None:
    """Show the numbers of a value, of a row or a unit of it, or of an expression."""
    read = partial(screen.session.printed, str(rest))
    screen.do(
        lambda progress: read(), batches=0, then=lambda shown: screen.overlays.cover(panels.lists.NumberList(shown)), opens=True
    )


def _not_computed(screen: MainScreen, name: str, index: tuple[int, ...], t: int | None) -> str:
    """Say of an entry that this batch has not computed yet which line will; empty for any other."""
    snapshot, program = screen.snapshot, screen.session.program
    shape, place = program.shapes.get(name, ()), program.place_of(name)
    exists = len(index) == len(shape) and all(0 <= i < size for i, size in zip(index, shape, strict=True))
    if place is None or not exists or snapshot.value(name, t) is not None or snapshot.moment.why_missing(name):
        return ""
    from tui_gru.tui.about import about_line

    block, at = place
    line = block.lines[at]
    words = f"{spoken(program, name, index)} has not been computed yet: {line.text} computes it"
    note = about_line(program, line)
    back = " · learning is off, so this line is not executed" if line.phase != "forward" and not snapshot.settings.learning else ""
    return f"{words}{f' ({note})' if note else ''} · go {program.writer.name(line.target)} goes there{back}"


def number_asked(screen: MainScreen, ref: Ref) -> None:
    ask_about(screen, ref.name, ref.index, ref.t, before=ref.before)


def ask_about(screen: MainScreen, name: str, index: tuple[int, ...], t: int | None, *, before: bool = False) -> None:
    """Show where a number of this moment comes from; with `before`, of the moment before the line just executed."""
    screen.derivations.ask(ValueRef(name, index, t, screen.snapshot.position.tick - before))


async def changes_asked(screen: MainScreen, number: ValueRef) -> None:
    """Open the `:` line with a search back in time for a change of the number by more than a value to be typed."""
    index = f"[{typed_index(screen.session.program, number.name, number.index)}]" if number.index else ""
    now, before = f"{number.name}{index}", f"prev({number.name}){index}"
    await screen.open_line(f"back abs({now} - {before}) > ")


def explain_number(screen: MainScreen) -> None:
    """Show where the number under the cursor comes from; without a cursor, the result of the current line."""
    focused = screen.focused
    if focused is None:
        _explain_line(screen)
        return
    from tui_gru.tui.matrix import MatrixView
    from tui_gru.tui.panel import CellPanel

    focused = screen.focused
    if (
        isinstance(focused, MatrixView)
        or (isinstance(focused, CellPanel) and focused.spot is not None)
        or (isinstance(focused, panels.listing.Listing) and focused.pointed)
    ):
        focused.choose()
    elif isinstance(focused, panels.time.LossCurve):
        _explain_loss(screen, focused.pointed)
    elif isinstance(focused, (panels.listing.Listing, panels.line.CurrentLine)):
        _explain_line(screen)
    else:
        screen.say(with_keys(screen, "there is no number to ask about here; <panel.next> goes to the next panel"), warning=True)


def _explain_loss(screen: MainScreen, batch: int | None) -> None:
    """Show where a loss comes from.

    `batch` is the batch under the pointer, counted from 0 over the run. If it is None, the loss is that of the current batch, or
    of the previous one if the current batch has none yet.
    """
    position, ticks = screen.snapshot.position, screen.snapshot.program.ticks
    tick = position.tick if screen.snapshot.value("loss") is not None else position.number * ticks
    if batch is not None and batch != position.number:
        tick = batch * ticks + screen.snapshot.program.loss_tick
    if tick:
        screen.derivations.ask(ValueRef("loss", (), None, tick))
    else:
        screen.say(with_keys(screen, "no loss has been computed yet; <step.batch> runs a batch"), warning=True)


def _explain_line(screen: MainScreen) -> None:
    """Show where the result of the line just executed comes from, in the selected row; before the first line of the tutorial's
    training, begin the first lesson, which is about it."""
    line = screen.snapshot.line
    if screen.snapshot.position.tick == 0 and screen.snapshot.config == Config.of():
        take_lesson(screen, Arguments(FIRST_LESSON))
        return
    if line is None or line.formula is None:
        words = "no value has been computed yet: step first, then <explain> shows where a number comes from"
        screen.say(with_keys(screen, words), warning=True)
        return
    ref = _result_of_line(screen)
    assert ref is not None
    ask_about(screen, ref.name, ref.index, None)
    if not screen.running and (words := _paths_of(screen.snapshot, line.target)):
        screen.say(words)


def _result_of_line(screen: MainScreen) -> Ref | None:
    """Return the result of the line just executed, in the selected row; None if it has none."""
    from tui_gru.tui.draw import Ref

    line, selected = screen.snapshot.line, screen.view.row or 0
    if line is None or line.formula is None:
        return None
    return Ref(line.target, tuple(selected if axis == "row" else 0 for axis in screen.session.program.names[line.target].counted))


def _paths_of(snapshot: Snapshot, target: str) -> str:
    """Return the shares of the paths of a gradient that is passed back to another timestep; empty for another value."""
    program, t = snapshot.program, snapshot.timestep
    if not snapshot.flowing:
        return ""
    names = ((candidate, flow_names(program, candidate)) for candidate in program.model.page.states)
    state = next((candidate for candidate, flow in names if flow.handed_on == target), None)
    flow = None if state is None or t is None else snapshot.flow(state=state)[t]
    shares = None if flow is None else flow.shares
    if state is None or shares is None or len(shares) < 2:
        return ""
    paths = zip(analysis.influence.paths_of(program, state), shares, strict=True)
    return f"of the gradient passed back: {', '.join(f'{word} {share:.0%}'.replace('%', ' %') for (_, word), share in paths)}"


# What-if


def ask_what_if(screen: MainScreen, rest: Arguments) -> None:
    """Suppose another value: `NAME[INDEX] VALUE [t TIMESTEP]`, of one number, a row, a unit or a whole value."""

    program, session = screen.session.program, screen.session
    reader = Reader(rest, example(program, "$z[0,1] 0.5, $W[3,0] -1, or $h[1,0] 0 t 2 for another timestep"))
    name, index = reader.entries(program)
    reader.take("=")
    value = reader.number(name)
    t = reader.timestep(program.seq_length)

    def show(what_if: WhatIf) -> None:
        screen.overlays.cover(panels.derivation.WhatIfPanel(what_if), of_this_moment=True)

    screen.do(lambda progress: session.what_if(program.code_name(name), index, value, t), then=show, opens=True)


def what_if_nudged(screen: MainScreen, what_if: WhatIf, direction: int) -> None:
    """Suppose a value a number of steps away; the number is the count typed before the key."""
    panel, steps = screen.overlay, direction * screen.pending.take_count()
    if not isinstance(panel, panels.derivation.WhatIfPanel):
        return
    if screen.snapshot.position.number != what_if.now.position.number:
        screen.say("this what-if belongs to another batch; ask again in the current one", warning=True)
        return

    def suppose(progress: object) -> WhatIf:
        return screen.session.what_if(what_if.name, what_if.index, what_if.nudged(steps), what_if.t)

    screen.do(suppose, then=panel.turn_to, opens=True)


def what_if_kept(screen: MainScreen, what_if: WhatIf) -> None:
    """Go to where the number was computed, and change it there. In the past, this starts a branch."""
    from tui_gru.engine.numbers import significant

    before = screen.snapshot

    def say(_: object) -> None:
        named = spoken(screen.snapshot.program, what_if.name, what_if.index)
        where = answers.new_place(before, screen.snapshot) + answers.branched(before, screen.snapshot)
        screen.answer(f"{named} is {significant(what_if.value + 0)} from here on{where}")

    screen.overlays.lift()
    screen.do(lambda progress: screen.session.adopt(what_if), batches=screen.session.batches_to(), then=say)


async def suppose(screen: MainScreen) -> None:
    """Open the `:` line with the command that replaces the number under the cursor; without a cursor, the result of the current
    line."""
    ref = under_cursor(screen)
    if ref is None and isinstance(screen.focused, (type(None), panels.listing.Listing, panels.line.CurrentLine)):
        ref = _result_of_line(screen)
    if ref is None:
        words = "put the cursor on a number first: <panel.next> goes from panel to panel, the arrows to a number"
        screen.say(with_keys(screen, words), warning=True)
        return
    snapshot = screen.snapshot
    variable = snapshot.program.model.page.inputs.get(ref.name)
    if variable is not None and variable.one_hot:
        if snapshot.config.source.can(Ability.TEXT):
            await screen.open_line(*_character(screen, ref))
        else:
            screen.say("tokens are input and cannot be changed; change the row of the embedding table instead", warning=True)
        return
    value = snapshot.value(ref.name, ref.t)
    if value is None:
        reason = snapshot.moment.why_missing(ref.name)
        screen.say(reason or f"{ref.name} has not been computed yet; step to the line that computes it", warning=True)
        return
    t = "" if ref.t is None or ref.t == snapshot.position.t else f" t {ref.t + 1}"
    number = value[ref.index] if ref.index else value
    await screen.open_line(f"what-if {typed_entry(snapshot.program, ref.name, ref.index)} ", str(number), t)


def _character(screen: MainScreen, ref: Ref) -> tuple[str, str]:
    """Return the command that changes a character of the text, and the present character."""
    snapshot = screen.snapshot
    assert isinstance(snapshot.corpus, Corpus)  # only a text has characters
    t = snapshot.position.t if ref.t is None else ref.t
    place = snapshot.corpus.position_in_text(snapshot.position.batch, t, ref.index[0]) + (ref.name == snapshot.program.target)
    return f"set text[{place}] ", quoted(snapshot.corpus.text[place])


def under_cursor(screen: MainScreen) -> Ref | None:
    """Return the number of this moment under the cursor, None if there is none."""
    from tui_gru.tui.matrix import MatrixView
    from tui_gru.tui.panel import CellPanel

    focused = screen.focused
    if isinstance(focused, panels.derivation.DerivationPanel):
        from tui_gru.tui.draw import Ref

        number = focused.number
        if number is None or (number.tick - 1) // screen.snapshot.program.ticks != screen.snapshot.position.number:
            return None  # it belongs to another batch than the shown one
        return Ref(number.name, number.index, number.t)
    if isinstance(focused, MatrixView):
        return None if focused.refs is None else focused.refs(*focused.cursor)
    if isinstance(focused, CellPanel):
        return None if focused.spot is None else focused.spot.ref
    return None
