"""The run of a session: its state at a moment, and the way to another moment, with what can stop it before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from tui_gru import arguments
from tui_gru.debugger import state as by_branch
from tui_gru.debugger.edits import JournalEntry, TrainingSettings
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import FAR, Position, StepMemory, position_of
from tui_gru.debugger.program import Program, program_of
from tui_gru.debugger.segment import Memory, Monitor
from tui_gru.debugger.state import Notice, Outcome, State, StopEvent, joined_notices
from tui_gru.debugger.stops import (
    Breakpoint,
    HitCache,
    HitCounts,
    HitKey,
    ResolvedStop,
    Stop,
    Stops,
    Watched,
    WatchedValues,
    resolve,
    watched,
)
from tui_gru.debugger.timeline import Branches, BranchTree, Timeline
from tui_gru.debugger.trouble import TroubleWatch
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.source import Ability
from tui_gru.engine.training import initial_weights
from tui_gru.engine.weights import Weights
from tui_gru.errors import TuiGruError
from tui_gru.storage.recorder import SessionRecorder

if TYPE_CHECKING:
    from tui_gru.debugger.search import HitCounter, ReadScalars, SearchEnd

# ------------------------------------------------------------------------------
# What stops a run before its goal: an interrupt, a number that is not finite or explodes, or a batch that fails its check.


SearchProgress = Callable[[Position | str], None]  # called with the progress of a run, as a position or in words


class Interrupts:
    """A request to stop the current run, made by another thread. `count` is the number of requests so far."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self.count = 0

    def interrupt(self) -> None:
        """Stop the current run, or the next one if none is under way."""
        self.count += 1
        self._requested.set()

    def forget(self) -> None:
        """Withdraw a pending request."""
        self._requested.clear()

    def is_requested(self) -> bool:
        """Return True if the run is to stop."""
        return self._requested.is_set()

    def check(self, message: str) -> None:
        """Raise `TuiGruError` with a message if the run is to stop."""
        if self.is_requested():
            raise TuiGruError(message)

    def monitors(
        self, message: str, progress: SearchProgress | None, in_words: Callable[[int], Position | str] | None = None
    ) -> tuple[Monitor, Callable[[str], None]]:
        """Return what an analysis calls with each replayed batch and between its parts; both raise `TuiGruError` if interrupted.

        `in_words` returns what is reported to `progress` of a batch.
        """

        arguments.callback("progress", progress)

        def monitor(batch: int, record: BatchRecord) -> bool:
            self.check(message)
            if progress is not None and in_words is not None:
                progress(in_words(batch))
            return False

        def between(words: str) -> None:
            self.check(message)
            if progress is not None:
                progress(words)

        return monitor, between


class BatchWatch(Protocol):
    """Compares the batches that a run finishes with another computation of them."""

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a batch should stop the run."""
        raise NotImplementedError

    def missed(self, tick: int) -> list[int]:
        """Return the batches completed by `tick` that the run did not show, for example because they were cached."""
        raise NotImplementedError


class BatchChecks(Protocol):
    """Whether every finished batch is compared, and what came out; `totals` is None while it is disabled."""

    totals: Any

    def turn(self, on: bool) -> None:
        """Enable or disable the comparisons."""
        raise NotImplementedError

    def watch(self, timeline: Timeline, tick: int, last: int | None) -> BatchWatch | None:
        """Return what compares the batches from `tick` on up to `last` (None: no end); None while it is disabled."""
        raise NotImplementedError

    def note(self, watch: Any, timeline: Timeline, tick: int) -> StopEvent | None:
        """Store the results of a watch up to `tick`. Returns the event that stops the run there, or None."""
        raise NotImplementedError


def either(monitor: Monitor, checks: BatchWatch | None) -> Monitor:
    """Combine two monitors; the run stops if either does. `checks` does not see a batch at which `monitor` stops."""
    return monitor if checks is None else lambda batch, record: monitor(batch, record) or checks.sees(batch, record)


class StopCache:
    """A cache of what is slow to compute for stops: compiled texts, hit counters, and the hits counted so far."""

    def __init__(self, program: Program, state: State) -> None:
        self._program = program
        self._resolved: dict[Stop, ResolvedStop] = {}
        self._active: tuple[Stops | None, tuple[ResolvedStop, ...]] = None, ()
        self._counters: tuple[Timeline, ReadScalars, dict[ResolvedStop, HitCounter]] | None = None
        self.hits = HitCache()
        if state.hit_counts:
            self.hits.put(state.timeline, state.hit_counts)

    def resolved(self, stop: Stop) -> ResolvedStop:
        """Return a stop resolved in the program. Raises `TuiGruError` if it does not fit the program."""
        if stop not in self._resolved:
            self._resolved[stop] = resolve(stop, self._program)
        return self._resolved[stop]

    def keep_only(self, stops: Stops) -> None:
        """Drop the cached data of all stops except `stops`."""
        remaining = set(stops.all)
        self._resolved = {stop: resolved for stop, resolved in self._resolved.items() if stop in remaining}
        self._counters = None

    def active(self, stops: Stops) -> tuple[ResolvedStop, ...]:
        """Return all enabled stops that stop a run or write to the log, resolved."""
        if self._active[0] is not stops:
            self._active = stops, tuple(map(self.resolved, stops.active))
        return self._active[1]

    def counter(self, resolved: ResolvedStop, timeline: Timeline) -> HitCounter:
        """Return the hit counter of a stop on a timeline. It is cached, because creating one takes longer than a step."""
        from tui_gru.debugger.search import HitCounter, scalars_of

        if self._counters is None or self._counters[0] != timeline:
            self._counters = timeline, scalars_of(timeline), {}
        _, read, counters = self._counters
        if resolved not in counters:
            hits = self.hits.of(timeline, resolved.key)
            counters[resolved] = HitCounter(resolved, timeline, hits, read, stops_runs=resolved.log is None)
        counters[resolved].begin()
        return counters[resolved]

    def forget_counters(self) -> None:
        """Drop the cached counters; after an error, their state is not known."""
        self._counters = None

    def hit_counts(self, state: State) -> Mapping[HitKey, HitCounts]:
        """Return the hit counts of the breakpoints that stop only at some of their hits, as far as they have been counted."""
        keys = {self.resolved(stop).key for stop in state.stops.breakpoints if stop.hits}
        counts = {key: self.hits.of(state.timeline, key) for key in sorted(keys)}
        return {key: hits for key, hits in counts.items() if hits.tested}


# ------------------------------------------------------------------------------
# The run under the debugger: its state, its moment, and its way to a place or to a stop.


class Run:
    """A training run under the debugger: one mutable cell around its `State`. `Session` is the public interface.

    `stopped_by` and `notice` belong to the current verb, or to the last one. A run can be interrupted at the end of each batch, so
    whatever takes long is done before the state changes.
    """

    def __init__(self, state: State, checks: BatchChecks) -> None:
        self.state = state.replaced(hit_counts={})  # `stops` has them; the timeline can change from here on
        self.program: Program = program_of(state.config)
        self.moment: Moment = state.timeline.moment(state.tick)
        self.stopped_by: StopEvent | None = None
        self.notice: Notice | None = None
        self.passing: tuple[int, BatchRecord] | None = None  # what `progress` is being called for: a finished batch, and its record
        self.interrupts = Interrupts()
        self.checks = checks
        self.own_timeline = state.timeline  # of this run, while trials in the loop of a script have their own memory
        self.stops = StopCache(self.program, state)
        self.first_stops = frozenset(state.stops.breakpoints)  # which wrote the lines that are in the log
        self.tree = BranchTree()
        self.recorder = SessionRecorder(self._state_to_write, lambda words: self.say(words, warning=True))
        self._updating = RLock()
        self._warned_of_amplified = (
            False  # whether it was said that the run amplifies the difference to the machine that recorded it
        )

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.state.timeline

    def is_trial(self, name: str) -> bool:
        """Return True for a branch that is a trial in the loop of a script."""
        return self.state.branches.named[name].timeline.memory is not self.own_timeline.memory

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

    # Changes of the state

    def update(self, **changes: Any) -> None:
        """Change fields of the state. Thread-safe: another thread may change other fields."""
        with self._updating:
            self.state = self.state.replaced(**changes)

    def keep(self, name: str, value: Any, *, begin: bool) -> None:
        """Save a JSON value for a front end."""
        with self._updating:
            self.update(kept={**self.state.kept, name: value})
        self.recorder.record_kept(begin=begin)

    # The verb under way

    @contextmanager
    def verb(self) -> Iterator[None]:
        """During a verb; when it ends or raises, write its changes to the file that the session is recorded to.

        Its message says as well if it is the first to meet numbers that differ more from those of another machine than by rounding.
        """
        try:
            with self.recorder.verb():
                yield
        finally:
            if (
                not self._warned_of_amplified
                and self.timeline.memory.by_size.amplified is not None
                and (notice := self.on_machines()) is not None
            ):
                self.say(notice.text, warning=notice.warning)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Clear `stopped_by` and `notice` before a run, and any interrupt after it."""
        self.stopped_by = self.notice = None
        try:
            yield
        finally:
            self.interrupts.forget()

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Store the place before a jump, so that `'` jumps back to it, unless the jump ends at the same place."""
        place = self.state.branch, self.state.tick
        try:
            yield
        finally:
            if (self.state.branch, self.state.tick) != place:
                self.update(left=place)

    def stop(self, event: StopEvent) -> None:
        """Record the event that stopped the run, also as a hit of the current branch, and put its message first."""
        self.stopped_by, self.notice = event, joined_notices(event.notice, self.notice)
        self.update(**by_branch.with_hit(self.state, event.tick))

    def say(self, text: str, *, warning: bool = False) -> None:
        """Append a message to the notice."""
        self.notice = joined_notices(self.notice, Notice(text, warning))

    def on_machines(self) -> Notice | None:
        """Return the message on the machine that recorded the run, if it was another."""
        report = self.timeline.report
        self._warned_of_amplified = report is not None and report.warning
        return None if report is None else Notice(report.sentence, report.warning)

    def watched(self) -> Sequence[Watched]:
        """Return the values of all watches at the position."""
        watches = self.state.stops.watches
        if not watches:
            return ()
        stops, timeline, moment = self.stops, self.timeline, self.moment
        return WatchedValues(watches, lambda watch: watched(stops.resolved(watch), timeline, moment), self.recorder.idle)

    # Monitors

    def watch(self, forwards: bool) -> TroubleWatch | None:
        """Return a watch for numbers that stop a forward run; None for a reverse run, and if `stop_on_nan` is off."""
        return TroubleWatch(self.timeline, self.position) if forwards and self.state.stop_on_nan else None

    def monitor(self, watch: TroubleWatch | None, progress: SearchProgress | None, *, arrives: bool = False) -> Monitor:
        """Return a monitor that reports each batch to `progress`, and stops the run if interrupted or if `watch` finds trouble.

        It also records new batches of a long run while it is under way, with the position behind them if `arrives`; otherwise the
        run may turn out to stop before.
        """
        program, interrupts, recorder = self.program, self.interrupts, self.recorder
        arguments.callback("progress", progress)

        def visit(batch: int, record: BatchRecord) -> bool:
            if progress is not None:
                self.passing = batch, record
                try:
                    progress(position_of(program, (batch + 1) * program.ticks))
                finally:
                    self.passing = None  # the record is used again, unless somebody else has it
            stopped = interrupts.is_requested() or (watch is not None and watch.sees(batch, record))
            if not stopped and recorder.is_due and (tick := self.timeline.end_of(batch)) > self.state.branches.newest:
                state = self.state.replaced(branches=self.state.branches.reached(tick))
                recorder.record_passing(state.replaced(tick=tick, stride=StepMemory.begin("", tick)) if arrives else state)
            return stopped

        return visit

    def _state_to_write(self, counts: bool) -> State:
        state = self.state.replaced(hit_counts=self.stops.hit_counts(self.state)) if counts else self.state
        trials = [name for name in state.branches.names if self.is_trial(name)]
        return self._without_trials(state, trials) if trials else state

    def _without_trials(self, state: State, trials: Sequence[str]) -> State:
        """Return the state without the branches that are trials in the loop of a script, whose numbers are not this run's."""
        if state.branch in trials:
            own = next(name for name in state.branches.names if name not in trials)
            branch = state.branches.named[own]
            tick = branch.timeline.place(min(state.tick, branch.newest))
            config = branch.timeline.program.config
            state = state.replaced(
                branches=state.branches.switched(own), tick=tick, config=config, stride=StepMemory.begin("", tick)
            )
        for name in trials:
            state = state.replaced(branches=state.branches.without(name), **by_branch.moved_branch(state, name, None))
        return state

    # Changes of the training

    def check_trains(self) -> None:
        """Raise `TuiGruError`, with the reason, if the run is on imported batches and cannot be trained."""
        self.state.config.source.check(Ability.TRAIN)

    def change(self, settings: TrainingSettings, action: JournalEntry) -> None:
        """Apply a change at the position. In the past, this forks a branch, which copies the hits and log lines up to there."""
        source, position = self.state.branch, self.position
        timeline = self.timeline.changed(position, settings, action)
        self.move_to(self.state.branches.changed(timeline, position.tick), position.tick)
        if self.state.branch != source:
            self.update(**by_branch.taken_over(self.state, source, self.state.branch, position.tick))

    # Running to a tick, or to a stop before it

    def go(self, tick: int, progress: SearchProgress | None, stride: StepMemory | None = None) -> None:
        """Run or replay to the last executed line at or before `tick`, or to where the run ends or is stopped before that.

        If a run backwards is interrupted, the position does not change. `stride` is the step memory if `tick` itself is reached.
        """
        start, end, timeline, goal = self.state.tick, self.end, self.timeline, tick
        tick = timeline.place(tick if end is None else min(tick, end.tick))
        forwards, checked = tick > start, None
        watch = self.watch(forwards)
        tick, _ = _before_trouble(watch, tick)
        monitor = self.monitor(watch, progress, arrives=True)
        if forwards and self.checks.totals is not None:
            tick, checked = self._checked(tick, monitor)
        # The moment is computed before the state changes, so that an interrupt, or an error in a replay, leaves the position as it
        # was. Backwards, a replay that was stopped half way has reached no place that was asked for.
        reached = timeline.moment(tick, monitor).position.tick
        if reached == tick or reached > start:
            reached, trouble = _before_trouble(watch, reached)
            self._arrive(reached, trouble or (checked if reached == tick else None), stride if reached == goal else None)

    def walk(self, tick: int, progress: SearchProgress | None) -> None:
        """Step to `tick`, or to the first stop before it."""
        end = self.end
        tick = self.timeline.place(tick if end is None else min(tick, end.tick))
        with self.writing():
            reached = self._go_to_stop(tick, progress)
            if reached is None or not (reached.by or reached.broken_off):
                self.go(tick, progress)
            elif reached.broken_off and reached.tick > self.state.tick:  # an interrupted step back does not change the position
                self.stop_at(reached.tick)

    def run_on(self, tick: int, progress: SearchProgress | None) -> bool:
        """Run to the first stop on the way to `tick`: True. To `tick` itself, or to where it is interrupted: False.

        Raises `ConditionError` at the place where a condition cannot be evaluated.
        """
        with self.under_way(), self.writing():
            reached = self._go_to_stop(tick, progress)
            if reached is None:
                self.go(tick, progress)
                return self.stopped_by is not None
            if reached.broken_off or not reached.by:
                self.stop_at(reached.tick)
            if reached.error is not None and self.state.tick == reached.tick:
                raise reached.error
        return self.stopped_by is not None

    def search(self, condition: str, forwards: bool, progress: SearchProgress | None, limit: int | None = None) -> bool:
        """Run to where a condition holds, in either direction, and store the condition. True if it stopped there.

        Where it does not hold, the run ends at the tick `limit`, by default at the end or the beginning of the run.

        Raises `ConditionError` if it is invalid, or at a place where it cannot be evaluated.
        """
        from tui_gru.debugger.search import HitCounter, scalars_of

        temporary = resolve(Breakpoint(0, condition=arguments.string("a condition", condition)), self.program)
        temporary.check(self.program)  # an invalid condition is not stored
        self._refuse_impossible(temporary, forwards)
        timeline, hits = self.timeline, self.stops.hits.of(self.timeline, temporary.key)
        counter = HitCounter(temporary, timeline, hits, scalars_of(timeline), stops_runs=True)
        self.update(last_condition=condition)
        start, end = self.state.tick, self.end
        goal = 0 if not forwards else self.timeline.place(FAR) if end is None else max(start, end.tick)
        if limit is not None:
            goal = min(goal, max(start, limit)) if forwards else max(goal, min(start, limit))
        with self.leaving():
            with self.writing(progress), self.under_way():
                reached = self._find([counter], goal, forwards, progress)
                self.stop_at(reached.tick)
            if reached.by and self.state.tick == reached.tick:
                if reached.error is not None:
                    raise reached.error
                self.stop(StopEvent(reached.tick, "condition"))
        return self.stopped_by is not None and self.stopped_by.cause == "condition"

    def _refuse_impossible(self, resolved: ResolvedStop, forwards: bool) -> None:
        """Raise `ConditionError` for a condition that holds nowhere on the way, whatever the numbers are."""
        from tui_gru.debugger.possible import refuse_impossible

        if resolved.condition is None:  # a constant
            return
        condition, position, program = resolved.condition.source, self.state.tick, self.program
        tested, end = resolved.next_tested(position, program.ticks), self.end
        if not forwards or tested is None:
            refuse_impossible(condition, program)
        else:
            batch = (tested - 1) // program.ticks
            begins = program.counter("epoch", batch), program.counter("step", batch)
            refuse_impossible(condition, program, begins, None if end is None else self.state.epochs)
            first = max(position - 1, 0) // program.ticks
            learned = self.timeline.learned(first, max(first, self.timeline.computed))
            if end is None and not (resolved.ticks[False] or self.settings.learning or learned.any()):
                names = ", ".join(sorted(program.writer.name(name) for name in resolved.condition.names))
                raise ConditionError(f"{names}: only batches that learn compute this, and learning is off; first: learning on", 1)

    def _go_to_stop(self, tick: int, progress: SearchProgress | None) -> SearchEnd | None:
        """Search for the first stop on the way to `tick`, and go there if there is one. None if there is no stop to test."""
        start, N, stops, timeline = self.state.tick, self.program.ticks, self.state.stops, self.timeline
        forwards = tick > start
        # A run forwards may stop at its goal. One backwards tests the places before the position down to the goal itself, because a
        # stop at the position was where the run before it ended.
        after, upto = (start, tick) if forwards else (max(tick - 1, 0), start - 1)
        tested = [
            stop for stop in self.stops.active(stops) if (forwards or stop.log is None) and stop.tested_between(after, upto, N)
        ]
        if not tested or tick == start:
            return None
        counters = [self.stops.counter(stop, timeline) for stop in tested]
        try:
            reached = self._find(counters, tick, forwards, progress)
        except BaseException:
            self.stops.forget_counters()
            raise
        if reached.by:
            self.stop_at(reached.tick, reached)
        return reached

    def _find(self, counters: Sequence[HitCounter], tick: int, forwards: bool, progress: SearchProgress | None) -> SearchEnd:
        """Find the first hit on the way to `tick`, or the place where the run ends. Checks the batches as well, if enabled."""
        from tui_gru.debugger.search import StopSearch

        start, timeline = self.state.tick, self.timeline
        checks = self.checks.watch(timeline, start, None) if forwards else None
        find = StopSearch(timeline, counters, either(self.monitor(self.watch(forwards), progress), checks))
        reached = find.forward(start, tick) if forwards else find.back(start, tick)
        if checks is None:
            return reached
        upto, event = self._checked_batches(checks, reached.tick)
        if event is not None:
            self.stop(event)
        return reached if upto == reached.tick else replace(reached, tick=upto, by=(), broken_off=True)

    def _checked(self, tick: int, monitor: Monitor) -> tuple[int, StopEvent | None]:
        """Check every batch that ends on the way to `tick`. Returns `tick`, or the end of the batch that stops the run, and why."""
        ticks, timeline, reached = self.program.ticks, self.timeline, -1
        first, last = self.state.tick // ticks, tick // ticks - 1
        checks = self.checks.watch(timeline, self.state.tick, last)
        assert checks is not None
        visit = either(monitor, checks)

        def see(batch: int, record: BatchRecord) -> bool:
            nonlocal reached
            reached = batch
            return visit(batch, record)

        if timeline.walk(first, last, see):
            tick = min(tick, timeline.end_of(reached))
        return tick, self.checks.note(checks, timeline, tick)

    def _checked_batches(self, checks: BatchWatch, tick: int) -> tuple[int, StopEvent | None]:
        """Check the batches that a search to `tick` has skipped. Returns `tick`, or the end of the first that differs, and why."""
        timeline = self.timeline
        for batch in checks.missed(tick):
            if self.interrupts.is_requested():
                break
            if checks.sees(batch, timeline.record(batch)):
                tick = min(tick, timeline.end_of(batch))
                break
        return tick, self.checks.note(checks, timeline, tick)

    def stop_at(self, tick: int, hit: SearchEnd | None = None) -> None:
        """Go to where a search ended, or to an earlier number that is not finite. `hit` is what stopped it, if any."""
        reached, event = _before_trouble(self.watch(tick > self.state.tick), tick)
        self._arrive(reached, event)
        if hit is not None and reached == tick:
            from tui_gru.debugger.search import end_message

            self.stop(StopEvent(tick, "breakpoint", Notice(end_message(hit, self.timeline), warning=hit.error is not None)))

    def _arrive(self, tick: int, event: StopEvent | None, stride: StepMemory | None = None) -> None:
        """Set the position on the current branch, and record the event that stopped the run, if any."""
        self.move_to(self.state.branches, tick, stride)
        if event is not None:
            self.stop(event)

    def move_to(self, branches: Branches, tick: int, stride: StepMemory | None = None) -> None:
        """Set the position to a tick of `branches`, and the step memory to `stride`.

        If the timeline of the branch has been replaced, its hits and log lines after the change are dropped.
        """
        was = self.state.branches.named.get(branches.current)
        changes: dict[str, Any] = {}
        if was is not None and was.timeline is not branches.timeline:
            parted = was.timeline.parted(branches.timeline)
            changes = by_branch.taken_over(self.state, branches.current, branches.current, parted)
        self.moment = branches.timeline.moment(tick)
        if self.moment.program is not self.program:  # of a trial in the loop of a script, or from there
            self.program, changes["config"] = self.moment.program, self.moment.program.config
        stride = StepMemory.begin("", tick) if stride is None else stride
        self.update(branches=branches.reached(tick), tick=tick, stride=stride, **changes)

    @contextmanager
    def writing(self, progress: SearchProgress | None = None) -> Iterator[None]:
        """Run the block; then add to the log what log points write at the places between the old position and a later new one."""
        logs = any(stop.enabled and stop.log for stop in self.state.stops.breakpoints)
        before = self.state.tick
        try:
            yield
        finally:
            if logs and self.state.tick > before:
                self.interrupts.forget()  # an interrupt that ended the run must not end the writing
                try:
                    self._write(before, progress)
                finally:
                    self.interrupts.forget()

    def _write(self, before: int, progress: SearchProgress | None) -> None:
        from tui_gru.debugger.search import lines_between, merged_log

        end, old = self.state.tick, self.state.log.get(self.state.branch, ())
        active = [stop for stop in self.stops.active(self.state.stops) if stop.log is not None]
        tested = [stop for stop in active if stop.tested_between(before, end, self.program.ticks)]
        lines = lines_between(tested, self.timeline, self.stops.hits, before, end, self.monitor(None, progress))
        recorded = []  # lines with the numbers of another machine, where this one would write others
        if not self.timeline.last.own:
            same = {b.id for b in self.state.stops.breakpoints if b in self.first_stops}
            exact, position = self.timeline.is_exact, self.timeline.position
            recorded = [line for line in old if line.id in same and not exact(position(line.tick).number)]
        self.update(**by_branch.with_log(self.state, merged_log(old, [*lines, *recorded])))


def _before_trouble(watch: TroubleWatch | None, tick: int) -> tuple[int, StopEvent | None]:
    """Return `tick`, or the earlier place where the watch stops the run; and the event that stops it."""
    event = watch.event(tick) if watch is not None else None
    return (tick, None) if event is None else (event.tick, event)


def beginning(config: Config, epochs: int | None, history_memory: int, weights: Weights | None = None) -> State:
    """Return the initial state of a session; `weights` default to the initial weights of the config. Raises `TuiGruError`."""
    memory = Memory(config, arguments.integer("history_memory", history_memory, least=0, option="history_memory"))
    learning = config.source.can(Ability.BACKWARD) and (config.learns_at_first or not config.source.can(Ability.TRAIN))
    weights = initial_weights(config) if weights is None else weights
    return State(config, epochs, Branches.begin(Timeline.begin(TrainingSettings(learning, config.settings), weights, memory)))
