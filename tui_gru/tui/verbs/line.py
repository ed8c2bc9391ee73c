"""The `:` line: finds the typed verb in the table and executes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.debugger.program.typed import TypedError, shortened
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.verbs.table import VERBS
from tui_gru.tui.verbs.verb import Arguments, Verb

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

NAMED = {name: verb for verb in VERBS for name in verb.names}


def execute(screen: MainScreen, typed: str) -> None:
    """Execute what was typed on the `:` line. Raises `TuiGruError` if it cannot be parsed or executed."""
    name, _, rest = typed.strip().lstrip(":").strip().partition(" ")
    if not name:
        return
    verb, arguments = _named(screen, name), Arguments.of(rest, typed)
    if arguments and not verb.typed.has_arguments:
        raise TuiGruError(f"{name} takes no argument; leave out {shortened(arguments)}")
    try:
        verb.do(screen, arguments)
    except TypedError as error:  # its column is relative to the start of the arguments
        raise error.moved(arguments.begins) from None


def _named(screen: MainScreen, name: str) -> Verb:
    if name in NAMED:
        return NAMED[name]
    from difflib import get_close_matches

    close = get_close_matches(name, [verb.names[0] for verb in VERBS if verb.names], n=3)
    cure = f"did you mean {' or '.join(close)}?" if close else with_keys(screen, "<help> lists all")
    raise TuiGruError(f"there is no command {name!r}; {cure}")
