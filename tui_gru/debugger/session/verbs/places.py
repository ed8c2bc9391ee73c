"""Verbs that go to a place with a name: a place in time, a mark, a branch, the last condition, the place before the last jump."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np

from tui_gru.debugger.program.position import Position, tick_of
from tui_gru.debugger.session.guards import SearchProgress
from tui_gru.debugger.session.run import Run
from tui_gru.debugger.session.verbs import travel
from tui_gru.debugger.state.marks import Mark, Marks
from tui_gru.debugger.state.outcome import Notice, Outcome
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

BACK = "'"


def seek(run: Run, place: str | Position | int, progress: SearchProgress | None, *, along: bool) -> Outcome:
    """Go to a place in time. If `along` is True, the place to jump back to stays that of the jump before."""
    tick = tick_of(place, run.position, run.program)
    with nullcontext() if along else leaving(run), run.under_way():
        travel.go(run, tick, progress)
    return run.outcome


def switch(run: Run, name: str) -> Outcome:
    """Go to the same place in time on another branch, or to its newest place if that is earlier."""
    with leaving(run):
        _switch(run, name, run.state.tick)
    return run.outcome


def mark(run: Run, letter: str, text: str) -> Mark:
    """Set a mark at the position, with a text about it. Raises `TuiGruError` if it is not a letter."""
    mark = Mark(letter, run.state.branch, run.state.tick, " ".join(arguments.text("a text", text).split()))
    _set_marks(run, run.state.marks.with_mark(mark))
    return mark


def delete_mark(run: Run, letter: str) -> None:
    """Delete a mark. Raises `TuiGruError` if there is none."""
    _set_marks(run, run.state.marks.without(letter))


def next_mark(run: Run, forwards: bool) -> Mark:
    """Return the next mark, or the one before: in time, then by branch. Raises `TuiGruError` if there is none."""
    names = run.state.branches.names
    marks = {(names.index(mark.branch), mark.tick): mark for mark in run.state.marks.sorted if mark.branch in names}
    here = names.index(run.state.branch), run.state.tick
    beyond = [place for place in marks if (place > here if forwards else place < here)]
    if not beyond:
        if not marks:
            raise TuiGruError("there are no marks yet; m and a letter sets one")
        no = "this is the last mark" if forwards else "this is the first mark"
        raise TuiGruError(no if here in marks else f"there is no mark {'further on' if forwards else 'before this place'}")
    return marks[min(beyond) if forwards else max(beyond)]


def destination(run: Run, letter: str) -> tuple[str, int]:
    """Return the branch and the tick of a mark, or, for `'`, of the place before the last jump.

    Raises `TuiGruError` if there is no such place, or its branch no longer exists.
    """
    state = run.state
    if arguments.text("a mark", letter) != BACK:
        mark = state.marks.get(letter)
        where, what = (mark.branch, mark.tick), f"mark {letter}"
    elif state.left is None:
        raise TuiGruError("there is no place to jump back to yet; a jump, a search or go sets one")
    else:
        where, what = state.left, "the place before the last jump"
    if where[0] not in state.branches.named:
        raise TuiGruError(f"{what} is on the branch {where[0]}, which has been undone; redo may bring it back")
    return where


def jump(run: Run, branch: str, tick: int, progress: SearchProgress | None) -> Outcome:
    """Go to a tick of any branch."""
    with leaving(run), run.under_way():
        if branch != run.state.branch:
            _switch(run, branch, tick)
        travel.go(run, tick, progress)
    return run.outcome


def search(run: Run, condition: str, forwards: bool, progress: SearchProgress | None) -> Outcome:
    """Run to where a condition holds, in either direction, and store the condition. Raises `ConditionError`."""
    from tui_gru.debugger.expressions.conditions import compile_condition  # imported late: takes a tenth of the start time

    compiled = compile_condition(arguments.text("a condition", condition), run.program.spellings)
    compiled.check(run.program.shapes)  # an invalid condition is not stored
    run.update(last_condition=condition)
    with leaving(run):
        return travel.search(run, condition, forwards, progress)


def next_match(run: Run, forwards: bool, progress: SearchProgress | None) -> Outcome:
    """Search for the last condition again. Raises `TuiGruError` if there is none."""
    if not run.state.last_condition:
        raise TuiGruError("no condition has been searched for yet; t searches for one")
    return search(run, run.state.last_condition, forwards, progress)


def first_not_finite(run: Run, progress: SearchProgress | None) -> bool:
    """Go to the first number of the run that is not finite, and report it. False if every number is finite."""
    from tui_gru.debugger.analysis.checks.not_finite import first_not_finite

    timeline = run.timeline
    last = timeline.computed if timeline.memory.numbers is not None else timeline.position(run.state.branches.newest).number
    with run.under_way():
        found = first_not_finite(timeline, last, run.monitor(None, progress))
        if found is not None:
            travel.move_to(run, run.state.branches, timeline.place(found.tick))
    words = _all_finite(run) if found is None else found.sentence(run.program)
    run.notice = Notice(words, warning=found is not None)
    return found is not None


def _all_finite(run: Run) -> str:
    given = run.state.config.given
    if given is None or given.numbers is None or not given.knows_loss or np.isfinite(given.numbers[:, 0]).all():
        return "every number so far is finite"
    step = given.steps[int(np.argmin(np.isfinite(given.numbers[:, 0])))]
    return f"every number of the GRU is finite, but the loss of step {step:,} is not: look at the head and the loss in your script"


@contextmanager
def leaving(run: Run) -> Iterator[None]:
    """Store the place before a jump, so that `'` jumps back to it, unless the jump ends at the same place."""
    here = run.state.branch, run.state.tick
    try:
        yield
    finally:
        if (run.state.branch, run.state.tick) != here:
            run.update(left=here)


def _switch(run: Run, name: str, tick: int) -> None:
    branches = run.state.branches.switched(name)
    travel.move_to(run, branches, branches.timeline.place(min(tick, branches.newest)))


def _set_marks(run: Run, marks: Marks) -> None:
    run.update(marks=marks)
    run.recorder.record_kept()
