"""Watches for the places at which a run stops by itself: numbers that are not finite, and numbers that explode."""

from __future__ import annotations

from tui_gru.debugger.analysis.growth import GrowthWatch
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.timeline.finite import FiniteWatch
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.batch import BatchRecord

_NOT_FINITE = "stopped here: the loss or a weight is not finite (NaN or infinite)"


class TroubleWatch:
    """Watches a run from `here` on for the first such place."""

    def __init__(self, timeline: Timeline, here: Position) -> None:
        self._finite, self._growth = FiniteWatch(timeline, here), GrowthWatch(timeline, here)

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Whether a computed batch should stop the run."""
        return self._finite.sees(batch, record) or self._growth.sees(batch, record)

    def place(self, tick: int) -> tuple[int, str] | None:
        """The first place up to `tick` and the reason in words; None if no computed batch has one."""
        lost = self._finite.place(tick)
        grown = self._growth.place(tick if lost is None else lost - 1)
        return grown if grown is not None or lost is None else (lost, _NOT_FINITE)
