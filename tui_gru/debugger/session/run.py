"""The mutable core of a session: its state, its moment, the outcome of the last verb, and the objects that are not saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from tui_gru.debugger.analysis.checks.trouble_watch import TroubleWatch
from tui_gru.debugger.program.line_table import Program, program_of
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.guards import BatchChecks, Interrupts, Progress, monitor
from tui_gru.debugger.session.stops import StopCache
from tui_gru.debugger.state.outcome import Notice, Outcome, StopEvent, joined
from tui_gru.debugger.state.state import State
from tui_gru.debugger.storage.recorder import Recorder
from tui_gru.debugger.timeline.branches import Branches, BranchTree
from tui_gru.debugger.timeline.journal import Settings
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import Memory, Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.config import Config
from tui_gru.engine.running.initial import initial_weights
from tui_gru.engine.running.weights import Weights


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
        self.tree = BranchTree()
        self.recorder = Recorder(self._state_to_write, lambda words: self.say(words, warning=True))
        self._updating = RLock()

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.state.timeline

    @property
    def position(self) -> Position:
        return self.moment.position

    @property
    def settings(self) -> Settings:
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
        """Record the event that stopped the run, and put its message first."""
        self.stopped_by, self.notice = event, joined(event.notice, self.notice)

    def say(self, text: str, *, warning: bool = False) -> None:
        """Append a message to the notice."""
        self.notice = joined(self.notice, Notice(text, warning))

    # Monitors

    def watch(self, ahead: bool) -> TroubleWatch | None:
        """Return a watch for numbers that stop a forward run; None for a reverse run, and if `stop_on_nan` is off."""
        return TroubleWatch(self.timeline, self.position) if ahead and self.state.stop_on_nan else None

    def monitor(self, watch: TroubleWatch | None, progress: Progress | None) -> Monitor:
        """Return a monitor of every batch that is computed on the way; it can stop the run."""
        return monitor(self.program, self.interrupts, watch, progress)

    def _state_to_write(self, counts: bool) -> State:
        return self.state.replaced(hit_counts=self.stops.hit_counts(self.state)) if counts else self.state


def beginning(config: Config, epochs: int | None, history_memory: int, weights: Weights | None = None) -> State:
    """Return the initial state of a session; `weights` default to the initial weights of the config. Raises `TuiGruError`."""
    memory = Memory(config, arguments.whole("history_memory", history_memory, least=0, option="history_memory"))
    learning = config.given is not None and config.given.learns
    weights = initial_weights(config) if weights is None else weights
    return State(config, epochs, Branches.begin(Timeline.begin(Settings(learning, config.settings), weights, memory)))
