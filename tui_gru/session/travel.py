"""The mutable core of a session, and the verbs that move it in time, with what stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any

from tui_gru import errors as arguments
from tui_gru.analysis.trouble import TroubleWatch
from tui_gru.debugger import state as by_branch
from tui_gru.debugger.branches import Branches, BranchTree
from tui_gru.debugger.edits import JournalEntry, TrainingSettings
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Level, Position, StepMemory, check_level, position_of
from tui_gru.debugger.program import Program, program_of
from tui_gru.debugger.state import Breakpoint, Notice, Outcome, State, Stop, StopEvent, Stops, joined
from tui_gru.debugger.timeline import Memory, Monitor, Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.training import initial_weights
from tui_gru.engine.weights import Weights
from tui_gru.errors import TuiGruError
from tui_gru.storage.recorder import SessionRecorder

if TYPE_CHECKING:
    from tui_gru.analysis.check import CheckTotals, CheckWatch
    from tui_gru.debugger.search import HitCounter, ScalarCache, SearchEnd
    from tui_gru.debugger.state import HitCache, HitCounts, HitKey
    from tui_gru.debugger.stops import ResolvedStop

# ------------------------------------------------------------------------------
# What stops a run before its goal: an interrupt, a number that is not finite or explodes, or a batch that fails its check.


SearchProgress = Callable[[Position | str], None]  # called with the progress of a run, as a position or in words


class Interrupts:
    """A request to stop the current run, made by another thread. `count` is the number of requests so far."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.count = 0

    def interrupt(self) -> None:
        """Stop the current run, or the next one if none is under way."""
        self.count += 1
        self._asked.set()

    def forget(self) -> None:
        """Withdraw a pending request."""
        self._asked.clear()

    def asked(self) -> bool:
        """Return True if the run is to stop."""
        return self._asked.is_set()


class BatchChecks:
    """The comparison of every finished batch with PyTorch's autograd. `totals` is None while it is disabled."""

    def __init__(self) -> None:
        self.totals: CheckTotals | None = None
        self._done: tuple[Timeline | None, range] = (None, range(0))  # the batches of this timeline that are checked already

    def turn(self, on: bool) -> None:
        """Enable or disable the checks; disabling discards the totals. Raises `TuiGruError` if PyTorch is not installed."""
        from tui_gru.analysis.check import CheckTotals
        from tui_gru.torch_loading import is_installed, require_torch

        if on and not is_installed():  # said now, or every later run would stop with it
            require_torch("the check of every batch")
        self.totals = (self.totals or CheckTotals()) if on else None
        self._done = self._done if on else (None, range(0))

    def watch(self, timeline: Timeline, tick: int, last: int | None) -> CheckWatch | None:
        """Return an object that checks the batches from `tick` on up to `last` (None: no end); None if checks are disabled."""
        if self.totals is None:
            return None
        from tui_gru.analysis.check import CheckWatch

        of, done = self._done
        return CheckWatch(timeline, tick // timeline.program.ticks, last, self.totals, done if of is timeline else range(0))

    def note(self, watch: CheckWatch, timeline: Timeline, tick: int) -> StopEvent | None:
        """Store the results of a watch up to `tick`. Returns the event that stops the run there, or None."""
        self.totals, self._done = watch.totals(tick), (timeline, watch.done(tick))
        if watch.problem and tick >= timeline.end_of(watch.stopped_at):
            return StopEvent(tick, "check", Notice(watch.problem, warning=True))
        return None


def monitor(program: Program, interrupts: Interrupts, watch: TroubleWatch | None, progress: SearchProgress | None) -> Monitor:
    """Create a monitor that reports every batch to `progress`, and stops the run if it is interrupted or `watch` finds trouble."""
    ticks = program.ticks

    def visit(batch: int, record: BatchRecord) -> bool:
        if progress is not None:
            progress(position_of(program, (batch + 1) * ticks))
        return interrupts.asked() or (watch is not None and watch.sees(batch, record))

    return visit


def either(monitor: Monitor, checks: CheckWatch | None) -> Monitor:
    """Combine two monitors; the run stops if either does. `checks` does not see a batch at which `monitor` stops."""
    return monitor if checks is None else lambda batch, record: monitor(batch, record) or checks.sees(batch, record)


# ------------------------------------------------------------------------------
# The mutable core of a session: its state, its moment, the outcome of the last verb, and the objects that are not saved.


# Conditions are compiled only if there are any: importing their modules takes a tenth of the start time.


class Run:
    """A training run under the debugger. The functions of this folder operate on it; `Session` is the public interface.

    `stopped_by` and `notice` belong to the current verb, or to the last one.
    """

    def __init__(self, state: State) -> None:
        self.state = state.replaced(hit_counts={})  # `stops` has them; the timeline can change from here on
        self.program: Program = program_of(state.config)
        self.moment: Moment = state.timeline.moment(state.tick)
        self.stopped_by: StopEvent | None = None
        self.notice: Notice | None = None
        self.interrupts = Interrupts()
        self.checks = BatchChecks()
        self.stops = StopCache(self.program, state)
        self.first_stops = frozenset(state.stops.breakpoints)  # which wrote the lines that are in the log
        self.tree = BranchTree()
        self.recorder = SessionRecorder(self._state_to_write, lambda words: self.say(words, warning=True))
        self._updating = RLock()
        self._told = False  # whether it was said that the run amplifies the difference to the machine that recorded it

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.state.timeline

    @property
    def position(self) -> Position:
        return self.moment.position

    @property
    def settings(self) -> TrainingSettings:
        """The settings in force at the position."""
        return self.timeline.segment_at(self.state.tick).settings

    @property
    def end(self) -> Position | None:
        """The last position of a run with a number of epochs; None if it has no end."""
        epochs = self.state.epochs
        return None if epochs is None else self.timeline.position(self.timeline.step_index("epoch").tick(epochs))

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.position, self.stopped_by, self.notice)

    # Changes of the run

    def update(self, **changes: Any) -> None:
        """Change fields of the state. Thread-safe: another thread may change other fields."""
        with self._updating:
            self.state = self.state.replaced(**changes)

    def keep(self, name: str, value: Any, *, begin: bool) -> None:
        """Save a JSON value for a front end."""
        with self._updating:
            self.update(kept={**self.state.kept, name: value})
        self.recorder.record_kept(begin=begin)

    def arrive(self, branches: Branches, tick: int, **changes: Any) -> None:
        """Set the position to `tick` of the current one of `branches`, and change other fields of the state."""
        self.moment = branches.timeline.moment(tick)
        self.update(branches=branches.reached(tick), tick=tick, **changes)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Clear `stopped_by` and `notice` before a run, and any interrupt after it."""
        self.stopped_by = self.notice = None
        try:
            yield
        finally:
            self.interrupts.forget()

    def stop(self, event: StopEvent) -> None:
        """Record the event that stopped the run, also as a hit of the current branch, and put its message first."""
        self.stopped_by, self.notice = event, joined(event.notice, self.notice)
        self.update(**by_branch.with_hit(self.state, event.tick))

    def say(self, text: str, *, warning: bool = False) -> None:
        """Append a message to the notice."""
        self.notice = joined(self.notice, Notice(text, warning))

    def on_machines(self) -> Notice | None:
        """Return the message on the machine that recorded the run, if it was another."""
        report = self.timeline.report
        self._told = report is not None and report.warning
        return None if report is None else Notice(report.sentence, report.warning)

    def tell_of_machines(self) -> None:
        """Append that message if its warning has not been given yet."""
        if not self._told and self.timeline.memory.by_size.amplified is not None and (notice := self.on_machines()) is not None:
            self.say(notice.text, warning=notice.warning)

    # Monitors

    def watch(self, ahead: bool) -> TroubleWatch | None:
        """Return a watch for numbers that stop a forward run; None for a reverse run, and if `stop_on_nan` is off."""
        return TroubleWatch(self.timeline, self.position) if ahead and self.state.stop_on_nan else None

    def monitor(self, watch: TroubleWatch | None, progress: SearchProgress | None) -> Monitor:
        """Return a monitor of every batch that is computed on the way; it can stop the run."""
        return monitor(self.program, self.interrupts, watch, progress)

    def _state_to_write(self, counts: bool) -> State:
        return self.state.replaced(hit_counts=self.stops.hit_counts(self.state)) if counts else self.state


class StopCache:
    """A cache of what is slow to compute for stops: compiled conditions, hit counters, and the hits counted so far."""

    def __init__(self, program: Program, state: State) -> None:
        self._program = program
        self._resolved: dict[Stop, ResolvedStop] = {}
        self._active: tuple[Stops | None, tuple[ResolvedStop, ...]] = None, ()
        self._counters: tuple[Timeline, Stops, ScalarCache, dict[ResolvedStop, HitCounter]] | None = None
        self._hits: HitCache | None = None
        if state.hit_counts:
            self.hits.put(state.timeline, state.hit_counts)

    @property
    def hits(self) -> HitCache:
        """The number of hits of each stop in each batch, as far as they have been counted."""
        if self._hits is None:
            from tui_gru.debugger.state import HitCache

            self._hits = HitCache()
        return self._hits

    def resolved(self, stop: Stop) -> ResolvedStop:
        """Return a stop resolved in the program. Raises `TuiGruError` if it does not fit the program."""
        if stop not in self._resolved:
            from tui_gru.debugger.stops import resolve

            self._resolved[stop] = resolve(stop, self._program)
        return self._resolved[stop]

    def keep_only(self, stops: Stops) -> None:
        """Drop the cached data of all stops except `stops`."""
        there = set(stops.all)
        self._resolved = {stop: resolved for stop, resolved in self._resolved.items() if stop in there}

    def active(self, stops: Stops) -> tuple[ResolvedStop, ...]:
        """Return all enabled stops that stop a run or write to the log, resolved."""
        if self._active[0] is not stops:
            self._active = stops, tuple(map(self.resolved, stops.active))
        return self._active[1]

    def counter(self, resolved: ResolvedStop, stops: Stops, timeline: Timeline) -> HitCounter:
        """Return the hit counter of a stop on a timeline. It is cached, because creating one takes longer than a step."""
        from tui_gru.debugger.search import HitCounter, ScalarCache

        if self._counters is None or self._counters[:2] != (timeline, stops):
            self._counters = timeline, stops, ScalarCache(timeline), {}
        *_, columns, counters = self._counters
        if resolved not in counters:
            hits = self.hits.of(timeline, resolved.key)
            counters[resolved] = HitCounter(resolved, timeline, hits, columns, matters=resolved.log is None)
        counters[resolved].begin()
        return counters[resolved]

    def temporary(self, condition: str, timeline: Timeline) -> HitCounter:
        """Return the hit counter of a temporary breakpoint on a condition, for one search. Raises `ConditionError`."""
        from tui_gru.debugger.search import HitCounter, ScalarCache
        from tui_gru.debugger.stops import resolve

        resolved = resolve(Breakpoint(0, condition=condition), self._program)
        return HitCounter(resolved, timeline, self.hits.of(timeline, resolved.key), ScalarCache(timeline), matters=True)

    def forget_counters(self) -> None:
        """Drop the cached counters; after an error, their state is not known."""
        self._counters = None

    def hit_counts(self, state: State) -> Mapping[HitKey, HitCounts]:
        """Return the hit counts of the breakpoints that stop only at some of their hits, as far as they have been counted."""
        if self._hits is None:
            return {}
        keys = {self.resolved(stop).key for stop in state.stops.breakpoints if stop.hits}
        counts = {key: self._hits.of(state.timeline, key) for key in sorted(keys)}
        return {key: each for key, each in counts.items() if each.looked}


def beginning(config: Config, epochs: int | None, history_memory: int, weights: Weights | None = None) -> State:
    """Return the initial state of a session; `weights` default to the initial weights of the config. Raises `TuiGruError`."""
    memory = Memory(config, arguments.whole("history_memory", history_memory, least=0, option="history_memory"))
    learning = config.given is not None and config.given.learns
    weights = initial_weights(config) if weights is None else weights
    return State(config, epochs, Branches.begin(Timeline.begin(TrainingSettings(learning, config.settings), weights, memory)))


# ------------------------------------------------------------------------------
# Verbs that move in time: steps, SGD steps, runs to a stop, a line or a condition.
#
# Steps stop at breakpoints; seek, search and sgd ignore them. A run can be interrupted at the end of each batch. Whatever takes
# long is done before the session changes.


# The search for stops is imported only if there is something to stop at.

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
    from tui_gru.debugger.search import StopSearch

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
        from tui_gru.debugger.search import why

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
    from tui_gru.debugger.search import MOST_LINES, lines_between, merged

    here, old = run.state.tick, run.state.log.get(run.state.branch, ())
    active = [each for each in run.stops.active(run.state.stops) if each.log is not None]
    tested = [each for each in active if each.tested_between(before, here, run.program.ticks)]
    lines = lines_between(tested, run.timeline, run.stops.hits, before, here, run.monitor(None, progress), MOST_LINES)
    kept = []  # lines with the numbers of another machine, where this one would write others
    if not run.timeline.last.own:
        same = {stop.id for stop in run.state.stops.breakpoints if stop in run.first_stops}
        kept = [line for line in old if line.id in same and not run.timeline.is_exact(run.timeline.position(line.tick).number)]
    run.update(**by_branch.with_log(run.state, merged(old, [*lines, *kept], MOST_LINES)))
