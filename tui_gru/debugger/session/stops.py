"""Adds, changes and deletes the breakpoints and watches of a session; and caches what is computed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, S, Stop, Stops, Watch, Watched, changed
from tui_gru.debugger.timeline.timeline import Timeline

# Conditions are compiled only if there are any: importing their modules takes a tenth of the start time.
if TYPE_CHECKING:
    from tui_gru.debugger.breakpoints.hit_counter import Columns, HitCounter
    from tui_gru.debugger.breakpoints.resolved import ResolvedStop
    from tui_gru.debugger.session.run import Run
    from tui_gru.debugger.state.hit_counts import HitCache, HitCounts, Key


class StopCache:
    """A cache of what is slow to compute for stops: compiled conditions, hit counters, and the hits counted so far."""

    def __init__(self, program: Program, state: State) -> None:
        self._program = program
        self._resolved: dict[Stop, ResolvedStop] = {}
        self._active: tuple[Stops | None, tuple[ResolvedStop, ...]] = None, ()
        self._counters: tuple[Timeline, Stops, Columns, dict[ResolvedStop, HitCounter]] | None = None
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
        from tui_gru.debugger.breakpoints.hit_counter import Columns, HitCounter

        if self._counters is None or self._counters[:2] != (timeline, stops):
            self._counters = timeline, stops, Columns(timeline), {}
        *_, columns, counters = self._counters
        if resolved not in counters:
            hits = self.hits.of(timeline, resolved.key)
            counters[resolved] = HitCounter(resolved, timeline, hits, columns, matters=resolved.log is None)
        counters[resolved].begin()
        return counters[resolved]

    def temporary(self, condition: str, timeline: Timeline) -> HitCounter:
        """Return the hit counter of a temporary breakpoint on a condition, for one search. Raises `ConditionError`."""
        from tui_gru.debugger.breakpoints.hit_counter import Columns, HitCounter
        from tui_gru.debugger.breakpoints.resolved import resolve

        resolved = resolve(Breakpoint(0, condition=condition), self._program)
        return HitCounter(resolved, timeline, self.hits.of(timeline, resolved.key), Columns(timeline), matters=True)

    def forget_counters(self) -> None:
        """Drop the cached counters; after an error, their state is not known."""
        self._counters = None

    def hit_counts(self, state: State) -> Mapping[Key, HitCounts]:
        """Return the hit counts of the breakpoints that stop only at some of their hits, as far as they have been counted."""
        if self._hits is None:
            return {}
        keys = {self.resolved(stop).key for stop in state.stops.breakpoints if stop.hits}
        counts = {key: self._hits.of(state.timeline, key) for key in sorted(keys)}
        return {key: each for key, each in counts.items() if each.looked}


def break_at(run: Run, line: str, condition: str, hits: str, log: str) -> Breakpoint:
    """Add a breakpoint. Raises `TuiGruError` if it is invalid."""
    stop = Breakpoint(run.state.stops.last_id + 1)
    return _set_stop(run, changed(stop, {"line": line, "condition": condition, "hits": hits, "log": log}))


def add_watch(run: Run, expression: str, stops: bool) -> Watch:
    """Add a watch. Raises `ConditionError`."""
    return _set_stop(run, changed(Watch(run.state.stops.last_id + 1, ""), {"expression": expression, "stops": stops}))


def change(run: Run, id: int, changes: Mapping[str, Any]) -> Stop:
    """Change fields of a stop. Raises `TuiGruError`."""
    return _set_stop(run, changed(run.state.stops.get(id), changes))


def delete(run: Run, id: int) -> None:
    """Delete a stop. Raises `TuiGruError` if there is none with that id."""
    _set_stops(run, run.state.stops.without(id))


def watched(run: Run) -> Sequence[Watched]:
    """Return the values of all watches at the position."""
    watches = run.state.stops.watches
    if not watches:
        return ()
    from tui_gru.debugger.breakpoints.watching import WatchedValues, watched

    timeline, moment = run.timeline, run.moment
    return WatchedValues(watches, lambda watch: watched(run.stops.resolved(watch), timeline, moment), run.recorder.idle)


def _set_stop(run: Run, stop: S) -> S:
    if isinstance(stop, Breakpoint) and stop.line:
        from tui_gru.debugger.breakpoints.resolved import line_named

        stop = changed(stop, {"line": line_named(run.program, stop.line)})
    run.stops.resolved(stop)
    _set_stops(run, run.state.stops.with_stop(stop))
    return stop


def _set_stops(run: Run, stops: Stops) -> None:
    run.update(stops=stops)
    run.stops.keep_only(stops)
    run.recorder.record_kept()
