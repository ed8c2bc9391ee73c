"""A model file read in another convention: what would differ, number by number."""

from __future__ import annotations

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.engine.errors import TuiGruError
from tui_gru.interop.recomputing.comparing import output_name

_OTHER = {"before": "after", "after": "before", "keeps": "takes", "takes": "keeps"}


def other_reading(session: Session, reset: str | None = None, z: str | None = None) -> Session:
    """A session at the same place on the same numbers: the reset gate `before` or `after` the product, a z that `keeps` the state
    before or `takes` the new one; without either the next of the four.

    Where no output was expected, that of the first reading is, so that the difference can be seen at each timestep. Raises
    `TuiGruError` for a session on anything else than a model file.
    """
    given = session.config.given
    if given is None or given.again is None:
        raise TuiGruError("this run is not of a model file, so that there is no other way to read it")
    if reset is None and z is None:
        reset, z = _next(given.reading)
    record = session.anchor().timeline.record(0)
    again, said = given.again(reset, z, record.array(output_name(record)).copy())
    other = Session.on(GivenConfig.of_given(again))
    other.seek(session.position.tick)  # all of them have as many lines
    found = other.expected
    other.notice = f"{said}: {found.sentence}" if found is not None else said
    return other


def _next(reading: tuple[str, str]) -> tuple[str, str]:
    """Both ways of the reset gate, and then the same with the other z."""
    reset, z = reading
    return _OTHER[reset], z if reset == "after" else _OTHER[z]
