"""Breakpoints and watches of a session: made, changed and deleted; and what is kept ready of them between two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, S, Stop, Stops, Watch, Watched, changed
from tui_gru.debugger.timeline.timeline import Timeline

# Conditions are compiled once there is one: that would be a tenth of the start.
if TYPE_CHECKING:
    from tui_gru.debugger.breakpoints.counting import Columns
    from tui_gru.debugger.breakpoints.lookout import Lookout
    from tui_gru.debugger.breakpoints.triggers import Trigger
    from tui_gru.debugger.session.run import Run
    from tui_gru.debugger.state.tallies import Key, Tallies, Tally


class StopCache:
    """What is expensive to make of stops: conditions compiled, their hit counters, and the hits that have been counted."""

    def __init__(self, program: Program, state: State) -> None:
        self._program = program
        self._resolved: dict[Stop, Trigger] = {}
        self._active: tuple[Stops | None, tuple[Trigger, ...]] = None, ()
        self._counters: tuple[Timeline, Stops, Columns, dict[Trigger, Lookout]] | None = None
        self._hits: Tallies | None = None
        if state.hit_counts:
            self.hits.put(state.timeline, state.hit_counts)

    @property
    def hits(self) -> Tallies:
        """How often each stop is hit in each batch, as far as that is known."""
        if self._hits is None:
            from tui_gru.debugger.state.tallies import Tallies

            self._hits = Tallies()
        return self._hits

    def resolved(self, stop: Stop) -> Trigger:
        """A stop made ready. Raises `TuiGruError` for what does not fit the program."""
        if stop not in self._resolved:
            from tui_gru.debugger.breakpoints.triggers import trigger_of

            self._resolved[stop] = trigger_of(stop, self._program)
        return self._resolved[stop]

    def keep_only(self, stops: Stops) -> None:
        """Drop what was made of stops that there are no more."""
        there = set(stops.all)
        self._resolved = {stop: resolved for stop, resolved in self._resolved.items() if stop in there}

    def active(self, stops: Stops) -> tuple[Trigger, ...]:
        """Everything that stops a run, or writes, made ready."""
        if self._active[0] is not stops:
            self._active = stops, tuple(map(self.resolved, stops.active))
        return self._active[1]

    def counter(self, trigger: Trigger, stops: Stops, timeline: Timeline) -> Lookout:
        """What counts the hits of a stop on a timeline. It is kept, since making it ready costs more than a step."""
        from tui_gru.debugger.breakpoints.counting import Columns
        from tui_gru.debugger.breakpoints.lookout import Lookout

        if self._counters is None or self._counters[:2] != (timeline, stops):
            self._counters = timeline, stops, Columns(timeline), {}
        *_, columns, counters = self._counters
        if trigger not in counters:
            tally = self.hits.of(timeline, trigger.key)
            counters[trigger] = Lookout(trigger, timeline, tally, columns, matters=trigger.log is None)
        counters[trigger].begin()
        return counters[trigger]

    def temporary(self, condition: str, timeline: Timeline) -> Lookout:
        """What counts the hits of a breakpoint with a condition that is there for one search."""
        from tui_gru.debugger.breakpoints.counting import Columns
        from tui_gru.debugger.breakpoints.lookout import Lookout
        from tui_gru.debugger.breakpoints.triggers import trigger_of

        trigger = trigger_of(Breakpoint(0, condition=condition), self._program)
        return Lookout(trigger, timeline, self.hits.of(timeline, trigger.key), Columns(timeline), matters=True)

    def forget_counters(self) -> None:
        """Make the counters anew: after an error it is not known what they were waiting for."""
        self._counters = None

    def hit_counts(self, state: State) -> Mapping[Key, Tally]:
        """What is known of the hits of those breakpoints that stop at some of their hits only."""
        if self._hits is None:
            return {}
        keys = {self.resolved(stop).key for stop in state.stops.breakpoints if stop.hits}
        counts = {key: self._hits.of(state.timeline, key) for key in sorted(keys)}
        return {key: each for key, each in counts.items() if each.looked}


def break_at(run: Run, line: str, condition: str, hits: str, log: str) -> Breakpoint:
    """Add a breakpoint. Raises `TuiGruError`."""
    stop = Breakpoint(run.state.stops.last_id + 1)
    return _put(run, changed(stop, {"line": line, "condition": condition, "hits": hits, "log": log}))


def add_watch(run: Run, expression: str, stops: bool) -> Watch:
    """Add a watch. Raises `ConditionError`."""
    return _put(run, changed(Watch(run.state.stops.last_id + 1, ""), {"expression": expression, "stops": stops}))


def change(run: Run, id: int, changes: Mapping[str, Any]) -> Stop:
    """Change fields of a stop. Raises `TuiGruError`."""
    return _put(run, changed(run.state.stops.get(id), changes))


def delete(run: Run, id: int) -> None:
    """Delete a stop. Raises `TuiGruError` where there is none with that id."""
    _keep(run, run.state.stops.without(id))


def watched(run: Run) -> Sequence[Watched]:
    """The values of all watches at the position."""
    watches = run.state.stops.watches
    if not watches:
        return ()
    from tui_gru.debugger.breakpoints.watching import WatchedValues, watched

    timeline, moment = run.timeline, run.moment
    return WatchedValues(watches, lambda watch: watched(run.stops.resolved(watch), timeline, moment), run.recorder.idle)


def _put(run: Run, stop: S) -> S:
    if isinstance(stop, Breakpoint) and stop.line:
        from tui_gru.debugger.breakpoints.triggers import line_named

        stop = changed(stop, {"line": line_named(run.program, stop.line)})
    run.stops.resolved(stop)
    _keep(run, run.state.stops.with_stop(stop))
    return stop


def _keep(run: Run, stops: Stops) -> None:
    run.update(stops=stops)
    run.stops.keep_only(stops)
    run.recorder.record_kept()
