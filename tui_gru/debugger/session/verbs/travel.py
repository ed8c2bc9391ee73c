"""Verbs that move in time: steps, SGD steps, runs to a stop, a line or a condition.

Steps stop at breakpoints; seek, search and sgd ignore them. A run can be interrupted at the end of each batch. Whatever takes
long is done before the session changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.analysis.checks.trouble_watch import TroubleWatch
from tui_gru.debugger.program.steps import Level, StepMemory, check_level
from tui_gru.debugger.session.guards import SearchProgress, either
from tui_gru.debugger.session.run import Run
from tui_gru.debugger.state import by_branch
from tui_gru.debugger.state.outcome import Notice, Outcome, StopEvent
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.journal import JournalEntry, TrainingSettings
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord

# The search for stops is imported only if there is something to stop at.
if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checks.checked_run import CheckWatch
    from tui_gru.debugger.breakpoints.hit_counter import HitCounter
    from tui_gru.debugger.breakpoints.stop_search import SearchEnd

FAR = 10**15  # ticks, or steps of any level; more than any run reaches


def step(run: Run, level: Level, count: int, progress: SearchProgress | None) -> Outcome:
    """Step `count` times to the end of `level`, back in time if `count` is negative. Stepping back undoes the steps before it."""
    before, here = run.state.stride, run.state.tick
    level = check_level(level)
    index = run.timeline.step_index(level)
    count = max(-FAR, min(FAR, arguments.whole("count", count)))
    stride = before.onwards(level, here, count)
    target, cut = stride.target(index, count)
    memory = before if cut and target == here else stride.gone(count, target, cut)
    with run.under_way():
        _walk(run, target, progress, memory)
    reached = run.state.tick
    if reached != target:
        memory = before if reached == here else stride.gone(count, reached, True)
    if run.state.stride is not memory:
        run.update(stride=memory)
    return run.outcome


def tick_after(run: Run, level: Level, count: int) -> int:
    """Return the tick at which the `count`-th step of `level` from here ends, back in time if `count` is negative."""
    level = check_level(level)
    stride = StepMemory.begin(level, run.state.tick)
    return stride.target(run.timeline.step_index(level), arguments.whole("count", count))[0]


def sgd(run: Run, count: int, progress: SearchProgress | None) -> Outcome:
    """Do `count` SGD steps: finish the current batch with backward and update. Ends early if something stops the run."""
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
    """Raise `TuiGruError`, with the reason, if the run is on given batches and cannot be trained."""
    if run.state.config.given is not None:
        raise TuiGruError(run.state.config.given.fixed)


def run_to(run: Run, line: str, progress: SearchProgress | None) -> Outcome:
    """Run to the next execution of a line, named by its target. Raises `TuiGruError` if it is never executed."""
    line = arguments.text("a line", line)
    ticks = {run.program.tick_of(line, t) for t in range(run.program.seq_length)} - {None}
    if not ticks:
        raise TuiGruError(f"there is no line that computes {line!r}")
    here, N, place = run.state.tick, run.program.ticks, run.timeline.place
    all_ahead = [batch * N + k for batch in (here // N, here // N + 1) for k in ticks if k is not None]
    ahead = [tick for tick in all_ahead if tick > here and place(tick) == tick]
    if not ahead:
        raise TuiGruError("learning is off, so this line is not executed; turn learning on first")
    with writing(run, progress), run.under_way():
        go(run, min(ahead), progress)
    return run.outcome


def continue_(run: Run, progress: SearchProgress | None) -> Outcome:
    """Run until something stops the run, or to its end.

    Raises `ConditionError` at the place where a condition cannot be evaluated.
    """
    end = run.end
    with run.under_way(), writing(run):
        return _continued(run, run.timeline.place(FAR) if end is None else end.tick, progress)


def reverse_continue(run: Run, progress: SearchProgress | None) -> Outcome:
    """Go back to the last place before the position where something stops, else to the beginning. Raises `ConditionError`."""
    with run.under_way():
        return _continued(run, 0, progress)


def search(run: Run, condition: str, forwards: bool, progress: SearchProgress | None) -> Outcome:
    """Run, forwards or backwards, to where a condition holds. Raises `ConditionError` at a place where it cannot be evaluated."""
    here, end = run.state.tick, run.end
    goal = 0 if not forwards else run.timeline.place(FAR) if end is None else max(here, end.tick)
    with writing(run, progress), run.under_way():
        found = _find(run, [run.stops.temporary(condition, run.timeline)], goal, forwards, progress)
        stop_at(run, found.tick)
    if found.by and run.state.tick == found.tick:
        if found.error is not None:
            raise found.error
        run.stop(StopEvent(found.tick, "condition"))
    return run.outcome


# Running to a tick


def go(run: Run, tick: int, progress: SearchProgress | None, stride: StepMemory | None = None) -> None:
    """Run or replay to the last executed line at or before `tick`, or to where the run ends or is stopped before that.

    If a run backwards is interrupted, the position does not change. `stride` is the step memory if `tick` itself is reached.
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


def _walk(run: Run, tick: int, progress: SearchProgress | None, stride: StepMemory) -> None:
    """Step to `tick`, or to the first stop before it."""
    if not run.stops.active(run.state.stops):
        return go(run, tick, progress, stride)
    end = run.end
    tick = run.timeline.place(tick if end is None else min(tick, end.tick))
    with writing(run):
        found = _go_to_stop(run, tick, progress)
        if found is None or not (found.by or found.broken_off):
            go(run, tick, progress)
        elif found.broken_off and found.tick > run.state.tick:  # an interrupted step back does not change the position
            stop_at(run, found.tick)
    return None


def _continued(run: Run, tick: int, progress: SearchProgress | None) -> Outcome:
    found = _go_to_stop(run, tick, progress)
    if found is None:
        go(run, tick, progress)
        return run.outcome
    if found.broken_off or not found.by:
        stop_at(run, found.tick)
    if found.error is not None and run.state.tick == found.tick:
        raise found.error
    return run.outcome


def _go_to_stop(run: Run, tick: int, progress: SearchProgress | None) -> SearchEnd | None:
    """Search for the first stop on the way to `tick`, and go there if there is one. None if there is no stop to test."""
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


def _find(run: Run, counters: Sequence[HitCounter], tick: int, ahead: bool, progress: SearchProgress | None) -> SearchEnd:
    """Find the first hit on the way to `tick`, or the place where the run ends. Checks the batches as well, if enabled."""
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
    return found if upto == found.tick else replace(found, tick=upto, by=(), broken_off=True)


def _before_trouble(watch: TroubleWatch | None, tick: int) -> tuple[int, StopEvent | None]:
    """Return `tick`, or the earlier place where the watch stops the run; and the event that stops it."""
    event = watch.event(tick) if watch is not None else None
    return (tick, None) if event is None else (event.tick, event)


def _checked(run: Run, tick: int, monitor: Monitor) -> tuple[int, StopEvent | None]:
    """Check every batch that ends on the way to `tick`. Returns `tick`, or the end of the batch where the run stops, and why."""
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
    """Check the batches that a search to `tick` has skipped. Returns `tick`, or the end of the first that differs, and why."""
    timeline = run.timeline
    for batch in checks.missed(tick):
        if run.interrupts.asked():
            break
        if checks.sees(batch, timeline.record(batch)):
            tick = min(tick, timeline.end_of(batch))
            break
    return tick, run.checks.note(checks, timeline, tick)


# Arriving


def move_to(run: Run, branches: Branches, tick: int, stride: StepMemory | None = None) -> None:
    """Set the position to a tick of `branches`, and the step memory to `stride`.

    If the timeline of the branch has been replaced, its hits and log lines after the change are dropped.
    """
    was = run.state.branches.named.get(branches.current)
    changes: dict[str, Any] = {}
    if was is not None and was.timeline is not branches.timeline:
        parted = was.timeline.parted(branches.timeline)
        changes = by_branch.taken_over(run.state, branches.current, branches.current, parted)
    run.arrive(branches, tick, stride=StepMemory.begin("", tick) if stride is None else stride, **changes)


def change(run: Run, settings: TrainingSettings, action: JournalEntry) -> None:
    """Apply a change at the position. In the past, this forks a branch, which copies the hits and log lines up to there."""
    source, here = run.state.branch, run.position
    timeline = run.timeline.changed(here, settings, action)
    move_to(run, run.state.branches.changed(timeline, here.tick), here.tick)
    if run.state.branch != source:
        run.update(**by_branch.taken_over(run.state, source, run.state.branch, here.tick))


def stop_at(run: Run, tick: int, found: SearchEnd | None = None) -> None:
    """Go to where a search ended, or to an earlier number that is not finite. `found` is the hit that stopped the run, if any."""
    there, event = _before_trouble(run.watch(tick > run.state.tick), tick)
    _arrive(run, there, event)
    if found is not None and there == tick:
        from tui_gru.debugger.breakpoints.stop_words import why

        run.stop(StopEvent(tick, "breakpoint", Notice(why(found, run.timeline), warning=found.error is not None)))


def _arrive(run: Run, tick: int, event: StopEvent | None, stride: StepMemory | None = None) -> None:
    """Set the position on the current branch, and record the event that stopped the run, if any."""
    move_to(run, run.state.branches, tick, stride)
    if event is not None:
        run.stop(event)


@contextmanager
def writing(run: Run, progress: SearchProgress | None = None) -> Iterator[None]:
    """Run the block; then add to the log what log points write at the places between the old position and a later new one."""
    logs = any(stop.enabled and stop.log for stop in run.state.stops.breakpoints)
    before = run.state.tick
    try:
        yield
    finally:
        if logs and run.state.tick > before:
            run.interrupts.forget()  # an interrupt that ended the run must not end the writing
            try:
                _write(run, before, progress)
            finally:
                run.interrupts.forget()


def _write(run: Run, before: int, progress: SearchProgress | None) -> None:
    from tui_gru.debugger.breakpoints.log_lines import MOST_LINES, lines_between, merged

    here, old = run.state.tick, run.state.log.get(run.state.branch, ())
    active = [each for each in run.stops.active(run.state.stops) if each.log is not None]
    tested = [each for each in active if each.tested_between(before, here, run.program.ticks)]
    lines = lines_between(tested, run.timeline, run.stops.hits, before, here, run.monitor(None, progress), MOST_LINES)
    kept = []  # lines with the numbers of another machine, where this one would write others
    if not run.timeline.last.own:
        same = {stop.id for stop in run.state.stops.breakpoints if stop in run.first_stops}
        kept = [line for line in old if line.id in same and not run.timeline.is_exact(run.timeline.position(line.tick).number)]
    run.update(**by_branch.with_log(run.state, merged(old, [*lines, *kept], MOST_LINES)))
