"""The watch for a loss that ceases to be finite."""

from __future__ import annotations

import math

import numpy as np

from tui_gru.debugger.position import Position
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.record import BatchRecord


class FiniteWatch:
    """Looks, on the way onwards from `here`, for the first loss that is not finite; for none where the last one was not already."""

    def __init__(self, timeline: Timeline, here: Position) -> None:
        self._timeline, self._program = timeline, timeline.program
        self._first = here.number + (here.offset >= self._program.loss_tick)  # the batch whose loss comes next
        last = timeline.column("loss", self._first - 1, self._first - 1) if self._first else np.zeros(1)
        self._awake = bool(np.isfinite(last[0]))

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Whether a batch on the way is to be stopped at."""
        return self._awake and batch >= self._first and not math.isfinite(record.loss)

    def place(self, tick: int) -> int | None:
        """The place, up to `tick`, of the first loss that is not finite; None if there is none among the batches run so far."""
        last = (tick - self._program.loss_tick) // self._program.ticks
        if not self._awake or last < self._first:
            return None
        finite = np.isfinite(self._timeline.column("loss", self._first, last))
        if finite.all():
            return None
        return (self._first + int(finite.argmin())) * self._program.ticks + self._program.loss_tick
