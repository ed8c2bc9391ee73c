"""Verbs that move: through time by steps, play, jumps and runs until a condition holds; and through the numbers of a matrix."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tui_gru.debugger.expressions import in_screen_spelling
from tui_gru.debugger.history import COLUMNS
from tui_gru.debugger.position import Level, Reader, TypedError, shortened_input, tick_of
from tui_gru.debugger.program import in_line
from tui_gru.engine.source import Ability
from tui_gru.errors import TuiGruError
from tui_gru.session import answers
from tui_gru.session.answers import place_in_words
from tui_gru.tui import panels
from tui_gru.tui.keys import LARGEST_COUNT, NO_ARGUMENTS, Arguments, Step, sign_of_key, with_keys

if TYPE_CHECKING:
    from textual.widget import Widget

    from tui_gru.debugger.derivation import Node, ValueRef
    from tui_gru.session.snapshot import Snapshot
    from tui_gru.tui.matrix import MatrixView
    from tui_gru.tui.panel import CellPanel
    from tui_gru.tui.running import RunFunction
    from tui_gru.tui.screen import MainScreen

MOST_A_SECOND = 50  # steps, while playing

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


def play_or_pause(screen: MainScreen, rest: Arguments) -> None:
    """Play or pause; with a number, so many steps a second. After a count, repeat the last step so many times instead."""
    if rest:
        reader = Reader(rest, "play 10")
        screen.play.set_pace(reader.integer("steps a second", least=1, most=MOST_A_SECOND))
        reader.end()
        if not screen.play.playing:
            screen.play.toggle()
    elif screen.pending.counting:
        repeat(screen, rest)
    else:
        screen.play.toggle()


def repeat(screen: MainScreen, rest: Arguments) -> None:
    """Repeat the last step, as many times as the count says."""
    screen.play.repeat(screen.pending.take_count())


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
    """Go to a place: `e3 b2 t1`, `50%`, `+100`, `-2e`, a tick, the letter of a mark, `'`, `newest` or `nan`; `e3 b2 t1 h̃`, just
    after a line; `first CONDITION`; or `lowest loss`, `highest grad_norm`, of all batches that have been run."""
    if rest.startswith("first "):
        _go_to_first(screen, Arguments.of(rest.removeprefix("first"), rest))
        return
    if rest.startswith(("lowest", "highest")):
        _go_to_extreme(screen, rest)
        return
    reader = Reader(rest, "go e3 b2 t1, go 50%, go +100, go -2e, or a tick")
    if rest == "newest":
        go_to_newest(screen, rest)
    elif rest == "nan":
        go_to_not_finite(screen, rest)
    elif len(rest) == 1 and (rest == "'" or rest.isalpha()) and not _is_line_alone(screen, rest):
        jump_to(screen, rest)
    elif rest[:1] in ("+", "-", "−"):
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
        go_to(screen, _tick_typed(screen, rest))


def _is_line_alone(screen: MainScreen, letter: str) -> bool:
    """Return True for a letter that is the name of a line and of no mark."""
    is_mark = any(mark.letter == letter for mark in screen.snapshot.state.marks.sorted)
    return not is_mark and screen.snapshot.program.place_of(letter) is not None


def _tick_typed(screen: MainScreen, place: Arguments) -> int:
    """Return the tick of a typed place. Raises `TuiGruError` for a line that is not executed there, since learning is off."""
    program = screen.snapshot.program
    tick = tick_of(place, screen.snapshot.position, program)
    batch, within = divmod(tick - 1, program.ticks)
    line = program.code_name(place.rpartition(" ")[2])
    if program.place_of(line) is not None and within >= program.loss_tick:
        end = screen.session.state.timeline.end_of(batch)
        if tick > end:
            raise TuiGruError(
                f"the batch ends with its loss, before {place.rpartition(' ')[2]}; turn learning on first: learning on"
            )
    return tick


def _go_to_first(screen: MainScreen, condition: Arguments) -> None:
    """Go to the first place of what has been run where a condition holds."""
    session = screen.session

    def run(progress: Any) -> bool:
        try:
            return session.run_to_first(str(condition), progress=progress)
        except TypedError as error:
            raise error.moved(condition.begins) from None

    def say(is_met: bool) -> None:
        shown = in_screen_spelling(condition, session.program.spellings)
        newest = place_in_words(screen.snapshot)
        if is_met:
            screen.answer(f"{shown} holds first {newest}")
        else:
            screen.answer(f"{shown} did not hold anywhere in what has been run; until {condition} runs on to where it does")

    screen.do(run, batches=None, then=say)


def _go_to_extreme(screen: MainScreen, rest: Arguments) -> None:
    """Go to the end of the batch with the lowest or highest loss, norm of the gradient or weight of what has been run."""
    which, _, name = rest.partition(" ")
    timeline, newest = screen.session.state.timeline, screen.snapshot.newest
    if which not in ("lowest", "highest") or name not in COLUMNS:
        raise TuiGruError(f"go lowest and go highest take {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, as in go lowest loss")
    whole = newest.number if newest.tick >= timeline.end_of(newest.number) else newest.number - 1
    values = np.asarray(timeline.column(name, 0, whole), float) if whole >= 0 else np.empty(0)
    if name == "grad_norm":
        values = np.where(timeline.learned(0, whole), values, np.nan)
    if not np.isfinite(values).any():
        raise TuiGruError(f"no batch that has been run has a number for {name}")
    batch = int(np.nanargmin(values) if which == "lowest" else np.nanargmax(values))

    def say() -> None:
        first = " first" if np.count_nonzero(values == values[batch]) > 1 else ""
        of = f"of {len(values):,} batch{'es' if len(values) > 1 else ''}"
        screen.answer(f"{name} is {which}{first} {place_in_words(screen.snapshot)}: {values[batch]:.4f}, {of}")

    tick = timeline.end_of(batch)
    screen.do(partial(screen.session.seek, tick), batches=screen.session.batches_to(tick), then=lambda _: say())


def go_to_newest(screen: MainScreen, rest: Arguments) -> None:
    go_to(screen, screen.snapshot.newest.tick)


def go_to_not_finite(screen: MainScreen, rest: Arguments) -> None:
    screen.do(screen.session.run_to_not_finite, batches=None)


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
    """Go to the next place where the last condition holds, or that is marked, as many times as the count says."""
    state, forwards = screen.session.state, direction > 0
    if not state.last_condition:
        if not state.marks.sorted:
            words = "no condition has been searched for yet; <until> searches for one, <mark> marks a place to go back to"
            screen.say(with_keys(screen, words), warning=True)
            return
        next_mark(screen, rest, forwards=forwards)
        return
    condition = state.last_condition

    def run(progress: Any = None) -> bool:
        limit = screen.session.state.mark_beyond(forwards)
        is_met = screen.session.next_match(forwards, progress, limit=None if limit is None else limit.tick)
        return is_met or (limit is not None and limit.tick == screen.session.state.tick)

    def say(_: object) -> None:
        stopped = screen.session.outcome.stopped_by
        if (stopped is None or stopped.cause != "condition") and screen.snapshot.marks_here and screen.notice is None:
            _show_mark(screen)
        else:
            _say_met(screen, condition)

    run_on(screen, run, lambda: _not_met(screen, condition, "further on", forwards), then=say)


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


# Marks


def jump(screen: MainScreen, rest: Arguments) -> None:
    """Wait for the letters of a place on the screen; go to the place of two letters, or to the mark of one."""
    if len(rest) == 1:
        jump_to(screen, rest)
    elif not rest:
        screen.jump.begin()
    elif not screen.jump.go(rest):
        raise TuiGruError(f"no place on this screen has the letters {shortened_input(rest)}; f shows those of all")


def jump_to(screen: MainScreen, letter: str) -> None:
    """Go to a mark, or with `'` to the place before the last jump, and show which place that is."""
    _jump(screen, partial(screen.session.jump, letter), letter)


def next_mark(screen: MainScreen, rest: Arguments, *, forwards: bool) -> None:
    _jump(screen, partial(screen.session.next_mark, forwards))


def _jump(screen: MainScreen, verb: RunFunction, letter: str = "") -> None:
    """Go to a mark, and show it as it was seen there: the one of a letter, otherwise the first at the place."""
    before = screen.snapshot
    show = partial(_show_mark, screen, letter, before)
    screen.do(verb, batches=screen.session.batches_to(), then=lambda _: show())


def _show_mark(screen: MainScreen, letter: str = "", before: Snapshot | None = None) -> None:
    """Show the screen as it was when the mark of this place was set, and say the place; `before` is where the jump began."""
    screen.kept.show_layout_of_mark(letter)
    if screen.session.outcome.stopped_by is None:
        screen.answer(place_in_words(screen.snapshot) + ("" if before is None else answers.branched(before, screen.snapshot)))


def split_names(rest: str, example: str) -> list[str]:
    """Split a list of words separated by spaces or commas. Raises `TuiGruError`, with the example, if it is empty."""
    names = rest.replace(",", " ").split()
    if not names:
        raise TuiGruError(f"type which, for example {example}; :stops lists all")
    return names


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
        screen.say(_go_to_largest(matrix))


def _go_to_largest(matrix: MatrixView) -> str:
    """Go to the largest entry of a matrix; again, to the next largest. Return which it is."""
    rank = matrix.go_to_largest()
    which = "" if rank == 1 else f"{rank}{ORDINALS.get(rank or 0, 'th')} "
    return (
        "it is not computed yet"
        if rank is None
        else (f"the {which}largest entry: {matrix.place_of(*matrix.cursor)} = {matrix.exact}")
    )


def largest_of_all(screen: MainScreen, rest: Arguments, *, sheet: str) -> None:
    """Go to the largest of all gradients or changes of the weights."""

    def show() -> None:
        screen.say(largest_in_words(screen, sheet))

    if screen.panels.show_page_of(panels.weights.WeightsPanel):
        screen.call_after_refresh(show)  # once the page is laid out
    else:
        show()


def largest_in_words(screen: MainScreen, sheet: str) -> str:
    """Go to the largest gradient or change of all weights, and return where it is, and what brings most of its gradient."""
    panel = screen.query_one(panels.weights.WeightsPanel)
    words = panel.go_to_largest(sheet)
    most = "" if panel.largest is None or screen.bottom.low else _most_of(screen, *panel.largest)
    return " · ".join(filter(None, (words, most)))


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


# ------------------------------------------------------------------------------
# One key that goes through the numbers of a moment that are worth a look.


class RemarkableNumber(NamedTuple):
    """A kind of number that is worth a look at this moment, in words, and what goes to it.

    `go` returns what it has found; empty if it says that itself.
    """

    kind: str
    go: Callable[[], str]


class Remarkable:
    """Goes through the remarkable numbers of a moment. From another moment on, or another panel, it begins anew."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._last = ""  # the kind that was shown last
        self._of: tuple[object, Widget | None] | None = None  # its moment, and the panel in focus after it
        self._from: Widget | None = None  # the panel that had the focus before the first of them

    def next(self) -> None:
        """Go to the next remarkable number, and say which it is and which comes then."""
        screen = self._screen
        if self._of != (self._moment, screen.focused):
            self._last, self._from = "", screen.focused
        numbers = self._numbers()
        if not numbers:
            screen.say(
                with_keys(screen, "no number is remarkable yet; <step.line> executes a line, <learn.sgd> a step of training")
            )
            return
        kinds = [number.kind for number in numbers]
        at = (kinds.index(self._last) + 1) % len(numbers) if self._last in kinds else 0
        number, then = numbers[at], numbers[(at + 1) % len(numbers)]
        place = f"{at + 1} of {len(numbers)}: " if len(numbers) > 1 else ""
        more = f" · {sign_of_key(screen, 'remarkable')} next: {then.kind}" if len(numbers) > 1 else ""
        self._last = number.kind

        def show() -> None:
            words = number.go()
            self._of = self._moment, screen.focused
            if words:
                screen.say(f"{place}{words}{more}")

        turns = screen.panels.show_page_of(panels.weights.WeightsPanel) if number.kind in _OF_WEIGHTS else False
        screen.call_after_refresh(show) if turns else show()

    @property
    def _moment(self) -> object:
        return self._screen.session, self._screen.snapshot.state.branch, self._screen.snapshot.position

    def _numbers(self) -> list[RemarkableNumber]:
        """Return the remarkable numbers of this moment, in the order in which they are shown."""
        screen, numbers = self._screen, list[RemarkableNumber]()
        snapshot, sheets = screen.snapshot, screen.query_one(panels.weights.WeightsPanel)
        parameters = (snapshot.parameter(name) for name in snapshot.program.parameters)
        if not screen.running and not all(np.isfinite(numbers).all() for numbers in (np.asarray(snapshot.losses), *parameters)):
            numbers.append(RemarkableNumber(_NOT_FINITE, self._go_to_not_finite))
        for sheet, kind in _OF_SHEETS.items():
            if sheets.largest_of(sheet) is not None:
                numbers.append(RemarkableNumber(kind, partial(largest_in_words, screen, sheet)))
        if (largest_entry := self._entry_in_focus()) is not None:
            numbers.append(largest_entry)
        saturated_units = [matrix for matrix in self._matrices() if matrix.saturated_unit() is not None]
        numbers += [
            RemarkableNumber(f"a saturated unit of {self._named(matrix)}", partial(self._go_to_saturated, matrix))
            for matrix in saturated_units
        ]
        findings = () if screen.running else screen.session.found or ()
        evidence = next((shown for finding in findings for shown in finding.evidence if shown.number is not None), None)
        if evidence is not None and evidence.number is not None:
            numbers.append(RemarkableNumber("the number of a finding", partial(self._explain, evidence.number)))
        return numbers

    def _go_to_not_finite(self) -> str:
        go_to_not_finite(self._screen, NO_ARGUMENTS)
        return ""

    def _entry_in_focus(self) -> RemarkableNumber | None:
        """Return the largest entry of the panel that had the focus before; None if it has no numbers, or had none."""
        from tui_gru.tui.matrix import MatrixView
        from tui_gru.tui.panel import CellPanel

        panel = self._from
        if panel is None or not panel.is_attached or not panel.region:
            return None
        if isinstance(panel, MatrixView) and panel.values is not None:
            return RemarkableNumber(f"the largest entry of {self._named(panel)}", partial(self._largest_of_matrix, panel))
        if isinstance(panel, CellPanel) and panel.largest_spot() is not None:
            return RemarkableNumber("the largest number of this panel", partial(self._largest_of_cells, panel))
        return None

    def _named(self, matrix: MatrixView) -> str:
        """Return the name of what a matrix shows."""
        return matrix.title if matrix.refs is None else self._screen.session.program.writer.name(matrix.refs(0, 0).name)

    def _matrices(self) -> list[MatrixView]:
        """Return the matrices in view whose units can be saturated."""
        from tui_gru.tui.matrix import MatrixView

        return [matrix for matrix in self._screen.query(MatrixView) if matrix.region and matrix.limits is not None]

    def _largest_of_matrix(self, matrix: MatrixView) -> str:
        self._screen.set_focus(matrix)
        matrix.unrank()
        return _go_to_largest(matrix)

    def _largest_of_cells(self, panel: CellPanel) -> str:
        self._screen.set_focus(panel)
        spot = panel.largest_spot()
        assert spot is not None
        panel.put_cursor(spot)
        return f"the largest of this panel, {panel.describe(spot.ref)}"

    def _go_to_saturated(self, matrix: MatrixView) -> str:
        self._screen.set_focus(matrix)
        matrix.go_to_saturated()
        return f"unit {matrix.cursor[1] + 1} of {self._named(matrix)} is saturated in nearly all rows"

    def _explain(self, number: ValueRef) -> str:
        self._screen.derivations.ask(number)
        return ""


_NOT_FINITE = "the first number that is not finite"
_OF_SHEETS = {"changes": "the largest change", "gradients": "the largest gradient"}
_OF_WEIGHTS = frozenset(_OF_SHEETS.values())


def remarkable(screen: MainScreen, rest: Arguments) -> None:
    if screen.next_remarkable is None:
        screen.next_remarkable = Remarkable(screen).next
    screen.next_remarkable()
