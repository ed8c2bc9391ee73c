"""Watches a run for numbers that are not finite or explode, at which it stops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.analysis.checks.growth import GrowthWatch
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.state.outcome import Notice, StopEvent
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord


class FiniteWatch:
    """Watches a run from `here` on for the first loss or update that is not finite. Inactive if one already is not finite."""

    def __init__(self, timeline: Timeline, here: Position) -> None:
        self._timeline, self._program, self._here = timeline, timeline.program, here
        lost = here.number - (here.offset < self._program.loss_tick)  # the last batch with a loss
        updated = here.number - (here.offset < self._program.ticks)
        self._awake = bool(self._finite("loss", lost, lost).all() and self._finite("max_weight", updated, updated).all())

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a computed batch should stop the run."""
        return self._awake and batch > self._here.number and not record.finite

    def place(self, tick: int) -> int | None:
        """Return the tick of the first loss or update up to `tick` that is not finite; None if all computed so far are finite."""
        if not self._awake:
            return None
        for first, last in self._timeline.blocks(self._here.number, (tick - 1) // self._program.ticks):
            losses = first + np.flatnonzero(~self._finite("loss", first, last))[:2]
            updates = first + np.flatnonzero(~self._finite("max_weight", first, last))[:2]
            places: list[int] = [batch * self._program.ticks + self._program.loss_tick for batch in losses.tolist()]
            places += [self._timeline.end_of(batch) for batch in updates.tolist()]
            if there := [place for place in places if self._here.tick < place <= tick]:
                return min(there)
        return None

    def _finite(self, name: str, first: int, last: int) -> NDArray[np.bool_]:
        return np.isfinite(self._timeline.column(name, max(first, 0), last))


_NOT_FINITE = "stopped here: the loss or a weight is not finite (NaN or infinite)"


class TroubleWatch:
    """Watches a run from `here` on for the first number that is not finite or explodes."""

    def __init__(self, timeline: Timeline, here: Position) -> None:
        self._finite, self._growth = FiniteWatch(timeline, here), GrowthWatch(timeline, here)

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a computed batch should stop the run."""
        return self._finite.sees(batch, record) or self._growth.sees(batch, record)

    def event(self, tick: int) -> StopEvent | None:
        """Return the first event up to `tick` that stops the run; None if no computed batch has one."""
        lost = self._finite.place(tick)
        grown = self._growth.place(tick if lost is None else lost - 1)
        if grown is not None:
            place, words = grown
            return StopEvent(place, "growth", Notice(words, warning=True))
        return None if lost is None else StopEvent(lost, "not finite", Notice(_NOT_FINITE, warning=True))
