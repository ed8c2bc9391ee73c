"""Checks every batch during training: which batches are checked, the results so far, and where to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tui_gru.debugger.analysis.checks.checking import compared, place, severity
from tui_gru.debugger.program.position import batch_in_words
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.numbers import scientific
from tui_gru.engine.running.batch import BatchRecord

if TYPE_CHECKING:
    from tui_gru.engine.reference.torch_reference import Comparison

LOOKAHEAD = 64  # batches; a search sees up to 16 batches beyond the place it finds


@dataclass(frozen=True)
class CheckTotals:
    """The number of checked batches and their largest difference, at `place` in batch `batch` (counted through all epochs)."""

    batches: int = 0
    worst: float = 0.0
    place: str = ""
    batch: int = -1

    def with_batch(self, batch: int, worst: float, place: str) -> CheckTotals:
        if worst <= self.worst and self.place:
            return CheckTotals(self.batches + 1, self.worst, self.place, self.batch)
        return CheckTotals(self.batches + 1, worst, place, batch)


class CheckWatch:
    """Checks the batches that a run completes, up to batch `last`, for the first that does not agree with PyTorch's autograd.

    Adds its results to the totals it is given. It skips batches that do not learn, have a number that is not finite, or were
    changed halfway, and the batches in `done`, which have been checked before.
    """

    def __init__(self, timeline: Timeline, first: int, last: int | None, totals: CheckTotals, done: range = range(0)) -> None:
        self.problem, self.stopped_at = "", -1
        self._totals = totals
        self._ahead: dict[int, tuple[float, str]] = {}  # the largest difference of each of the newest batches, and where
        self._timeline, self._first, self._last, self._done = timeline, first, last, done
        self._seen: set[int] = set()
        self._epoch: tuple[int, tuple[BatchRecord, ...]] = (-1, ())  # a batch, and those of its epoch up to it, the latest first

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a batch should stop the run."""
        if batch < self._first or batch in self._seen or (self._last is not None and batch > self._last):
            return False
        earlier = self._earlier(batch)
        self._seen.add(batch)
        if self._timeline.program.earlier:
            self._epoch = (batch, (record, *earlier))
        known = self._timeline.program.config.given is not None or np.isfinite(record.loss)
        finite = known and record.learned and np.isfinite(record.own_gradients.flat).all()
        if not finite or batch in self._done or self._timeline.changed_in(batch):
            return False
        found = compared(record, self._timeline.program, earlier, entries=0)
        largest = max(found, key=lambda c: c.absolute)
        self._ahead[batch] = (largest.absolute, place(largest, self._timeline.program))
        if len(self._ahead) > LOOKAHEAD:
            oldest = min(self._ahead)
            self._totals = self._totals.with_batch(oldest, *self._ahead.pop(oldest))
        wrong = [comparison for comparison in found if not comparison.agrees]
        if wrong:
            self._stop(batch, max(wrong, key=severity))
        return bool(wrong)

    def totals(self, tick: int) -> CheckTotals:
        """Return the results for the batches completed by `tick`; a search sees some batches beyond the place it finds."""
        totals = self._totals
        for batch in sorted(self._ahead):
            if self._timeline.end_of(batch) <= tick:
                totals = totals.with_batch(batch, *self._ahead[batch])
        return totals

    def missed(self, tick: int) -> list[int]:
        """Return the batches completed by `tick` that the run did not show, for example because they were cached."""
        finished = range(self._first, tick // self._timeline.program.ticks)
        return [batch for batch in finished if batch not in self._seen and batch not in self._done]

    def done(self, tick: int) -> range:
        """Return the batches that need no further check at `tick`, joined with those checked before if they are adjacent."""
        stop = self._first
        while stop in self._seen and stop < tick // self._timeline.program.ticks:
            stop += 1
        if stop == self._first or not self._done:
            return range(self._first, stop) or self._done
        touch = self._first <= self._done.stop and self._done.start <= stop
        return range(min(self._first, self._done.start), max(stop, self._done.stop)) if touch else range(self._first, stop)

    def _stop(self, batch: int, worst: Comparison) -> None:
        program, self.stopped_at = self._timeline.program, batch
        name = program.writer.name(worst.name)
        self.problem = (
            f"stopped: {batch_in_words(*divmod(batch, program.num_batches))} does not agree with PyTorch: {name} differs by "
            f"{scientific(worst.absolute)} at {place(worst, program)} ({worst.against})"
        )

    def _earlier(self, batch: int) -> tuple[BatchRecord, ...]:
        """Return the records of the epoch before this batch, latest first, with carry `notebook`; otherwise empty."""
        if not self._timeline.program.earlier or batch % self._timeline.program.num_batches == 0:
            return ()
        before, epoch = self._epoch
        return epoch if before == batch - 1 else self._timeline.earlier(batch)
