"""Verbs that move: through time by steps, play, jumps and runs until a condition holds; and through the numbers of a matrix."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.expressions import in_screen_spelling
from tui_gru.debugger.position import Level, Reader, TypedError, tick_of
from tui_gru.debugger.program import in_line
from tui_gru.engine.source import Ability
from tui_gru.errors import TuiGruError
from tui_gru.session.answers import place_in_words
from tui_gru.tui import panels
from tui_gru.tui.keys import LARGEST_COUNT, Arguments, Step, with_keys

if TYPE_CHECKING:
    from tui_gru.debugger.derivation import Node
    from tui_gru.tui.matrix import MatrixView
    from tui_gru.tui.screen import MainScreen

LEVELS: dict[str, Level] = {
    "o": "op", "op": "op", "line": "op", "s": "timestep", "t": "timestep", "timestep": "timestep", "f": "phase", "phase": "phase",
    "n": "batch", "b": "batch", "batch": "batch", "e": "epoch", "epoch": "epoch",
}  # fmt: skip


def step(screen: MainScreen, rest: Arguments) -> None:
    """Step: `[COUNT] [LEVEL]`, by default one timestep."""
    reader = Reader(rest, "step 3 batch")
    count = reader.integer("a count", least=-LARGEST_COUNT, most=LARGEST_COUNT) if reader.next_is_integer() else 1
    level = _level(reader, "timestep")
    screen.play.walk(Step(level, -1 if count < 0 else 1), abs(count))


def _level(reader: Reader, default: Level) -> Level:
    """Read a level, or return the default if nothing is left to read. Raises an error if there is no such level."""
    name = reader.left or default
    if name not in LEVELS:
        from difflib import get_close_matches

        from tui_gru.debugger.position import shortened_input

        words = ("line", "timestep", "phase", "batch", "epoch")
        close = get_close_matches(name, words, n=1)
        cure = f"did you mean {close[0]}?" if close else f"there are {', '.join(words)}"
        raise reader.error(f"there is no level {shortened_input(name)}; {cure}")
    return LEVELS[name]


# Places


def go_to(screen: MainScreen, place: str | int, continues: bool = False) -> None:
    """Go to a place in time and show which it is. `along` is True if this continues the previous jump."""

    def say(_: object) -> None:
        if screen.session.outcome.stopped_by is None:  # otherwise the outcome says why the place was not reached
            screen.answer(place_in_words(screen.snapshot))

    batches = screen.session.batches_to(place) if isinstance(place, int) else None
    screen.do(partial(screen.session.seek, place, along=continues), batches=batches, then=say)


def go(screen: MainScreen, rest: Arguments) -> None:
    """Go to a place: `e3 b2 t1`, `50%`, `+100`, `-2e`, or a tick."""
    reader = Reader(rest, "go e3 b2 t1, go 50%, go +100, go -2e, or a tick")
    if rest[:1] in ("+", "-", "−"):
        count = reader.integer("a count", least=-LARGEST_COUNT, most=LARGEST_COUNT)
        go_to(screen, screen.session.tick_after(_level(reader, "op"), count))
    elif rest.endswith("%"):
        percent = reader.number("a part of the run", before="%")
        span = (screen.snapshot.last or screen.snapshot.newest).tick
        go_to(screen, round(min(max(percent, 0), 100) / 100 * span))
    elif reader.next_is_integer():
        tick = reader.integer("a tick")
        reader.end()
        go_to(screen, tick)
    else:
        go_to(screen, tick_of(rest, screen.snapshot.position, screen.snapshot.program))


def run_to_line(screen: MainScreen, target: str) -> None:
    screen.do(partial(screen.session.run_to, target))


# Conditions


def until(screen: MainScreen, rest: Arguments, *, forwards: bool) -> None:
    """Run until a condition holds, forwards or back in time."""
    session = screen.session
    verb = session.run_until if forwards else session.run_back_until

    def run(progress: Any) -> None:
        try:
            is_met = verb(rest, progress=progress)
        except TypedError as error:
            raise error.moved(rest.begins) from None
        if not is_met:
            screen.note_if_not_stopped(_not_met(screen, rest, "on the way", forwards))

    screen.do(run, batches=None, then=lambda _: _say_met(screen, rest))


def _say_met(screen: MainScreen, condition: str) -> None:
    """Show where a condition holds, unless a notice says why the run ended elsewhere."""
    if screen.notice is None:
        shown = in_screen_spelling(condition, screen.session.program.spellings)
        screen.answer(f"{shown} holds {place_in_words(screen.snapshot)}")


def _not_met(screen: MainScreen, condition: str, where: str, forwards: bool) -> str:
    """Say that a condition did not hold `where`, or before; and that learning is off, if a run forwards has no end."""
    return f"{str(condition)!r} did not hold {where + without_learning(screen) if forwards else 'before'}"


def without_learning(screen: MainScreen) -> str:
    """Return a note that learning is off, if the run has no end; otherwise the empty text."""
    endless = screen.session.end is None and not screen.session.learning
    return " · learning is off, so the weights do not change" if endless else ""


def match(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    """Go to the next place where the last condition holds, as many times as the count says."""
    run_on(
        screen,
        partial(screen.session.next_match, direction > 0),
        lambda: _not_met(screen, screen.session.state.last_condition, "further on", direction > 0),
        then=lambda _: _say_met(screen, screen.session.state.last_condition),
    )


def run_on(
    screen: MainScreen, verb: Callable[..., bool], otherwise: Callable[[], str], then: Callable[[object], None] | None = None
) -> None:
    """Run as many times as the count says, each to its stop. If a run does not stop, show the words of `otherwise` and end."""
    count, session = screen.pending.take_count(), screen.session

    def run(progress: Any) -> None:
        # The session clears an interrupt when a verb ends, even if the verb had already stopped for another reason.
        interrupts = session.interrupts.count
        if not all(verb(progress=progress) and session.interrupts.count == interrupts for _ in range(count)):
            screen.note_if_not_stopped(otherwise())

    screen.do(run, batches=None, then=then)


# ------------------------------------------------------------------------------
# Verbs that move in a matrix: in the one in focus, or in that of the weights.


ORDINALS = {2: "nd", 3: "rd"}


def weights(screen: MainScreen, rest: Arguments) -> None:
    """Show the weights, on their page; where they are shown already, their next sheet."""
    panel = screen.query_one(panels.weights.WeightsPanel)
    if not screen.panels.show_page_of(panels.weights.WeightsPanel):
        panel.action_cycle_mode()
    screen.say(f"weights panel: {panel.mode}")


def _matrix(screen: MainScreen, again: Callable[[], None] | None = None) -> MatrixView | None:
    """Return the matrix in focus, otherwise that of the weights after focusing it; None, with a message, if neither is in view.

    If the weights are on another page, turn to it, and act `again` once it is laid out.
    """
    from tui_gru.tui.matrix import MatrixView

    focused = screen.focused
    if again is not None and not isinstance(focused, MatrixView) and screen.panels.show_page_of(panels.weights.WeightsPanel):
        screen.call_after_refresh(again)
        return None
    view = focused if isinstance(focused, MatrixView) else screen.query_one(panels.weights.WeightsPanel).matrix
    if view is None or not view.region:
        screen.say(with_keys(screen, "no matrix is in focus; <panel.next> goes from panel to panel"))
        return None
    if view is not focused:
        screen.set_focus(view)
    return view


def largest(screen: MainScreen, rest: Arguments) -> None:
    """Go to the largest entry of the matrix; again, to the next largest."""
    matrix = _matrix(screen, lambda: largest(screen, rest))
    if matrix is not None:
        rank = matrix.go_to_largest()
        which = "" if rank == 1 else f"{rank}{ORDINALS.get(rank or 0, 'th')} "
        words = f"the {which}largest entry: {matrix.place_of(*matrix.cursor)} = {matrix.exact}"
        screen.say(words if rank is not None else "it is not computed yet")


def largest_of_all(screen: MainScreen, rest: Arguments, *, sheet: str) -> None:
    """Go to the largest of all gradients or changes of the weights."""

    def find() -> None:
        panel = screen.query_one(panels.weights.WeightsPanel)
        words = panel.go_to_largest(sheet)
        screen.say(
            " · ".join(
                filter(None, (words, "" if panel.largest is None or screen.bottom.low else _most_of(screen, *panel.largest)))
            )
        )

    if screen.panels.show_page_of(panels.weights.WeightsPanel):
        screen.call_after_refresh(find)  # once the page is laid out
    else:
        find()


def _most_of(screen: MainScreen, name: str, index: tuple[int, ...]) -> str:
    """Say which timestep and row bring most of the gradient of a weight in this batch, and what is read there; empty if unknown."""
    from tui_gru.debugger.derivation import ValueRef

    snapshot = screen.snapshot
    if not snapshot.config.source.can(Ability.TEXT) or snapshot.gradient(name) is None:
        return ""
    try:
        total = screen.session.derive(ValueRef(f"d{name}", index, None, snapshot.position.tick))
        steps = {int(label_match[1]): term for term in total.terms if (label_match := re.fullmatch(r"t (\d+)", term.label))}
        t, term_of_step = max(steps.items(), key=lambda item: _towards(total, item[1]), default=(0, None))
        parts = () if term_of_step is None else term_of_step.terms
        rows = {int(label_match[1]): term for term in parts if (label_match := re.search(r"at row (\d+)$", term.label))}
    except TuiGruError:  # a batch that cannot be read, or that was changed
        return ""
    if not steps:
        return ""
    row = max(rows, key=lambda row: _towards(total, rows[row]), default=1)
    read, target = (snapshot.value(kind, t - 1) for kind in ("char", "target"))
    if read is None or target is None or len(read) < row:
        return ""
    one, other = (in_line(letters[row - 1]) for letters in (read, target))
    return f"most of its gradient from t {t}, row {row}, which reads “{one}” and wants “{other}”"


def _towards(total: Node, part: Node) -> float:
    """Return how much a part of a sum moves it in the direction that the sum has."""
    return float(part.value) * (1 if float(total.value) > 0 else -1)


def saturated(screen: MainScreen, rest: Arguments) -> None:
    """Go to the next unit that is saturated in nearly all rows."""
    matrix = _matrix(screen)
    if matrix is None:
        return
    if matrix.limits is None:
        screen.say("these values have no limits, so they cannot be saturated; gates and states can")
    elif matrix.go_to_saturated():
        screen.say(f"unit {matrix.cursor[1] + 1} is saturated in nearly all rows")
    else:
        screen.say("no unit is saturated in nearly all rows")


def sort(screen: MainScreen, rest: Arguments) -> None:
    """Sort rows by their size, then columns, then both, then neither."""
    matrix = _matrix(screen)
    if matrix is not None:
        by = matrix.sort()
        screen.say(f"{by} sorted by size" if by else "rows and columns in their own order")


def near_zero(screen: MainScreen, rest: Arguments) -> None:
    """Hide the entries near 0, or show them again."""
    matrix = _matrix(screen)
    if matrix is not None:
        screen.say("all entries are shown" if matrix.toggle_near_zero() else "entries near 0 are hidden")
