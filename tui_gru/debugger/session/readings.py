"""A model file read with another convention, to compare the numbers."""

from __future__ import annotations

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.engine.errors import TuiGruError
from tui_gru.interop.recomputing.comparing import output_name

_OTHER = {"before": "after", "after": "before", "keeps": "takes", "takes": "keeps"}


def other_reading(session: Session, reset: str | None = None, z: str | None = None) -> Session:
    """Open a session at the same place on the same numbers, read with another convention.

    `reset`: the reset gate is applied `before` or `after` the product. `z`: the update gate z `keeps` the old state or `takes`
    the new one. If both are None, the next of the four combinations is used.

    If no output was expected, that of the first reading is, which shows the difference at each timestep. Raises `TuiGruError` if
    the session is not on a model file.
    """
    given = session.config.given
    if given is None or given.again is None:
        raise TuiGruError("this run is not on a model file, so it cannot be read in another convention")
    if reset is None and z is None:
        reset, z = _next(given.reading)
    record = session.anchor().timeline.record(0)
    again, notice = given.again(reset, z, record.array(output_name(record)).copy())
    other = Session.on(GivenConfig.of_given(again))
    other.seek(session.position.tick)  # every convention has the same number of lines
    found = other.expected
    other.notice = f"{notice}: {found.sentence}" if found is not None else notice
    return other


def _next(reading: tuple[str, str]) -> tuple[str, str]:
    """Return the next of the four conventions: first the other reset gate, then the same two with the other z."""
    reset, z = reading
    return _OTHER[reset], z if reset == "after" else _OTHER[z]
