"""The fact `kept` of a session file: breakpoints, marks, hits, log and other fields of a state, as JSON by name.

It also has the values that a front end has saved, under other names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

from tui_gru.debugger.state.marks import Marks
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Stops


class StateField(NamedTuple):
    """A field of the state: how it is converted to JSON. It is not written if it equals `empty`.

    `of_verb` is True if only verbs change the field.
    """

    field: str
    empty: Any
    to_data: Callable[[Any], Any] = lambda value: value
    of_verb: bool = False


ENTRIES = {
    "marked": StateField("marks", Marks(), lambda marks: [asdict(mark) for mark in marks.sorted]),
    "last_condition": StateField("last_condition", "", of_verb=True),
    "left": StateField("left", None, of_verb=True),
    "stops": StateField("stops", Stops(), asdict),
    "hits": StateField("hits", {}, of_verb=True),
    "log": StateField("log", {}, of_verb=True),
    "compared": StateField("compared", (), of_verb=True),
}
"""By the names in the fact. A front end cannot save values under them."""


def fields_in(state: State) -> tuple[Any, ...]:
    """Return the fields that the fact is computed from.

    If all are identical to those before, the fact need not be written again.
    """
    return (state.kept, *(getattr(state, entry.field) for entry in ENTRIES.values()))


def data_of(state: State, verb: State) -> dict[str, Any]:
    """Return the fact, in a form that JSON can represent.

    Fields that only verbs change come from `verb`, the state after the last verb.
    """
    data = dict(state.kept)
    for name, entry in ENTRIES.items():
        value = getattr(verb if entry.of_verb else state, entry.field)
        if value != entry.empty:
            data[name] = entry.to_data(value)
    return data
