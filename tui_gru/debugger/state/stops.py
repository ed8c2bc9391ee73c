"""Breakpoints and watches as plain data. The folder `breakpoints` finds their hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError


@dataclass(frozen=True)
class Breakpoint:
    """Stops after the line whose target is `line` has been executed, if `condition` holds or is empty.

    Without a line, it is hit wherever a value that the condition reads is computed and the condition holds. `hits` is the text of
    a `HitCount`, `log` the template of a `LogPoint`; with a template, it writes to the log instead of stopping.
    """

    id: int
    line: str = ""
    condition: str = ""
    hits: str = ""
    log: str = ""
    enabled: bool = True


@dataclass(frozen=True)
class Watch:
    """An expression whose value is shown; with `stops`, runs stop when it is computed and its value has changed."""

    id: int
    expression: str
    stops: bool = False
    enabled: bool = True


Stop = Breakpoint | Watch
S = TypeVar("S", bound=Stop)


@dataclass(frozen=True)
class Stops:
    """All breakpoints and watches of a session, each kind in order of creation. Immutable.

    `last_id` is the highest id assigned so far; ids of deleted stops are not reused.
    """

    breakpoints: tuple[Breakpoint, ...] = ()
    watches: tuple[Watch, ...] = ()
    last_id: int = 0

    @property
    def all(self) -> tuple[Stop, ...]:
        """Breakpoints and watches in order of creation."""
        both: list[Stop] = [*self.breakpoints, *self.watches]
        return tuple(sorted(both, key=lambda stop: stop.id))

    def get(self, id: int) -> Stop:
        """Return the stop with an id. Raises `TuiGruError` if there is none."""
        id = arguments.whole("the number of a breakpoint or watch", id)
        for stop in self.all:
            if stop.id == id:
                return stop
        ids = ", ".join(str(stop.id) for stop in self.all)
        there = f"there are {ids}" if ids else "there is none at all"
        raise TuiGruError(f"there is no breakpoint or watch {id!r}; {there}")

    def with_stop(self, stop: Stop) -> Stops:
        """Add a stop, or replace the one with the same id."""
        if isinstance(stop, Breakpoint):
            return replace(self, breakpoints=_with_stop(self.breakpoints, stop), last_id=max(self.last_id, stop.id))
        return replace(self, watches=_with_stop(self.watches, stop), last_id=max(self.last_id, stop.id))

    def without(self, id: int) -> Stops:
        """Remove the stop with an id. Raises `TuiGruError` if there is none."""
        self.get(id)
        return replace(
            self,
            breakpoints=tuple(each for each in self.breakpoints if each.id != id),
            watches=tuple(each for each in self.watches if each.id != id),
        )

    @property
    def active(self) -> tuple[Stop, ...]:
        """The stops that stop a run or write to the log: enabled breakpoints, and enabled watches with `stops`."""
        return tuple(stop for stop in self.all if stop.enabled and (isinstance(stop, Breakpoint) or stop.stops))


@dataclass(frozen=True, eq=False)
class Watched:
    """A watch at one moment: its `value`, None if not computed yet, and its value `before` that was computed.

    `error` is the message if it cannot be evaluated; otherwise empty.
    """

    watch: Watch
    value: Any = None
    before: Any = None
    error: str = ""


class LogLine(NamedTuple):
    """A line that breakpoint `id` wrote to the log at `tick`."""

    tick: int
    id: int
    text: str


def changed(stop: S, changes: Mapping[str, Any]) -> S:
    """Return a stop with other fields. Raises `TuiGruError` if a field does not exist, has another type, or is the id."""
    can = {each.name: type(getattr(stop, each.name)) for each in fields(stop) if each.name != "id"}
    what = type(stop).__name__.lower()
    for name, value in changes.items():
        if name not in can:
            raise TuiGruError(f"a {what} has no {name!r} to change; it has {', '.join(can)}")
        if not isinstance(value, can[name]):
            kind = "a text" if can[name] is str else "True or False"
            raise TuiGruError(f"{name} of a {what} is {kind}, not {arguments.shown(value)}")
    return replace(stop, **changes)


def _with_stop(stops: tuple[S, ...], stop: S) -> tuple[S, ...]:
    if all(each.id != stop.id for each in stops):
        return (*stops, stop)
    return tuple([stop if each.id == stop.id else each for each in stops])
