"""Adds, changes and deletes the breakpoints and watches of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tui_gru.debugger.session.run import Run
from tui_gru.debugger.state.stops import Breakpoint, S, Stop, Stops, Watch, Watched, changed


def break_at(run: Run, line: str, condition: str, hits: str, log: str) -> Breakpoint:
    """Add a breakpoint. Raises `TuiGruError` if it is invalid."""
    stop = Breakpoint(run.state.stops.last_id + 1)
    return _set_stop(run, changed(stop, {"line": line, "condition": condition, "hits": hits, "log": log}))


def add_watch(run: Run, expression: str, stops: bool) -> Watch:
    """Add a watch. Raises `ConditionError`."""
    return _set_stop(run, changed(Watch(run.state.stops.last_id + 1, ""), {"expression": expression, "stops": stops}))


def change(run: Run, id: int, changes: Mapping[str, Any]) -> Stop:
    """Change fields of a stop. Raises `TuiGruError`."""
    return _set_stop(run, changed(run.state.stops.get(id), changes), check=set(changes) != {"enabled"})


def delete(run: Run, id: int) -> None:
    """Delete a stop. Raises `TuiGruError` if there is none with that id."""
    _set_stops(run, run.state.stops.without(id))


def counts_first(run: Run) -> bool:
    """Return True if the next step must test earlier batches first, because a breakpoint stops only at some of its hits."""
    batch = max(run.state.tick - 1, 0) // run.program.ticks
    counted = [stop for stop in run.stops.active(run.state.stops) if stop.count is not None]
    counters = [run.stops.counter(stop, run.state.stops, run.timeline) for stop in counted]
    return any(not counter.counts and counter.hits.before(batch) is None for counter in counters)


def watched(run: Run) -> Sequence[Watched]:
    """Return the values of all watches at the position."""
    watches = run.state.stops.watches
    if not watches:
        return ()
    from tui_gru.debugger.breakpoints.watching import WatchedValues, watched

    timeline, moment = run.timeline, run.moment
    return WatchedValues(watches, lambda watch: watched(run.stops.resolved(watch), timeline, moment), run.recorder.idle)


def _set_stop(run: Run, stop: S, *, check: bool = True) -> S:
    """Add a stop, or change the one with its id. With `check`, its texts are refused if they cannot be evaluated."""
    if isinstance(stop, Breakpoint) and stop.line:
        from tui_gru.debugger.breakpoints.resolved import line_named

        stop = changed(stop, {"line": line_named(run.program, stop.line)})
    resolved = run.stops.resolved(stop)
    if check:
        resolved.check(run.program)
    _set_stops(run, run.state.stops.with_stop(stop))
    return stop


def _set_stops(run: Run, stops: Stops) -> None:
    run.update(stops=stops)
    run.stops.keep_only(stops)
    run.recorder.record_kept()
