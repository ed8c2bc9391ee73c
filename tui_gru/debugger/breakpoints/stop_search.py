"""Finding where the first of many stops is hit: one walk over the records for all of them, and none for what can be counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.breakpoints.lookout import Lookout
from tui_gru.debugger.breakpoints.triggers import Trigger
from tui_gru.debugger.expressions.conditions import ConditionError
from tui_gru.debugger.timeline.segment import Monitor
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.batch import BatchRecord

CHUNK = 32  # batches, at least, that a search against time goes through at once, in the order of time
BLOCK = 2**14  # batches whose tallies are looked through at once
COUNTED_TOGETHER = 64  # batches at most that are counted at once as they are run
QUIET = 32  # batches of which all is known, after which a walk is given up for the tallies


@dataclass(frozen=True, eq=False)
class Halt:
    """Where a run ends, and what stops it there: triggers, each with the number of its hit where that is known.

    `error` is why it could not be told whether `by` is hit there. `broken_off` says that the run was stopped on its way, at the end
    of a batch.
    """

    tick: int
    by: tuple[tuple[Trigger, int | None], ...] = ()
    error: ConditionError | None = None
    broken_off: bool = False


class StopSearch:
    """Looks for the places of a timeline at which the first or the last of its lookouts stops."""

    def __init__(self, timeline: Timeline, lookouts: Sequence[Lookout], monitor: Monitor) -> None:
        self._timeline, self._lookouts, self._monitor = timeline, lookouts, monitor
        self._N = timeline.program.ticks

    def forward(self, tick: int, end: int) -> Halt:
        """The first stop after `tick`, up to `end`; the end, or where the run was broken off, if there is none."""
        first, last = tick // self._N, max(end - 1, 0) // self._N
        if self._count_before(first):
            return Halt(tick, broken_off=True)
        broken = False
        while first <= last:
            if first <= self._timeline.computed:
                high = min(first + BLOCK - 1, self._timeline.computed, last)
                batch = next(self._worth_a_look(first, high), None)
                if batch is None:
                    first = high + 1
                    continue
                first = batch
                if self._known(batch):
                    if halt := self._stop_in(batch, tick, end, latest=False):
                        return halt
                    first += 1
                    continue
            reached, broken = self._walk(first, last)
            if broken:
                last = reached
        if broken:
            return Halt(max(tick, min(self._timeline.end_of(last), end)), broken_off=True)
        return Halt(end)

    def back(self, tick: int, begin: int) -> Halt:
        """The last stop before `tick`, from `begin` on; the beginning, or where it was broken off, if there is none."""
        first, last = max(begin - 1, 0) // self._N, max(tick - 1, 0) // self._N
        if self._count_before(last + 1):
            return Halt(tick, broken_off=True)
        while (batch := self._last_worth_a_look(first, last)) is not None:
            last = batch
            if self._known(batch):
                if halt := self._stop_in(batch, begin - 1, tick - 1, latest=True):
                    return halt
                last -= 1
            elif self._look_through(max(first, last - BLOCK + 1), last):
                return Halt(min(tick, self._timeline.end_of(last)), broken_off=True)
        return Halt(begin)

    def latest(self, lookout: Lookout, after: int, upto: int, most: int) -> list[int]:
        """The ticks of the last hits after `after`, up to `upto`, that count for one lookout, in reverse; `most` or some more."""
        found: list[int] = []
        first, last = after // self._N, max(upto - 1, 0) // self._N
        if self._count_before(last + 1):
            return found
        while len(found) < most and (batch := self._last_worth_a_look(first, last)) is not None:
            last = batch
            if lookout.known(batch):
                found += [tick for tick, _ in reversed(lookout.stops_in(batch)) if after < tick <= upto]
                last -= 1
            elif self._look_through(max(first, last - BLOCK + 1), last):
                break
        return found

    def _count_before(self, batch: int) -> bool:
        """Have the hits before a batch known to those who count them. Whether it was broken off."""
        counting = [lookout for lookout in self._lookouts if lookout.counted and lookout.tally.before(batch) is None]
        if not counting:
            return False
        every, self._lookouts = self._lookouts, counting
        try:
            for lookout in counting:
                lookout.fill(0, batch - 1)
            unknown = self._unknown(0, batch - 1)
            while unknown is not None:
                reached, broken = self._walk(unknown, batch - 1, through=True)
                if broken:
                    return True
                unknown = self._unknown(reached, batch - 1)
        finally:
            self._lookouts = every
        return False

    def _unknown(self, first: int, last: int) -> int | None:
        """The first of the batches `first` … `last` of which not all is known."""
        if first > last:
            return None
        unknown = [np.flatnonzero(lookout.tally.counts(first, last) < 0)[:1] for lookout in self._lookouts]
        return min((first + int(each[0]) for each in unknown if each.size), default=None)

    def _known(self, batch: int) -> bool:
        return all(lookout.known(batch) for lookout in self._lookouts)

    def _worth_a_look(self, first: int, last: int, *, latest: bool = False) -> Iterator[int]:
        """Those of the batches in which something stops for all that is known, in order, or the latest first."""
        worth = np.zeros(last + 1 - first, bool)
        for lookout in self._lookouts:
            lookout.fill(first, last)
            worth |= lookout.worth_a_look(first, last)
        batches = np.flatnonzero(worth)
        return iter((first + (batches[::-1] if latest else batches)).tolist())

    def _last_worth_a_look(self, first: int, last: int) -> int | None:
        """The last of the batches `first` … `last` in which something stops for all that is known."""
        while last >= first:
            low = max(first, last - BLOCK + 1)
            if (batch := next(self._worth_a_look(low, last, latest=True), None)) is not None:
                return batch
            last = low - 1
        return None

    def _walk(self, first: int, last: int, *, through: bool = False) -> tuple[int, bool]:
        """Go through the batches from `first` on until something may stop in one of them, or, with `through`, up to `last`.

        How far it has come, all of which is then known, and whether it was broken off.
        """
        reached, quiet, broken, computed = first, 0, False, self._timeline.computed
        counting = [lookout for lookout in self._lookouts if lookout.counts]
        looking = [lookout for lookout in self._lookouts if not lookout.counts]
        uncounted, together = first, 1  # the first batch that those that count do not know of; how many they count at once

        def count(upto: int) -> bool:
            nonlocal uncounted, counting
            stops = [lookout.count(uncounted, upto) for lookout in counting] if uncounted <= upto else []
            looking.extend(lookout for lookout in counting if not lookout.counts)
            uncounted, counting = upto + 1, [lookout for lookout in counting if lookout.counts]
            return any(stops)

        def look(batch: int, record: BatchRecord) -> bool:
            changed = self._timeline.changed_in(batch)
            stops = changed and count(batch - 1)
            for lookout in (*looking, *counting) if changed else tuple(looking):
                if changed and lookout.trigger.plain:
                    continue
                if not lookout.known(batch):
                    stops = lookout.look(batch, record) or stops
                elif lookout.matters and not through:
                    stops = lookout.settle() or lookout.may_stop(batch) or stops
            return stops

        def visit(batch: int, record: BatchRecord) -> bool:
            nonlocal reached, quiet, broken, together
            reached, known = batch, all(lookout.known(batch) for lookout in looking)
            quiet = quiet + 1 if known else 0
            stops = look(batch, record)
            if batch + 1 - uncounted >= together:
                together = min(2 * together, COUNTED_TOGETHER)
                stops = count(batch) or stops
            broken = self._monitor(batch, record)
            return broken or (stops and not through) or (quiet >= QUIET and batch < computed)

        self._timeline.walk(first, last, visit)
        count(reached)
        for lookout in self._lookouts:
            lookout.settle()
        return reached, broken

    def _look_through(self, low: int, last: int) -> bool:
        """Have the batches before and up to `last` known, as many as are replayed at once. Whether it was broken off."""
        start = max(low, self._timeline.replay_start(max(0, last - CHUNK + 1)))
        while (unknown := self._unknown(start, last)) is not None:
            start, broken = self._walk(unknown, last, through=True)
            if broken:
                return True
        return False

    def _stop_in(self, batch: int, after: int, upto: int, *, latest: bool) -> Halt | None:
        """The first, or the latest, stop in a batch of which all is known."""
        stops: dict[int, list[Lookout]] = {}
        errors: dict[int, tuple[Lookout, ConditionError]] = {}
        for lookout in self._lookouts:
            if lookout.matters and lookout.may_stop(batch):
                for tick, _ in lookout.stops_in(batch):
                    stops.setdefault(tick, []).append(lookout)
                for tick, error in lookout.hits_in(batch).errors:
                    errors.setdefault(tick, (lookout, error))
        ticks = [tick for tick in (*stops, *errors) if after < tick <= upto]
        if not ticks:
            return None
        tick = max(ticks) if latest else min(ticks)
        if tick in errors:
            lookout, error = errors[tick]
            return Halt(tick, ((lookout.trigger, None),), error)
        return Halt(tick, tuple((lookout.trigger, lookout.number(tick)) for lookout in stops[tick]))
