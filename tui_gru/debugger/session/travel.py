"""Moving in time: steps, SGD steps, runs to a stop, to a line or to a condition; and being at the place where they end.

Steps stop at breakpoints; seek, search and sgd ignore them. A run can be interrupted at the end of each batch. What can take long
comes before anything of the session changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.analysis.checks.trouble_watch import TroubleWatch
from tui_gru.debugger.program.steps import StepMemory, check_level
from tui_gru.debugger.session.guards import Progress, either
from tui_gru.debugger.session.run import Run
from tui_gru.debugger.state import by_branch
from tui_gru.debugger.state.outcome import Notice, Outcome, StopEvent
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.journal import JournalEntry, Settings
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord

# Searching is imported once there is something to stop at.
if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checks.checked_run import CheckWatch
    from tui_gru.debugger.breakpoints.hit_counter import HitCounter
    from tui_gru.debugger.breakpoints.stop_search import SearchEnd

FAR = 10**15  # ticks, which no run without an end comes to


def step(run: Run, level: str, count: int, progress: Progress | None) -> Outcome:
    """Step `count` times to where `level` ends, back in time where it is negative; in reverse it leads back to where it was."""
    before, here = run.state.stride, run.state.tick
    index = run.timeline.step_index(check_level(level))
    count = arguments.whole("count", count)
    stride = before.onwards(level, here, count)
    target, cut = stride.target(index, count)
    led = before if cut and target == here else stride.gone(count, target, cut)
    with run.under_way():
        _walk(run, target, progress, led)
    reached = run.state.tick
    if reached != target:
        led = before if reached == here else stride.gone(count, reached, True)
    if run.state.stride is not led:
        run.update(stride=led)
    return run.outcome


def sgd(run: Run, count: int, progress: Progress | None) -> Outcome:
    """Finish this batch from wherever in it the run is, with backward and update, so many times; until something stops it."""
    count = arguments.whole("count", count, least=0)
    check_trains(run)
    with writing(run, progress), run.under_way():
        for _ in range(count):
            before, end = run.position, run.end
            batch = before.tick // run.program.ticks
            if not run.timeline.learns(batch) and (end is None or batch <= end.number):
                change(run, replace(run.settings, once=batch), JournalEntry("sgd"))
            go(run, (batch + 1) * run.program.ticks, progress)
            if run.interrupts.asked() or run.stopped_by is not None or run.position == before:
                break
    return run.outcome


def check_trains(run: Run) -> None:
    """Raise `TuiGruError` where the run is on given batches, and cannot be trained on, with the reason."""
    if run.state.config.given is not None:
        raise TuiGruError(run.state.config.given.fixed)


def run_to(run: Run, line: str, progress: Progress | None) -> Outcome:
    """Run to where a line, named by what it computes, is executed next. Raises `TuiGruError` where it never is."""
    line = arguments.text("a line", line)
    ticks = {run.program.tick_of(line, t) for t in range(run.program.seq_length)} - {None}
    if not ticks:
        raise TuiGruError(f"there is no line that computes {line!r}")
    here, N, place = run.state.tick, run.program.ticks, run.timeline.place
    all_ahead = [batch * N + k for batch in (here // N, here // N + 1) for k in ticks if k is not None]
    ahead = [tick for tick in all_ahead if tick > here and place(tick) == tick]
    if not ahead:
        raise TuiGruError("learning is off, so this line is stepped over; turn it on to run there")
    with writing(run, progress), run.under_way():
        go(run, min(ahead), progress)
    return run.outcome


def continue_(run: Run, progress: Progress | None) -> Outcome:
    """Run until something stops it, else to the end of the run, or to where it was interrupted.

    Raises `ConditionError` where a condition cannot be evaluated, and stops there.
    """
    end = run.end
    with run.under_way(), writing(run):
        return _continued(run, run.timeline.place(FAR) if end is None else end.tick, progress)


def reverse_continue(run: Run, progress: Progress | None) -> Outcome:
    """Go back to the last place before this one where something stops, else to the beginning. Raises `ConditionError`."""
    with run.under_way():
        return _continued(run, 0, progress)


def search(run: Run, condition: str, forwards: bool, progress: Progress | None) -> Outcome:
    """Run until a condition holds, or back in time until it does. Raises `ConditionError`, and stops there."""
    here, end = run.state.tick, run.end
    goal = 0 if not forwards else run.timeline.place(FAR) if end is None else max(here, end.tick)
    with writing(run, progress), run.under_way():
        found = _find(run, [run.stops.temporary(condition, run.timeline)], goal, forwards, progress)
        stop_at(run, found.tick)
    if found.by and run.state.tick == found.tick:
        if found.error is not None:
            raise found.error
        run.stop(StopEvent(found.tick, "condition"))
        note_hit(run, found.tick)
    return run.outcome


# On the way


def go(run: Run, tick: int, progress: Progress | None, stride: StepMemory | None = None) -> None:
    """Go to the last place at or before `tick`, or to where the run ends or is stopped; stay where a way back is stopped.

    `stride` are the steps that lead to `tick`, if any do.
    """
    here, end, timeline, goal = run.state.tick, run.end, run.timeline, tick
    tick = timeline.place(tick if end is None else min(tick, end.tick))
    ahead, checked = tick > here, None
    watch = run.watch(ahead)
    tick, _ = _before_trouble(watch, tick)
    monitor = run.monitor(watch, progress)
    if ahead and run.checks.totals is not None:
        tick, checked = _checked(run, tick, monitor)
    reached = timeline.moment(tick, monitor).position.tick
    if reached == tick or reached > here:
        reached, trouble = _before_trouble(watch, reached)
        _arrive(run, reached, trouble or (checked if reached == tick else None), stride if reached == goal else None)


def _walk(run: Run, tick: int, progress: Progress | None, stride: StepMemory) -> None:
    """Go where steps lead, or to the first stop on the way."""
    if not run.stops.active(run.state.stops):
        return go(run, tick, progress, stride)
    end = run.end
    tick = run.timeline.place(tick if end is None else min(tick, end.tick))
    with writing(run):
        found = _go_to_stop(run, tick, progress)
        if found is None or not (found.by or found.broken_off):
            go(run, tick, progress)
        elif found.broken_off and found.tick > run.state.tick:  # a way back that is broken off leads nowhere
            stop_at(run, found.tick)
    return None


def _continued(run: Run, tick: int, progress: Progress | None) -> Outcome:
    found = _go_to_stop(run, tick, progress)
    if found is None:
        go(run, tick, progress)
        return run.outcome
    if found.broken_off or not found.by:
        stop_at(run, found.tick)
    if found.error is not None and run.state.tick == found.tick:
        raise found.error
    return run.outcome


def _go_to_stop(run: Run, tick: int, progress: Progress | None) -> SearchEnd | None:
    """Find what stops the run on the way to `tick`, and go there if something does; None where there is nothing that could."""
    here, N, stops, timeline = run.state.tick, run.program.ticks, run.state.stops, run.timeline
    ahead = tick > here
    after, upto = (here, tick) if ahead else (max(tick - 1, 0), here - 1)
    tested = [each for each in run.stops.active(stops) if (ahead or each.log is None) and each.tested_between(after, upto, N)]
    if not tested or tick == here:
        return None
    counters = [run.stops.counter(each, stops, timeline) for each in tested]
    try:
        found = _find(run, counters, tick, ahead, progress)
    except BaseException:
        run.stops.forget_counters()
        raise
    if found.by:
        stop_at(run, found.tick, found)
    return found


def _find(run: Run, counters: Sequence[HitCounter], tick: int, ahead: bool, progress: Progress | None) -> SearchEnd:
    """Find the first place on the way to `tick` where something is hit, or where the run ends; batches are checked, too."""
    from tui_gru.debugger.breakpoints.stop_search import StopSearch

    here, timeline = run.state.tick, run.timeline
    checks = run.checks.watch(timeline, here, None) if ahead else None
    find = StopSearch(timeline, counters, either(run.monitor(run.watch(ahead), progress), checks))
    found = find.forward(here, tick) if ahead else find.back(here, tick)
    if checks is None:
        return found
    upto, event = _checked_whole(run, checks, found.tick)
    if event is not None:
        run.stop(event)
        note_hit(run, event.tick)
    return found if upto == found.tick else replace(found, tick=upto, by=(), broken_off=True)


def _before_trouble(watch: TroubleWatch | None, tick: int) -> tuple[int, StopEvent | None]:
    """`tick`, or the place before it where the watch stops the run, and why."""
    event = watch.event(tick) if watch is not None else None
    return (tick, None) if event is None else (event.tick, event)


def _checked(run: Run, tick: int, monitor: Monitor) -> tuple[int, StopEvent | None]:
    """Check every batch that is finished on the way to `tick`; `tick`, or the end of the one where the run is broken off."""
    ticks, timeline, reached = run.program.ticks, run.timeline, -1
    first, last = run.state.tick // ticks, tick // ticks - 1
    checks = run.checks.watch(timeline, run.state.tick, last)
    assert checks is not None
    visit = either(monitor, checks)

    def see(batch: int, record: BatchRecord) -> bool:
        nonlocal reached
        reached = batch
        return visit(batch, record)

    if timeline.walk(first, last, see):
        tick = min(tick, timeline.end_of(reached))
    return tick, run.checks.note(checks, timeline, tick)


def _checked_whole(run: Run, checks: CheckWatch, tick: int) -> tuple[int, StopEvent | None]:
    """Check what a search that led to `tick` has passed over; `tick`, or the end of the first batch that does not agree."""
    timeline = run.timeline
    for batch in checks.missed(tick):
        if run.interrupts.asked():
            break
        if checks.sees(batch, timeline.record(batch)):
            tick = min(tick, timeline.end_of(batch))
            break
    return tick, run.checks.note(checks, timeline, tick)


# Being somewhere


def stand(run: Run, branches: Branches, tick: int, stride: StepMemory | None = None) -> None:
    """Be at a place of a branch, to which `stride` has led. What a branch had beyond where it has been changed is forgotten."""
    was = run.state.branches.named.get(branches.current)
    changes: dict[str, Any] = {}
    if was is not None and was.timeline is not branches.timeline:
        parted = was.timeline.parted(branches.timeline)
        changes = by_branch.taken_over(run.state, branches.current, branches.current, parted)
    run.arrive(branches, tick, stride=StepMemory.begin("", tick) if stride is None else stride, **changes)


def change(run: Run, settings: Settings, action: JournalEntry) -> None:
    """Change the future from the position on; in the past, that forks a branch, which takes over what is written up to there."""
    source, here = run.state.branch, run.position
    timeline = run.timeline.changed(here, settings, action)
    stand(run, run.state.branches.changed(timeline, here.tick), here.tick)
    if run.state.branch != source:
        run.update(**by_branch.taken_over(run.state, source, run.state.branch, here.tick))


def stop_at(run: Run, tick: int, found: SearchEnd | None = None) -> None:
    """Be where a run has ended, or where a number ceased to be finite before that; with `found`, that is what stopped it."""
    there, event = _before_trouble(run.watch(tick > run.state.tick), tick)
    _arrive(run, there, event)
    if found is not None and there == tick:
        from tui_gru.debugger.breakpoints.stop_words import why

        run.stop(StopEvent(tick, "breakpoint", Notice(why(found, run.timeline), warning=found.error is not None)))
        note_hit(run, tick)


def _arrive(run: Run, tick: int, event: StopEvent | None, stride: StepMemory | None = None) -> None:
    """Be at a place of the current branch, where `event` has stopped the run, if anything has."""
    stand(run, run.state.branches, tick, stride)
    if event is not None:
        run.stop(event)
        note_hit(run, event.tick)


def note_hit(run: Run, tick: int) -> None:
    """Remember that a run has stopped at a tick of this branch."""
    run.update(**by_branch.with_hit(run.state, tick))


@contextmanager
def writing(run: Run, progress: Progress | None = None) -> Iterator[None]:
    """A run: what log points write at the places that it passes on its way onwards is in the log after it."""
    logs = any(stop.enabled and stop.log for stop in run.state.stops.breakpoints)
    before = run.state.tick
    try:
        yield
    finally:
        if logs and run.state.tick > before:
            run.interrupts.forget()  # what has ended the run does not keep it from being written down
            try:
                _write(run, before, progress)
            finally:
                run.interrupts.forget()


def _write(run: Run, before: int, progress: Progress | None) -> None:
    from tui_gru.debugger.breakpoints.log_lines import MOST_LINES, lines_between, merged

    here, old = run.state.tick, run.state.log.get(run.state.branch, ())
    active = [each for each in run.stops.active(run.state.stops) if each.log is not None]
    tested = [each for each in active if each.tested_between(before, here, run.program.ticks)]
    lines = lines_between(tested, run.timeline, run.stops.hits, before, here, run.monitor(None, progress), MOST_LINES)
    run.update(**by_branch.with_log(run.state, merged(old, lines, MOST_LINES)))
