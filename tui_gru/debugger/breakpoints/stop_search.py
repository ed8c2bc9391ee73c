"""Finds the first or the last place where one of several stops is hit, in one pass over the batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.breakpoints.hit_counter import HitCounter
from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord

CHUNK = 32  # at least so many batches are replayed together, in the order of time, by a search backwards
SEARCH_BLOCK = 2**14  # batches whose counts are searched at once
COUNTED_TOGETHER = 64  # the most batches that are counted at once while they are computed
QUIET = 32  # batches in a row that have been counted before, after which the search continues in the counts


@dataclass(frozen=True, eq=False)
class SearchEnd:
    """The end of a search: at a stop, at its goal, or at the end of the batch where the monitor interrupted it (`broken_off`).

    `by` are the stops that are hit there, each with the number of the hit if known. With `error`, the condition of the stop in
    `by` could not be evaluated there.
    """

    tick: int
    by: tuple[tuple[ResolvedStop, int | None], ...] = ()
    error: ConditionError | None = None
    broken_off: bool = False


class StopSearch:
    """Searches a timeline for the places at which one of `counters` stops a run. `monitor` sees every batch and can interrupt."""

    def __init__(self, timeline: Timeline, counters: Sequence[HitCounter], monitor: Monitor) -> None:
        self._timeline, self._counters, self._monitor = timeline, counters, monitor
        self._N = timeline.program.ticks

    def forward(self, tick: int, end: int) -> SearchEnd:
        """Return the first stop after `tick`, up to `end`.

        If there is none: `end`, or the place where the search was interrupted.
        """
        first, last = tick // self._N, max(end - 1, 0) // self._N
        if self._count_before(first):
            return SearchEnd(tick, broken_off=True)
        broken = False
        while first <= last:
            if first <= self._timeline.computed:
                high = min(first + SEARCH_BLOCK - 1, self._timeline.computed, last)
                batch = next(self._candidates(first, high), None)
                if batch is None:
                    first = high + 1
                    continue
                first = batch
                if self._known(batch):
                    if found := self._stop_in(batch, tick, end, latest=False):
                        return found
                    first += 1
                    continue
            reached, broken = self._walk(first, last)
            if broken:
                last = reached
        if broken:
            return SearchEnd(max(tick, min(self._timeline.end_of(last), end)), broken_off=True)
        return SearchEnd(end)

    def back(self, tick: int, begin: int) -> SearchEnd:
        """Return the last stop before `tick`, from `begin` on.

        If there is none: `begin`, or the place where the search was interrupted.
        """
        first, last = max(begin - 1, 0) // self._N, max(tick - 1, 0) // self._N
        if self._count_before(last + 1):
            return SearchEnd(tick, broken_off=True)
        while (batch := self._last_candidate(first, last)) is not None:
            last = batch
            if self._known(batch):
                if found := self._stop_in(batch, begin - 1, tick - 1, latest=True):
                    return found
                last -= 1
            elif self._count_back(max(first, last - SEARCH_BLOCK + 1), last):
                return SearchEnd(min(tick, self._timeline.end_of(last)), broken_off=True)
        return SearchEnd(begin)

    def latest(self, counter: HitCounter, after: int, upto: int, most: int) -> list[int]:
        """Return the ticks of the last hits of one counter after `after`, up to `upto`, latest first: `most` or a few more."""
        found: list[int] = []
        first, last = after // self._N, max(upto - 1, 0) // self._N
        if self._count_before(last + 1):
            return found
        while len(found) < most and (batch := self._last_candidate(first, last)) is not None:
            last = batch
            if counter.known(batch):
                found += [tick for tick, _ in reversed(counter.stops_in(batch)) if after < tick <= upto]
                last -= 1
            elif self._count_back(max(first, last - SEARCH_BLOCK + 1), last):
                break
        return found

    def _count_before(self, batch: int) -> bool:
        """Count all hits before `batch` for the stops with a hit count. True if interrupted."""
        counting = [counter for counter in self._counters if counter.counted and counter.hits.before(batch) is None]
        if not counting:
            return False
        every, self._counters = self._counters, counting
        try:
            for counter in counting:
                counter.fill(0, batch - 1)
            unknown = self._unknown(0, batch - 1)
            while unknown is not None:
                reached, broken = self._walk(unknown, batch - 1, through=True)
                if broken:
                    return True
                unknown = self._unknown(reached, batch - 1)
        finally:
            self._counters = every
        return False

    def _unknown(self, first: int, last: int) -> int | None:
        """Return the first of the batches `first` … `last` in which some counter has not counted yet; None if there is none."""
        if first > last:
            return None
        unknown = [np.flatnonzero(counter.hits.counts(first, last) < 0)[:1] for counter in self._counters]
        return min((first + int(each[0]) for each in unknown if each.size), default=None)

    def _known(self, batch: int) -> bool:
        return all(counter.known(batch) for counter in self._counters)

    def _candidates(self, first: int, last: int, *, latest: bool = False) -> Iterator[int]:
        """Return the batches in which a stop is hit or possible, in order, or in reverse if `latest` is True."""
        worth = np.zeros(last + 1 - first, bool)
        for counter in self._counters:
            counter.fill(first, last)
            worth |= counter.possible_hits(first, last)
        batches = np.flatnonzero(worth)
        return iter((first + (batches[::-1] if latest else batches)).tolist())

    def _last_candidate(self, first: int, last: int) -> int | None:
        """Return the last of the batches `first` … `last` in which a stop is hit or possible; None if there is none."""
        while last >= first:
            low = max(first, last - SEARCH_BLOCK + 1)
            if (batch := next(self._candidates(low, last, latest=True), None)) is not None:
                return batch
            last = low - 1
        return None

    def _walk(self, first: int, last: int, *, through: bool = False) -> tuple[int, bool]:
        """Compute batches from `first` on until one of them may have a stop, or, if `through` is True, up to `last`.

        Returns the last batch reached, up to which all hits are counted, and whether it was interrupted.
        """
        reached, quiet, broken, computed = first, 0, False, self._timeline.computed
        counting = [counter for counter in self._counters if counter.counts]
        looking = [counter for counter in self._counters if not counter.counts]
        uncounted, together = first, 1  # the first batch that `counting` has not counted; how many it counts at once

        def count(upto: int) -> bool:
            nonlocal uncounted, counting
            stops = [counter.count(uncounted, upto) for counter in counting] if uncounted <= upto else []
            looking.extend(counter for counter in counting if not counter.counts)
            uncounted, counting = upto + 1, [counter for counter in counting if counter.counts]
            return any(stops)

        def look(batch: int, record: BatchRecord) -> bool:
            changed = self._timeline.changed_in(batch)
            stops = changed and count(batch - 1)
            for counter in (*looking, *counting) if changed else tuple(looking):
                if changed and counter.stop.plain:
                    continue
                if not counter.known(batch):
                    stops = counter.look(batch, record) or stops
                elif counter.matters and not through:
                    stops = counter.settle() or counter.may_stop(batch) or stops
            return stops

        def visit(batch: int, record: BatchRecord) -> bool:
            nonlocal reached, quiet, broken, together
            reached, known = batch, all(counter.known(batch) for counter in looking)
            quiet = quiet + 1 if known else 0
            stops = look(batch, record)
            if batch + 1 - uncounted >= together:
                together = min(2 * together, COUNTED_TOGETHER)
                stops = count(batch) or stops
            broken = self._monitor(batch, record)
            return broken or (stops and not through) or (quiet >= QUIET and batch < computed)

        self._timeline.walk(first, last, visit)
        count(reached)
        for counter in self._counters:
            counter.settle()
        return reached, broken

    def _count_back(self, low: int, last: int) -> bool:
        """Count the hits in the batches up to `last`, as many as are replayed at once. True if interrupted."""
        start = max(low, self._timeline.replay_start(max(0, last - CHUNK + 1)))
        while (unknown := self._unknown(start, last)) is not None:
            start, broken = self._walk(unknown, last, through=True)
            if broken:
                return True
        return False

    def _stop_in(self, batch: int, after: int, upto: int, *, latest: bool) -> SearchEnd | None:
        """Return the first, or the latest, stop in a batch whose hits are all counted."""
        stops: dict[int, list[HitCounter]] = {}
        errors: dict[int, tuple[HitCounter, ConditionError]] = {}
        for counter in self._counters:
            if counter.matters and counter.may_stop(batch):
                for tick, _ in counter.stops_in(batch):
                    stops.setdefault(tick, []).append(counter)
                for tick, error in counter.hits_in(batch).errors:
                    errors.setdefault(tick, (counter, error))
        ticks = [tick for tick in (*stops, *errors) if after < tick <= upto]
        if not ticks:
            return None
        tick = max(ticks) if latest else min(ticks)
        if tick in errors:
            counter, error = errors[tick]
            return SearchEnd(tick, ((counter.stop, None),), error)
        return SearchEnd(tick, tuple((counter.stop, counter.number(tick)) for counter in stops[tick]))
