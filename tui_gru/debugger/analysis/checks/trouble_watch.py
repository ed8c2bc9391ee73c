"""Watches a run for numbers that are not finite or explode, at which it stops."""

from __future__ import annotations

from tui_gru.debugger.analysis.checks.growth import GrowthWatch
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.state.outcome import Notice, StopEvent
from tui_gru.debugger.timeline.finite import FiniteWatch
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord

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
