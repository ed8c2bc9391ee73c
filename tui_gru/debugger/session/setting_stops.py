"""The part of a session that keeps breakpoints and watches: made, checked, changed, deleted, and kept with the session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.session.jumping import Jumping
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, S, Stop, Stops, Watch, Watched, changed

# Conditions are compiled once there is one: that would be a tenth of the start.
if TYPE_CHECKING:
    from tui_gru.debugger.breakpoints.triggers import Trigger

STOPS = "stops"  # the name under which they are kept


class SettingStops(Jumping):
    """Holds the stops. They are the session's: going to another branch changes nothing of them."""

    def _begin(self, state: State) -> None:
        super()._begin(state)
        self._ready: dict[Stop, Trigger] = {}
        self._active: tuple[Stops | None, tuple[Trigger, ...]] = None, ()
        self._stops: Stops = self._restored(STOPS, self._read_stops, Stops())

    def _read_stops(self, data: Any) -> Stops:
        stops = Stops.from_data(data)
        for stop in stops.all:
            self._made_ready(stop)
        return stops

    @property
    def stops(self) -> Stops:
        """All breakpoints and watches."""
        return self._stops

    def break_at(self, line: str = "", *, condition: str = "", hits: str = "", log: str = "") -> Breakpoint:
        """Stop after a line, named by what it computes; where a condition holds, or both; at some of the hits if `hits` says so.

        With `log`, a template such as `loss {loss:.3f}`, write instead of stopping. Raises `TuiGruError` for a line that there is
        not, `ConditionError`, with the column, for texts that are none.
        """
        stop = Breakpoint(self._stops.last_id + 1)
        return self._put(changed(stop, {"line": line, "condition": condition, "hits": hits, "log": log}))

    def watch(self, expression: str, *, stops: bool = False) -> Watch:
        """Show the value of an expression; with `stops`, stop where it changes. Raises `ConditionError`."""
        stop = Watch(self._stops.last_id + 1, "")
        return self._put(changed(stop, {"expression": expression, "stops": stops}))

    def change_stop(self, id: int, /, **changes: Any) -> Breakpoint | Watch:
        """Change anything of a breakpoint or a watch but its id. Raises `TuiGruError`."""
        stop = self._stops.get(id)
        return self._put(changed(stop, changes))

    def delete_stop(self, id: int) -> None:
        """Delete a breakpoint or a watch. Raises `TuiGruError` where there is none with that id."""
        self._keep_stops(self._stops.without(id))

    def _put(self, stop: S) -> S:
        if isinstance(stop, Breakpoint) and stop.line:
            from tui_gru.debugger.breakpoints.triggers import line_named

            stop = changed(stop, {"line": line_named(self.program, stop.line)})
        self._made_ready(stop)
        self._keep_stops(self._stops.with_stop(stop))
        return stop

    def _keep_stops(self, stops: Stops) -> None:
        self._stops = stops
        there = set(stops.all)
        self._ready = {stop: ready for stop, ready in self._ready.items() if stop in there}
        self.keep(STOPS, stops.to_data())

    def _made_ready(self, stop: Stop) -> Trigger:
        if stop not in self._ready:
            from tui_gru.debugger.breakpoints.triggers import trigger_of

            self._ready[stop] = trigger_of(stop, self.program)
        return self._ready[stop]

    def _active_triggers(self) -> tuple[Trigger, ...]:
        """All that stops a run, or writes, made ready."""
        if self._active[0] is not self._stops:
            self._active = self._stops, tuple(map(self._made_ready, self._stops.active))
        return self._active[1]

    def _watched(self) -> Sequence[Watched]:
        """What is watched, at this moment."""
        if not self._stops.watches:
            return ()
        from tui_gru.debugger.breakpoints.watching import WatchedValues, watched

        timeline, moment = self._timeline, self._moment
        return WatchedValues(self._stops.watches, lambda watch: watched(self._made_ready(watch), timeline, moment), self._idle)
