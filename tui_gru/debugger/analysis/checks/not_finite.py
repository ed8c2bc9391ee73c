"""Finds the first number of a run that is not finite: its line, timestep and entry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.naming import spoken
from tui_gru.debugger.timeline.recorded import computed_in_order, recorded
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord


@dataclass(frozen=True)
class NotFinite:
    """A number that is not finite: entry `index` of `name`, at timestep `t` (0-based) or None; `tick` is where it exists.

    `given` is True for a weight that is not finite when the batch begins.
    """

    name: str
    t: int | None
    index: tuple[int, ...]
    tick: int
    given: bool = False

    def sentence(self, program: Program) -> str:
        """Return the number and its place in words."""
        when = " when the batch begins" if self.given else "" if self.t is None else f" at t {self.t + 1}"
        return f"the first number that is not finite is {spoken(program, self.name, self.index)}{when}"


def first_not_finite(timeline: Timeline, last: int, monitor: Monitor) -> NotFinite | None:
    """Return the first number that is not finite in the batches up to `last`.

    None if there is none, or `monitor` stopped the search.
    """
    found: NotFinite | None = None

    def visit(batch: int, record: BatchRecord) -> bool:
        nonlocal found
        found = not_finite_in(timeline.program, batch, record)
        return found is not None or monitor(batch, record)

    timeline.walk(_begin(timeline, last), last, visit)
    return found


def _begin(timeline: Timeline, last: int) -> int:
    """Return the first batch that may have such a number. If weights are carried on, the scalars of all later batches show it."""
    if timeline.memory.numbers is not None:
        return 0
    finite = [np.isfinite(timeline.column(name, 0, last)) for name in ("loss", "max_weight")]
    if not timeline.program.knows_loss:
        finite = finite[1:]
    broken = np.flatnonzero(~np.logical_and.reduce(finite))
    return int(broken[0]) if broken.size else 0 if timeline.program.config.given is not None else last


def not_finite_in(program: Program, batch: int, record: BatchRecord) -> NotFinite | None:
    """Return the first number in a batch that is not finite: a weight with which it begins, or a number that it computes."""
    begin = batch * program.ticks
    for name in program.parameters:
        if not (finite := np.isfinite(record.before[name])).all():
            return NotFinite(name, None, _first(finite), begin + 1, given=True)
    every = list(computed_in_order(program, learned=record.learned))
    names = dict.fromkeys(name for name, _ in every)
    broken = {name for name in names if not np.isfinite(_whole(program, record, name)).all()}
    for name, t in every if broken else ():
        if name in broken and not (finite := np.isfinite(recorded(program, record, name, t))).all():
            return NotFinite(name, t, _first(finite), begin + _offset(program, name, t))
    return None


def _first(finite: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first entry that is False."""
    return tuple(map(int, np.unravel_index(int(np.argmin(finite)), finite.shape)))


def _whole(program: Program, record: BatchRecord, name: str) -> np.ndarray:
    return record.array(name) if program.names[name].timed else recorded(program, record, name)


def _offset(program: Program, name: str, t: int | None) -> int:
    """Return the tick within a batch from which on a number exists."""
    if program.names[name].kind is ValueKind.GRADIENT:
        return program.complete_at(name)
    offset = program.there_at(name, t)
    return offset if offset is not None else program.ticks
