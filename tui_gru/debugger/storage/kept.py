"""The fact `kept` of a session file: breakpoints, marks, hits, log and other fields of a state, as JSON by name.

It also has the values that a front end has saved, under other names. A value that cannot be read, in a file written by another
program, is left out, and the rest of the session is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.marks import Marks
from tui_gru.debugger.state.state import Place, State
from tui_gru.debugger.state.stops import LogLine, Stops


class _Entry(NamedTuple):
    """A field of the state: how it is converted to JSON and read back. It is not written if it equals `empty`.

    `of_verb` is True if only verbs change the field.
    """

    field: str
    empty: Any
    to_data: Callable[[Any], Any]
    read: Callable[[Any, Program], Any]
    of_verb: bool = False


def _as_it_is(value: Any) -> Any:
    return value


def _read_stops(data: Any, program: Program) -> Stops:
    stops = Stops.from_data(data)
    if stops.all:
        from tui_gru.debugger.breakpoints.resolved import resolve  # imported late: includes the compiler of conditions

        for stop in stops.all:
            resolve(stop, program)
    return stops


def _read_text(data: Any, _: Program) -> str:
    if not isinstance(data, str):
        raise ValueError("not a condition")
    return data


def _read_place(data: Any, _: Program) -> Place | None:
    if data is None:
        return None
    if not isinstance(data, list) or len(data) != 2 or not isinstance(data[0], str):
        raise ValueError("not a place")
    return data[0], _tick(data[1])


def _read_pair(data: Any, _: Program) -> tuple[str, ...]:
    if not isinstance(data, list) or len(data) not in (0, 2) or not all(isinstance(name, str) for name in data):
        raise ValueError("not two branches")
    return tuple(data)


def _read_hits(data: Any, _: Program) -> Mapping[str, tuple[int, ...]]:
    return {name: tuple(map(_tick, ticks)) for name, ticks in data.items()}


def _read_log(data: Any, _: Program) -> Mapping[str, tuple[LogLine, ...]]:
    return {name: tuple(_line(*line) for line in lines) for name, lines in data.items()}


def _line(tick: Any, id: Any, text: Any) -> LogLine:
    if not isinstance(text, str):
        raise ValueError("not a line of a log")
    return LogLine(_tick(tick), _tick(id), text)


def _tick(data: Any) -> int:
    if type(data) is not int or data < 0:
        raise ValueError("not a place")
    return data


_ENTRIES = {
    "marked": _Entry("marks", Marks(), Marks.to_data, lambda data, _: Marks.from_data(data)),
    "last_condition": _Entry("last_condition", "", _as_it_is, _read_text, of_verb=True),
    "left": _Entry("left", None, _as_it_is, _read_place, of_verb=True),
    "stops": _Entry("stops", Stops(), Stops.to_data, _read_stops),
    "hits": _Entry("hits", {}, _as_it_is, _read_hits, of_verb=True),
    "log": _Entry("log", {}, _as_it_is, _read_log, of_verb=True),
    "compared": _Entry("compared", (), _as_it_is, _read_pair, of_verb=True),
}

NAMES = frozenset(_ENTRIES)
"""The names under which a front end cannot save values."""


def fields_in(state: State) -> tuple[Any, ...]:
    """Return the fields that the fact is computed from.

    If all are identical to those before, the fact need not be written again.
    """
    return (state.kept, *(getattr(state, entry.field) for entry in _ENTRIES.values()))


def data_of(state: State, verb: State) -> dict[str, Any]:
    """Return the fact, in a form that JSON can represent.

    Fields that only verbs change come from `verb`, the state after the last verb.
    """
    data = dict(state.kept)
    for name, entry in _ENTRIES.items():
        value = getattr(verb if entry.of_verb else state, entry.field)
        if value != entry.empty:
            data[name] = entry.to_data(value)
    return data


def fields_of(data: Mapping[str, Any], program: Program) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a state, from the fact; and the names whose values cannot be read."""
    fields: dict[str, Any] = {"kept": {name: value for name, value in data.items() if name not in _ENTRIES}}
    unreadable = []
    for name, entry in _ENTRIES.items():
        if name in data:
            try:
                fields[entry.field] = entry.read(data[name], program)
            except (TypeError, ValueError, AttributeError, RecursionError):
                unreadable.append(name)
    return fields, unreadable
