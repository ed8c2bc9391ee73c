"""Positions in time. A position is determined by one integer, its tick."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from tui_gru.debugger.program.line_table import Program, ProgramLine
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError


@dataclass(frozen=True, order=True)
class Position:
    """A moment in a run, just after a line has been executed. Positions are ordered by time.

    `epoch`, `batch` and `t` are 0-based; `phase` is start, forward, loss, backward or update. In the loss and the update, which are
    outside the loops over t, `t` is the last timestep.
    """

    tick: int
    epoch: int = field(compare=False)
    batch: int = field(compare=False)
    t: int = field(compare=False)
    phase: str = field(compare=False)
    line: ProgramLine | None = field(compare=False, repr=False)
    offset: int = field(compare=False, repr=False)  # ticks since the start of the batch; 0 only at the start of the run
    number: int = field(compare=False, repr=False)  # the batch, counted through all epochs, 0-based


def position_of(program: Program, tick: int) -> Position:
    """Return the position after `tick` ticks."""
    if tick == 0:
        return Position(0, 0, 0, 0, "start", None, 0, 0)
    number, k = divmod(tick - 1, program.ticks)
    line, t = program.line_at(k + 1)
    epoch, batch = divmod(number, program.num_batches)
    return Position(tick, epoch, batch, t, line.phase, line, k + 1, number)


def tick_of(place: str | Position | int, here: Position, program: Program) -> int:
    """Return the tick of a place: `e3 b2 t1` (counted from 1; omitted parts are taken from `here`), a position, or a tick.

    In a recording, `step 300 t1` is a place as well. Without a timestep it is the start of the batch or epoch. Raises `TuiGruError`
    for a place that does not exist in the program.
    """
    from tui_gru.debugger.program.typed import LARGEST  # imported late: nothing is typed at first

    if isinstance(place, str):
        epoch, batch, t = _parts(place, program)
        if batch is None:
            batch = here.batch if epoch is None else 0
        epoch = here.epoch if epoch is None else epoch
        start = (epoch * program.num_batches + batch) * program.ticks
        tick = start if t is None else start + program.end_of_timestep(t)
    else:
        tick = arguments.whole("a tick (or a place such as e3 b2 t1)", place.tick if isinstance(place, Position) else place)
    if tick > LARGEST:
        raise TuiGruError(f"tick {arguments.shown(tick)} is beyond the largest tick, {LARGEST:,}")
    return max(tick, 0)


def in_words(epoch: int, batch: int, t: int | None = None, phase: str = "", *, between: str = ", ") -> str:
    """Return a place in words, from 0-based counts: `epoch 3, batch 2, t 1, forward`; without `t` and `phase`, the batch."""
    words = [f"epoch {epoch + 1:,}", f"batch {batch + 1:,}", *([] if t is None else [f"t {t + 1:,}"]), *filter(None, [phase])]
    return between.join(words)


def batch_in_words(epoch: int, batch: int) -> str:
    """Return a batch inside a sentence, from 0-based counts: `batch 2 of epoch 3`."""
    return f"batch {batch + 1:,} of epoch {epoch + 1:,}"


def as_typed(position: Position) -> str:
    """Return a place as `tick_of` reads it: `e3 b2 t1`."""
    return f"e{position.epoch + 1} b{position.batch + 1} t{position.t + 1}"


def _parts(text: str, program: Program) -> tuple[int | None, int | None, int | None]:
    """Parse `e3 b2 t1`, `e3`, `b2`, `e3 t1` …, or `step 300 t1` in a recording.

    Returns epoch, batch and timestep, 0-based; None for those omitted.
    """
    from tui_gru.debugger.program.typed import LARGEST, Reader

    steps = () if program.config.given is None else program.config.given.steps
    reader = Reader(text, f"{f'step {steps[-1]} t1 or ' if steps else ''}e3 b2 t1 (epoch, batch, timestep, counted from 1)")
    if steps and reader.take("step"):
        number = reader.whole("a step", least=0)
        timestep = reader.timestep(program.seq_length)
        reader.end()
        return 0, _batch_of_step(number, steps), timestep
    limits = {"e": ("an epoch", LARGEST), "b": ("a batch", program.num_batches), "t": ("a timestep", program.seq_length)}
    parts: list[int | None] = []
    for letter, (what, most) in limits.items():
        parts.append(reader.whole(what, least=1, most=most) - 1 if reader.take(letter) else None)
    if reader.left or parts == [None, None, None]:
        raise reader.error(f"{arguments.shown(text)} is not a place in time")
    epoch, batch, t = parts
    return epoch, batch, t


def _batch_of_step(number: int, steps: Sequence[int]) -> int:
    """Return the batch that is the step `number` of a recording. Raises `TuiGruError` for one that was not recorded."""
    at = bisect_left(steps, number)
    if at < len(steps) and steps[at] == number:
        return at
    near = " and ".join(f"{step:,}" for step in steps[max(at - 1, 0) : at + 1])
    raise TuiGruError(f"step {number:,} was not recorded; next to it are {near}")
