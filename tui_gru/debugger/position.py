"""Places in time: a position is one integer, and everything else about it is arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tui_gru.debugger.program import Line, Program
from tui_gru.engine.errors import TuiGruError


@dataclass(frozen=True, order=True)
class Position:
    """A moment: it says which line has just been executed. Orders and compares as time does.

    `epoch`, `batch` and `t` are 0-based; `phase` is start, forward, loss, backward or update. In the loss and the update,
    which are outside the loops over t, `t` is the last timestep.
    """

    tick: int
    epoch: int = field(compare=False)
    batch: int = field(compare=False)
    t: int = field(compare=False)
    phase: str = field(compare=False)
    line: Line | None = field(compare=False, repr=False)
    offset: int = field(compare=False, repr=False)  # ticks since the batch began; 0 only at the very start
    number: int = field(compare=False, repr=False)  # of the batch, counted through all epochs, 0-based


def position_of(program: Program, tick: int) -> Position:
    """The position after `tick` ticks."""
    if tick == 0:
        return Position(0, 0, 0, 0, "start", None, 0, 0)
    number, k = divmod(tick - 1, program.ticks)
    line, t = program.line_at(k + 1)
    epoch, batch = divmod(number, program.num_batches)
    return Position(tick, epoch, batch, t, line.phase, line, k + 1, number)


_PLACE = re.compile(r"(?:e\s*(?P<e>\d+))?\s*(?:b\s*(?P<b>\d+))?\s*(?:t\s*(?P<t>\d+))?\s*", re.IGNORECASE)


def tick_of(place: str | Position | int, here: Position, program: Program) -> int:
    """The tick of a place: `e3 b2 t1` (counted from 1; what is left out is as it is `here`), a position, or a tick.

    Without a timestep it is the beginning of the batch or epoch. Raises `TuiGruError` where it does not fit the program.
    """
    if isinstance(place, Position):
        return place.tick
    if isinstance(place, str):
        epoch, batch, t = _parts(place, program)
        if batch is None:
            batch = here.batch if epoch is None else 0
        epoch = here.epoch if epoch is None else epoch
        start = (epoch * program.num_batches + batch) * program.ticks
        return start if t is None else start + program.end_of_timestep(t)
    if isinstance(place, bool) or not hasattr(place, "__index__"):
        raise TuiGruError(f"a place is a text such as e3 b2 t1, a position, or a tick, not {place!r}")
    return max(place.__index__(), 0)


def _parts(text: str, program: Program) -> tuple[int | None, int | None, int | None]:
    """Epoch, batch and timestep of `e3 b2 t1`, `e3`, `b2`, `e3 t1` …, 0-based; None for what is left out."""
    match = _PLACE.fullmatch(text.strip())
    if match is None or not text.strip():
        raise TuiGruError(f"{text!r} is no place in time; write it as e3 b2 t1 (epoch, batch, timestep, counted from 1)")
    epoch, batch, t = (None if part is None else int(part) - 1 for part in match.groups())
    for what, value, limit in (("epoch", epoch, None), ("batch", batch, program.num_batches), ("timestep", t, program.seq_length)):
        if value is not None and (value < 0 or (limit is not None and value >= limit)):
            bounds = "from 1" if limit is None else f"from 1 to {limit}"
            raise TuiGruError(f"there is no {what} {value + 1}; they are counted {bounds}")
    return epoch, batch, t
