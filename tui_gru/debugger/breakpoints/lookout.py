"""One trigger on one timeline: finds out batch by batch how often it is hit, and whether one of the hits is to be stopped at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.breakpoints.counting import Columns, Counter
from tui_gru.debugger.breakpoints.hits import HitFinder
from tui_gru.debugger.breakpoints.triggers import Trigger
from tui_gru.debugger.state.tallies import UNKNOWN, Hits, Tally
from tui_gru.debugger.timeline.timeline import BLOCK, Timeline
from tui_gru.engine.batch import BatchRecord


class Lookout:
    """What is known of the hits of a trigger is in its tally. `matters` is False where it is only to be counted: for a log."""

    def __init__(self, trigger: Trigger, timeline: Timeline, tally: Tally, columns: Columns, *, matters: bool) -> None:
        self.trigger, self.tally, self.matters = trigger, tally, matters
        self._timeline, self._counter = timeline, Counter(trigger, timeline, columns)
        self._finder: HitFinder | None = None
        self.counts = self._counter.possible  # whether hits can be counted without looking into batches, for all that is known

    def begin(self) -> None:
        """Begin to look again, on another way: what is near is to be found soon."""
        if self._finder is not None:
            self._finder.begin()

    @property
    def counted(self) -> bool:
        """Whether all hits before a batch must be known to tell whether it stops there."""
        return self.trigger.count is not None

    def known(self, batch: int) -> bool:
        return self.tally.known(batch)

    def fill(self, first: int, last: int) -> None:
        """Count in the batches `first` … `last` what can be counted without looking into them."""
        for low in range(first, last + 1, BLOCK):
            if self.counts:
                self._fill(low, min(low + BLOCK - 1, last))

    def _fill(self, first: int, last: int) -> None:
        noted = self.tally.counts(first, last)
        unknown = np.flatnonzero(noted == UNKNOWN) if first < last else range(noted.item() == UNKNOWN)
        if not len(unknown):
            return
        low, high = int(unknown[0]), int(unknown[-1])
        counts = self._counter.counts(first + low, first + high)
        self.counts = counts is not None
        if counts is not None:
            part = noted[low : high + 1]
            np.copyto(part, counts, where=part == UNKNOWN)

    def count(self, first: int, last: int) -> bool:
        """Have all hits known in the batches `first` … `last`, which have been run. Whether it may stop in one of them."""
        self.fill(first, last)
        if not self.counts:  # after all
            for batch in range(first, last + 1):
                if not self.known(batch):
                    self._note(self._looking().add(batch, self._timeline.record(batch)))
            self.settle()
        return bool(self.worth_a_look(first, last).any())

    def look(self, batch: int, record: BatchRecord) -> bool:
        """Look into another batch of which nothing is known. Whether it may stop in one of those that are known by now."""
        return self._note(self._looking().add(batch, record))

    def settle(self) -> bool:
        """Have everything known of what has been looked into. Whether it may stop there."""
        return self._finder is not None and self._note(self._finder.settle())

    def may_stop(self, batch: int) -> bool:
        """Whether it stops in a batch of which it is known, or it cannot be told at some place there."""
        if not self.matters:
            return False
        if self.tally.doubtful(batch, batch):
            return True
        count = int(self.tally.counts(batch, batch)[0])
        if count <= 0 or self.trigger.count is None:
            return count > 0
        before = self.tally.before(batch)
        return before is None or bool(self.trigger.count.stops_between(before, before + count))

    def worth_a_look(self, first: int, last: int) -> NDArray[Any]:
        """For each of the batches `first` … `last` whether it is not known, or it stops there for all that is known."""
        if first == last:
            return np.array([not self.known(first) or self.may_stop(first)])
        counts = self.tally.counts(first, last)
        worth: NDArray[Any] = counts == UNKNOWN
        if self.matters:
            hit = counts > 0
            if self.trigger.count is not None and (before := self.tally.before(first)) is not None and not worth.any():
                upto = before + np.cumsum(counts, dtype=np.int64)
                hit &= self.trigger.count.stops_between(upto - counts, upto)
            worth |= hit
            worth[[batch - first for batch in self.tally.doubtful(first, last)]] = True
        return worth

    def hits_in(self, batch: int) -> Hits:
        """The hits in a batch."""
        if (noted := self.tally.noted(batch)) is not None:
            return noted
        ticks = self._counter.ticks_in(batch) if self.counts else None
        if ticks is not None:
            return Hits(batch, ticks)
        finder = HitFinder(self.trigger, self._timeline)
        (hits,) = [*finder.add(batch, self._timeline.record(batch)), *finder.settle()]
        self.tally.note(hits)
        return hits

    def stops_in(self, batch: int) -> list[tuple[int, int | None]]:
        """The ticks of the hits in a batch at which it stops, each with its number if that is counted."""
        ticks = self.hits_in(batch).ticks
        if self.trigger.count is None:
            return [(tick, None) for tick in ticks]
        before = self.tally.before(batch)
        assert before is not None
        return [(tick, n) for n, tick in enumerate(ticks, before + 1) if self.trigger.count.stops(n)]

    def number(self, tick: int) -> int | None:
        """Which hit it is, in time, that is at a tick; None where that is not known without looking."""
        batch = (tick - 1) // self._timeline.program.ticks
        if self.tally.before(batch) is None:
            self.fill(0, batch - 1)
        before = self.tally.before(batch)
        return None if before is None else before + self.hits_in(batch).ticks.index(tick) + 1

    def _looking(self) -> HitFinder:
        if self._finder is None:
            self._finder = HitFinder(self.trigger, self._timeline)
        return self._finder

    def _note(self, found: list[Hits]) -> bool:
        for hits in found:
            self.tally.note(hits)
        return any(self.may_stop(hits.batch) for hits in found if hits.ticks or hits.errors)
