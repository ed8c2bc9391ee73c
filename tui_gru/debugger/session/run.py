"""The mutable core of a session: its state, its moment, the outcome of the last verb, and the objects that are not saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.analysis.checks.trouble_watch import TroubleWatch
from tui_gru.debugger.program.line_table import Program, program_of
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.guards import BatchChecks, Interrupts, SearchProgress, monitor
from tui_gru.debugger.state import by_branch
from tui_gru.debugger.state.outcome import Notice, Outcome, StopEvent, joined
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, Stop, Stops
from tui_gru.debugger.storage.recorder import SessionRecorder
from tui_gru.debugger.timeline.branches import Branches, BranchTree
from tui_gru.debugger.timeline.journal import TrainingSettings
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import Memory, Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.config import Config
from tui_gru.engine.running.initial import initial_weights
from tui_gru.engine.running.weights import Weights

# Conditions are compiled only if there are any: importing their modules takes a tenth of the start time.
if TYPE_CHECKING:
    from tui_gru.debugger.breakpoints.hit_counter import HitCounter, ScalarCache
    from tui_gru.debugger.breakpoints.resolved import ResolvedStop
    from tui_gru.debugger.state.hit_counts import HitCache, HitCounts, HitKey


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
            from tui_gru.debugger.state.hit_counts import HitCache

            self._hits = HitCache()
        return self._hits

    def resolved(self, stop: Stop) -> ResolvedStop:
        """Return a stop resolved in the program. Raises `TuiGruError` if it does not fit the program."""
        if stop not in self._resolved:
            from tui_gru.debugger.breakpoints.resolved import resolve

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
        from tui_gru.debugger.breakpoints.hit_counter import HitCounter, ScalarCache

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
        from tui_gru.debugger.breakpoints.hit_counter import HitCounter, ScalarCache
        from tui_gru.debugger.breakpoints.resolved import resolve

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
