"""Counts the hits of one stop on a timeline, batch by batch, and tells in which batches it stops a run."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.breakpoints.hits import HitFinder
from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.checkpoints.scalars import COLUMNS
from tui_gru.debugger.expressions.conditions import Condition
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.hit_counts import UNKNOWN, HitCounts, Hits
from tui_gru.debugger.timeline.timeline import BLOCK, Timeline
from tui_gru.engine.running.batch import BatchRecord

MOST_READ = 16  # columns


class ScalarCache:
    """A cache of the scalars that conditions read, so that several stops read those of the same batches only once."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._read: dict[tuple[str, int, int], Any] = {}

    def read(self, name: str, first: int, last: int) -> Any:
        """Return a scalar of each of the batches, (n), read-only: a column of the timeline, or `learned`, 1 if the batch learns."""
        key = name, first, last
        if key not in self._read:
            if len(self._read) >= MOST_READ:
                self._read.clear()
            self._read[key] = self._values(*key)
        return self._read[key]

    def _values(self, name: str, first: int, last: int) -> Any:
        if name == "learned":
            return self._timeline.learned(first, last).astype(np.intp)
        if name in COLUMNS:
            return self._timeline.column(name, first, last)
        epochs, batches = np.divmod(np.arange(first, last + 1), self._timeline.program.num_batches)
        return epochs if name == "epoch" else batches


class ColumnCounter:
    """Counts the hits of one stop in computed batches from their scalars, if `possible`."""

    def __init__(self, stop: ResolvedStop, timeline: Timeline, columns: ScalarCache) -> None:
        self._timeline, self._condition, self._columns = timeline, stop.condition, columns
        condition, program = stop.condition, timeline.program
        self.plain = stop.plain
        self._ticks = dict(stop.ticks)
        self.possible = self.plain
        if condition is not None and condition.names and condition.scalar(timeline.whole_columns):
            self._ticks = {learns: _readable(condition, program, ticks, learns) for learns, ticks in stop.ticks.items()}
            self.possible = "max_weight" not in condition.current or self._ticks[True] in ((), (program.ticks,))
        self._each = np.array([len(self._ticks[learns]) for learns in (False, True)], np.int32)

    def counts(self, first: int, last: int) -> NDArray[np.int32] | None:
        """Return the number of hits in each of the batches `first` … `last`, UNKNOWN if a batch must be tested.

        None if not possible.
        """
        counts: NDArray[np.int32] = self._each[self._columns.read("learned", first, last)]
        if self._condition is None:
            return counts
        try:
            counts *= self._holds(self._condition, first, last)
        except ConditionError:
            return None
        if changed := self._timeline.changed_batches(first, last):
            counts[np.array(changed) - first] = UNKNOWN
        return counts

    def ticks_in(self, batch: int) -> tuple[int, ...] | None:
        """Return the ticks of the hits in a batch that has hits; None if the batch must be tested."""
        if self._condition is not None and self._timeline.changed_in(batch):
            return None
        start = batch * self._timeline.program.ticks
        return tuple(start + k for k in self._ticks[self._timeline.learns(batch)])

    def _holds(self, condition: Condition, first: int, last: int) -> NDArray[np.bool_]:
        """Return True for each of the batches in which the condition holds where all values that it reads are computed."""
        previous = condition.previous
        if not previous:
            return np.asarray(condition.over_columns({name: self._columns.read(name, first, last) for name in condition.names}))
        begin = max(first - 1, 0)
        columns = {name: self._columns.read(name, begin, last) for name in condition.names}
        before = {name: column[:-1] for name, column in columns.items()}
        holds = condition.over_columns({name: column[1:] for name, column in columns.items()}, before)
        if "grad_norm" in previous:
            holds = holds & (self._columns.read("learned", begin, last)[:-1] != 0)
        return np.concatenate((np.zeros(last + 1 - first - len(holds), bool), holds))  # the first batch has no previous one


def _readable(condition: Condition, program: Program, ticks: tuple[int, ...], learns: bool) -> tuple[int, ...]:
    """Return the ticks at which the current values of all scalars that a condition reads have been computed."""
    since = {"loss": program.loss_tick, "grad_norm": program.backward_end if learns else program.ticks + 1}
    first = max((since.get(name, 0) for name in condition.current), default=0)
    return tuple(k for k in ticks if k >= first)


class HitCounter:
    """Counts the hits of `stop` into `hits`. If `matters` is False, the hits are only counted and stop no run: a log point.

    `counts` is True if they can be counted from scalars of the timeline, without testing batches.
    """

    def __init__(self, stop: ResolvedStop, timeline: Timeline, hits: HitCounts, columns: ScalarCache, *, matters: bool) -> None:
        self.stop, self.hits, self.matters = stop, hits, matters
        self._timeline, self._columns = timeline, ColumnCounter(stop, timeline, columns)
        self._finder: HitFinder | None = None
        self.counts = self._columns.possible

    def begin(self) -> None:
        """Prepare for another search: test few batches at once at first, so that a near hit is found early."""
        if self._finder is not None:
            self._finder.begin()

    @property
    def counted(self) -> bool:
        """True if the stop has a hit count, so that the number of hits in all batches before must be known."""
        return self.stop.count is not None

    def known(self, batch: int) -> bool:
        """Return True if the hits in a batch have been counted."""
        return self.hits.known(batch)

    def fill(self, first: int, last: int) -> None:
        """Count the hits in the batches `first` … `last` from scalars, if possible."""
        for low in range(first, last + 1, BLOCK):
            if self.counts:
                self._fill(low, min(low + BLOCK - 1, last))

    def _fill(self, first: int, last: int) -> None:
        noted = self.hits.counts(first, last)
        unknown = np.flatnonzero(noted == UNKNOWN) if first < last else range(noted.item() == UNKNOWN)
        if not len(unknown):
            return
        low, high = int(unknown[0]), int(unknown[-1])
        counts = self._columns.counts(first + low, first + high)
        self.counts = counts is not None
        if counts is not None:
            part = noted[low : high + 1]
            np.copyto(part, counts, where=part == UNKNOWN)

    def count(self, first: int, last: int) -> bool:
        """Count the hits in the batches `first` … `last`, which are computed. True if one of them may stop a run."""
        self.fill(first, last)
        if not self.counts:  # the columns could not be evaluated
            for batch in range(first, last + 1):
                if not self.known(batch):
                    self._note(self._testing().add(batch, self._timeline.record(batch)))
            self.settle()
        return bool(self.possible_hits(first, last).any())

    def look(self, batch: int, record: BatchRecord) -> bool:
        """Test a batch that has not been counted. True if one of the batches tested so far may stop a run."""
        return self._note(self._testing().add(batch, record))

    def settle(self) -> bool:
        """Test the batches that were added but not tested yet. True if one of them may stop a run."""
        return self._finder is not None and self._note(self._finder.settle())

    def may_stop(self, batch: int) -> bool:
        """Return True if a hit in `batch`, which has been counted, stops the run, or the condition could not be evaluated in it."""
        if not self.matters:
            return False
        if self.hits.doubtful(batch, batch):
            return True
        count = int(self.hits.counts(batch, batch)[0])
        if count <= 0 or self.stop.count is None:
            return count > 0
        before = self.hits.before(batch)
        return before is None or bool(self.stop.count.stops_between(before, before + count))

    def possible_hits(self, first: int, last: int) -> NDArray[Any]:
        """Return True for each of the batches `first` … `last` that has not been counted, or may stop a run."""
        if first == last:
            return np.array([not self.known(first) or self.may_stop(first)])
        counts = self.hits.counts(first, last)
        worth: NDArray[Any] = counts == UNKNOWN
        if self.matters:
            hit = counts > 0
            if self.stop.count is not None and (before := self.hits.before(first)) is not None and not worth.any():
                upto = before + np.cumsum(counts, dtype=np.int64)
                hit &= self.stop.count.stops_between(upto - counts, upto)
            worth |= hit
            worth[[batch - first for batch in self.hits.doubtful(first, last)]] = True
        return worth

    def hits_in(self, batch: int) -> Hits:
        """Return the hits in a batch."""
        if (noted := self.hits.noted(batch)) is not None:
            return noted
        ticks = self._columns.ticks_in(batch) if self.counts else None
        if ticks is not None:
            return Hits(batch, ticks)
        finder = HitFinder(self.stop, self._timeline)
        (hits,) = [*finder.add(batch, self._timeline.record(batch)), *finder.settle()]
        self.hits.note(hits)
        return hits

    def stops_in(self, batch: int) -> list[tuple[int, int | None]]:
        """Return the ticks in a batch at which it stops a run, each with the number of the hit if the stop has a hit count."""
        ticks = self.hits_in(batch).ticks
        if self.stop.count is None:
            return [(tick, None) for tick in ticks]
        before = self.hits.before(batch)
        assert before is not None
        return [(tick, n) for n, tick in enumerate(ticks, before + 1) if self.stop.count.stops(n)]

    def number(self, tick: int) -> int | None:
        """Return the number of the hit at a tick, counted in time from 1; None if the hits before have not all been counted."""
        batch = (tick - 1) // self._timeline.program.ticks
        if self.hits.before(batch) is None:
            self.fill(0, batch - 1)
        before = self.hits.before(batch)
        return None if before is None else before + bisect_left(self.hits_in(batch).ticks, tick) + 1

    def _testing(self) -> HitFinder:
        if self._finder is None:
            self._finder = HitFinder(self.stop, self._timeline)
        return self._finder

    def _note(self, found: list[Hits]) -> bool:
        for hits in found:
            self.hits.note(hits)
        return any(self.may_stop(hits.batch) for hits in found if hits.ticks or hits.errors)
