"""Verbs of breakpoints, watches and marks, and of runs to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.position import as_typed
from tui_gru.debugger.state.marks import Mark
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import answers
from tui_gru.tui.verbs.stepping import run_on, without_learning
from tui_gru.tui.verbs.verb import Arguments, sign_of_key, with_keys

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session
    from tui_gru.tui.panels.lists.stops_list import StopsList
    from tui_gru.tui.panels.program.listing import Listing
    from tui_gru.tui.screens.main import MainScreen


def change_stops(screen: MainScreen, change: Callable[[Session], object]) -> None:
    """Change the session's stops or marks in this thread, and redraw. Raises `TuiGruError` during a run or if `change` does."""
    if screen.running:
        raise TuiGruError(with_keys(screen, "a run is under way; <stop> stops it"))
    screen.forget_notice()
    change(screen.session)
    screen.show_now()


# Breakpoints and watches


def break_(screen: MainScreen, rest: Arguments) -> None:
    """Set or change a breakpoint: `[#ID] [LINE] [if CONDITION] [hits COUNT] [log TEMPLATE]`; by default on the current line."""
    if not rest:
        _break_here(screen)
        return
    from tui_gru.tui.verbs.stop_arguments import breakpoint_of

    id, fields = breakpoint_of(screen.session, rest)
    if id is None:
        add_breakpoint(screen, **fields)
    else:
        change_stop(screen, id, **fields)


def _break_here(screen: MainScreen) -> None:
    if screen.snapshot.line is None:
        words = "no line has been executed yet; press <step.line> to execute one, or click beside a line of the program"
        screen.say(with_keys(screen, words), warning=True)
    else:
        toggle_breakpoint(screen, screen.snapshot.line.target)


def toggle_breakpoint(screen: MainScreen, target: str) -> None:
    """Toggle the breakpoint on a line.

    Adds one if the line has none, deletes a plain one, and shows one with a condition, hit count or log in the list.
    """
    from tui_gru.tui.panels.program.listing import described, plain, stops_on

    line = next(row.line for row in screen.session.program.rows if row.line is not None and row.line.target == target)
    there = stops_on(screen.snapshot, line)
    if not there:
        add_breakpoint(screen, target)
    elif (bare := next(filter(plain, there), None)) is not None:
        delete_stop(screen, bare.id)
    else:
        list_stops(screen, at=there[0].id)
        what, verb = described(there[0], screen.session.program), "disables" if there[0].enabled else "enables"
        screen.say(f"{what} · d deletes it, e edits it, space {verb} it")


def gutter_chosen(screen: MainScreen, event: Listing.GutterChosen) -> None:
    if not screen.running:
        toggle_breakpoint(screen, event.line.target)


def add_breakpoint(screen: MainScreen, line: str = "", *, condition: str = "", hits: str = "", log: str = "") -> None:
    from tui_gru.tui.panels.program.listing import described

    change_stops(screen, lambda session: session.break_at(line, condition=condition, hits=hits, log=log))
    made = described(screen.session.stops.breakpoints[-1], screen.session.program)
    screen.say(f"{made} · {sign_of_key(screen, 'continue')} {'continues and writes its lines' if log else 'runs to it'}")


def watch(screen: MainScreen, rest: Arguments) -> None:
    """Add or change a watch: `[#ID] EXPRESSION [stop]`."""
    from tui_gru.tui.verbs.stop_arguments import watch_of

    id, expression, stops = watch_of(screen.session, rest)
    if id is not None:
        change_stop(screen, id, expression=expression, stops=stops)
        return
    change_stops(screen, lambda session: session.watch(expression, stops=stops))
    page = f" · {sign_of_key(screen, 'page')} shows its page" if screen.panels.small else ""
    screen.say(f"watching {expression}{page}")


def change_stop(screen: MainScreen, id: int, **changes: Any) -> None:
    change_stops(screen, lambda session: session.change_stop(id, **changes))


def delete_stop(screen: MainScreen, id: int) -> None:
    """Delete a breakpoint or watch, and show the command that sets it again."""
    from tui_gru.tui.panels.program.listing import command_of

    command = command_of(screen.session.stops.get(id))
    change_stops(screen, lambda session: session.delete_stop(id))
    screen.say(f"deleted; set it again with :{command}")


def delete_stops(screen: MainScreen, rest: Arguments) -> None:
    """Delete breakpoints and watches by number, and marks by letter."""
    from tui_gru.tui.verbs.stop_arguments import names_of, number_of

    for name in names_of(rest, "delete 3, delete a"):
        if name.isalpha():
            delete_mark(screen, name)
        else:
            delete_stop(screen, number_of(name))


def enable(screen: MainScreen, rest: Arguments, *, value: bool) -> None:
    from tui_gru.tui.verbs.stop_arguments import names_of, number_of

    names = names_of(rest, "enable 3" if value else "disable 3")
    for name in names:
        change_stop(screen, number_of(name), enabled=value)
    screen.say(f"{', '.join(names)}: {'enabled' if value else 'disabled'}")


# Runs to breakpoints


def continue_(screen: MainScreen, rest: Arguments) -> None:
    """Run to the next stop. A run that has no end and that nothing could stop is refused."""
    stops = screen.snapshot.stops
    if stops.active or screen.snapshot.last is not None:
        run_on(screen, screen.session.continue_, lambda: _not_stopped(screen))
        return
    screen.pending.take_count()
    cure = "<breakpoint> sets one here, <command>break if loss < 0.5 one anywhere"
    if _settable(screen):
        cure = "<stops> lists them, to enable one"
    screen.say(with_keys(screen, f"{_why_not_stopped(screen)}, so nothing would stop this run · {cure}"), warning=True)


def reverse(screen: MainScreen, rest: Arguments) -> None:
    run_on(screen, screen.session.reverse_continue, lambda: f"reached the beginning; {_why_not_stopped(screen)}")


def _settable(screen: MainScreen) -> bool:
    """True if there is a breakpoint, or a watch that stops runs, enabled or not."""
    stops = screen.snapshot.stops
    return bool(stops.breakpoints) or any(watch.stops for watch in stops.watches)


def _not_stopped(screen: MainScreen) -> str:
    """Say why a run forwards ended without a stop: at its end, or by an interrupt."""
    end = "reached the end; " if screen.session.position == screen.session.end else ""
    return f"{end}{_why_not_stopped(screen)}{without_learning(screen)}"


def _why_not_stopped(screen: MainScreen) -> str:
    if not _settable(screen):
        return "no breakpoints are set"
    return "no breakpoint was hit" if screen.snapshot.stops.active else "all breakpoints are disabled"


# Marks


def mark(screen: MainScreen, rest: Arguments) -> None:
    """Mark this place: `LETTER [TEXT]`."""
    from tui_gru.tui.verbs.stop_arguments import names_of

    names_of(rest, "mark a, mark a what to see here")
    letter, _, text = rest.partition(" ")
    mark_here(screen, letter, text)


def jump(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.verbs.stop_arguments import names_of

    jump_to(screen, names_of(rest, "jump a, jump '")[0])


def press_mark(screen: MainScreen) -> None:
    _wait_for_letter(screen, "mark", "type a letter to mark this place", mark_here)


def press_jump(screen: MainScreen) -> None:
    marks = " ".join(mark.letter for mark in screen.snapshot.marks)
    words = f"type a letter to jump to its mark{f' ({marks})' if marks else '; none is set yet'} · ' jumps back"
    _wait_for_letter(screen, "jump", words, jump_to)


def _wait_for_letter(screen: MainScreen, verb: str, words: str, then: Callable[[MainScreen, str], None]) -> None:
    screen.pending.take_count()
    screen.pending.wait_for_letter(lambda letter: then(screen, letter), sign_of_key(screen, verb))
    screen.say(f"{words} · {sign_of_key(screen, 'stop')} cancels")


def mark_here(screen: MainScreen, letter: str, text: str = "") -> None:
    """Mark this place. Raises `TuiGruError` if it cannot be marked."""
    change_stops(screen, lambda session: session.mark(letter, text))
    more = "" if text else f" · :mark {letter} TEXT adds a text that is shown here"
    screen.say(f"{letter} marks {as_typed(screen.session.position)}{more}")


def jump_to(screen: MainScreen, letter: str) -> None:
    """Go to a mark, or with `'` to the place before the last jump, and show which place that is."""
    _jump(screen, lambda progress: screen.session.jump(letter, progress=progress))


def next_mark(screen: MainScreen, rest: Arguments, *, forwards: bool) -> None:
    _jump(screen, lambda progress: screen.session.next_mark(forwards, progress=progress))


def has_marks(screen: MainScreen) -> bool:
    return bool(screen.snapshot.marks)


def texts_here(screen: MainScreen) -> str:
    """Return the texts of the marks at this place, and the key to the next mark if there is one; empty if no mark has a text."""
    texts = [f"{mark.letter}: {mark.text}" for mark in screen.snapshot.marks_here if mark.text]
    if texts and _marks_beyond(screen)[1]:
        texts.append(with_keys(screen, "<mark.next> next mark"))
    return " · ".join(texts)


def offer_marks(screen: MainScreen) -> None:
    """Add to the notice of a reopened session that its marks have texts, and how to go through them."""
    count = sum(bool(mark.text) for mark in screen.snapshot.marks)
    here = texts_here(screen)
    if screen.notice is None or count <= bool(here):
        return
    (back, on), words = _marks_beyond(screen), "a mark has a text" if count == 1 else f"{count} marks have a text"
    keys = ["<mark.next> goes to the next"] if on and not here else []
    keys += ["<mark.back> goes to the one before"] if back else []
    screen.session.add_notice(with_keys(screen, ": ".join(filter(None, (words, ", ".join(keys))))))
    screen.say_notice()


def _marks_beyond(screen: MainScreen) -> tuple[bool, bool]:
    """Return whether there are marks before this place, and after it."""
    snapshot = screen.snapshot
    here = snapshot.branches.index(snapshot.branch), snapshot.position.tick
    places = [(snapshot.branches.index(mark.branch), mark.tick) for mark in snapshot.marks if mark.branch in snapshot.branches]
    return any(place < here for place in places), any(place > here for place in places)


def _jump(screen: MainScreen, verb: Callable[[Any], object]) -> None:
    before = screen.snapshot

    def say(_: object) -> None:
        if screen.session.outcome.stopped_by is None:
            screen.answer(answers.place_in_words(screen.snapshot) + answers.branched(before, screen.snapshot))

    screen.do(verb, batches=screen.session.batches_to(), then=say)


def delete_mark(screen: MainScreen, letter: str) -> None:
    change_stops(screen, lambda session: session.delete_mark(letter))
    screen.say(f"mark {letter} is deleted")


# The list


def stops(screen: MainScreen, rest: Arguments) -> None:
    list_stops(screen)


def marks(screen: MainScreen, rest: Arguments) -> None:
    list_stops(screen, at=next((mark.letter for mark in screen.snapshot.marks), None))


def list_stops(screen: MainScreen, *, at: int | str | None = None) -> None:
    """Show the list of breakpoints, watches and marks, with the cursor at one of them."""
    from tui_gru.tui.panels.lists.stops_list import StopsList  # imported late: not needed for the first screen

    screen.overlays.cover(StopsList(at=at))


async def stop_chosen(screen: MainScreen, event: StopsList.Chosen) -> None:
    from tui_gru.tui.panels.program.listing import command_of

    entry = event.entry
    if event.verb == "deleted":
        delete_mark(screen, entry.letter) if isinstance(entry, Mark) else delete_stop(screen, entry.id)
    elif isinstance(entry, Mark):
        if event.verb == "opened":
            jump_to(screen, entry.letter)
    elif event.verb == "toggled":
        change_stop(screen, entry.id, enabled=not entry.enabled)
    else:
        await screen.open_line(command_of(entry, id=True))
