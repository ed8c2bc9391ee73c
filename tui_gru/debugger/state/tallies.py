"""How often each trigger is hit in each batch: counted once and remembered, since what has been run never changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.expressions.conditions import ConditionError
from tui_gru.debugger.timeline.timeline import Timeline

UNKNOWN = -1
RECENT = 64
MOST = 4  # timelines

Key = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Hits:
    """The ticks of a batch at which a trigger is hit, in order; and those at which that cannot be told, with the reasons."""

    batch: int
    ticks: tuple[int, ...] = ()
    errors: tuple[tuple[int, ConditionError], ...] = ()


class Tally:
    """The number of hits of one trigger in each batch of a timeline, as far as it is known."""

    def __init__(self) -> None:
        self._counts = np.full(0, UNKNOWN, np.int32)
        self._sums = np.zeros(1, np.int64)  # hits before each batch
        self._summed = 0  # the batches from the first on that are in the sums
        self._doubtful: set[int] = set()  # batches where it cannot be told at some place
        self._recent: dict[int, Hits] = {}
        self.looked = False  # whether a batch had to be looked into, so that counting again would take long

    @classmethod
    def of(cls, counts: NDArray[np.int32], doubtful: Iterable[int]) -> Tally:
        """One that is known already: the number of hits in each batch, UNKNOWN where it is not known."""
        tally = cls()
        tally._counts, tally._doubtful, tally.looked = counts.copy(), set(doubtful), True
        return tally

    @property
    def known_counts(self) -> NDArray[np.int32]:
        """The number of hits in each batch, up to the last that is known."""
        known = np.flatnonzero(self._counts != UNKNOWN)
        return self._counts[: known[-1] + 1 if known.size else 0]

    def counts(self, first: int, last: int) -> NDArray[np.int32]:
        """Of the batches `first` … `last`; UNKNOWN where it has to be found out. What is written to it is noted."""
        missing = last + 1 - len(self._counts)
        if missing > 0:
            more = max(missing, len(self._counts) // 4, 64)
            self._counts = np.concatenate((self._counts, np.full(more, UNKNOWN, np.int32)))
        return self._counts[first : last + 1]

    def known(self, batch: int) -> bool:
        return batch < len(self._counts) and bool(self._counts[batch] != UNKNOWN)

    def note(self, hits: Hits) -> None:
        """Write down the hits in a batch."""
        self.looked = True
        self.counts(hits.batch, hits.batch)[0] = len(hits.ticks)
        if hits.errors:
            self._doubtful.add(hits.batch)
        if hits.ticks or hits.errors:
            self._recent[hits.batch] = hits
            while len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]

    def noted(self, batch: int) -> Hits | None:
        """The hits in a batch, if they are still at hand."""
        return self._recent.get(batch)

    def doubtful(self, first: int, last: int) -> list[int]:
        """The batches `first` … `last` with a place at which it cannot be told whether it is hit."""
        return [batch for batch in self._doubtful if first <= batch <= last]

    def before(self, batch: int) -> int | None:
        """How many hits there are before a batch; None if that is not known."""
        if batch > self._summed:
            counts = self.counts(self._summed, batch - 1)
            unknown = np.flatnonzero(counts == UNKNOWN)
            counts = counts[: unknown[0]] if unknown.size else counts
            upto = self._summed + len(counts)
            if upto >= len(self._sums):
                self._sums = np.concatenate((self._sums, np.zeros(max(upto + 1 - len(self._sums), len(self._sums) // 4), np.int64)))
            self._sums[self._summed + 1 : upto + 1] = self._sums[self._summed] + np.cumsum(counts)
            self._summed = upto
        return int(self._sums[batch]) if batch <= self._summed else None

    def shared(self, batches: int) -> Tally:
        """A tally of another timeline, which has the first `batches` in common with this one."""
        tally = Tally()
        tally._counts = self._counts[:batches].copy()
        tally._doubtful = {batch for batch in self._doubtful if batch < batches}
        tally.looked = self.looked
        return tally


class Tallies:
    """The tallies of the timelines that were asked about last, by the keys of triggers. Those of others are counted anew."""

    def __init__(self) -> None:
        self._of: OrderedDict[Timeline, dict[Key, Tally]] = OrderedDict()

    def put(self, timeline: Timeline, tallies: Mapping[Key, Tally]) -> None:
        """Take over tallies of a timeline."""
        self._of[timeline] = dict(tallies)

    def of(self, timeline: Timeline, key: Key) -> Tally:
        """The tally of a trigger; what is known of a timeline with the same beginning is taken over."""
        if timeline not in self._of:
            self._of[timeline] = self._taken_over(timeline)
            while len(self._of) > MOST:
                self._of.popitem(last=False)
        self._of.move_to_end(timeline)
        return self._of[timeline].setdefault(key, Tally())

    def _taken_over(self, timeline: Timeline) -> dict[Key, Tally]:
        likest = max(self._of, key=lambda each: _in_common(each, timeline), default=timeline)
        batches = _in_common(likest, timeline)
        return {key: tally.shared(batches) for key, tally in self._of.get(likest, {}).items()} if batches else {}


def _in_common(one: Timeline, other: Timeline) -> int:
    """How many of the first batches two timelines have in common."""
    same = one.common(other)
    parted = (each.segments[same].first_batch for each in (one, other) if same < len(each.segments))
    return min(parted, default=max(one.computed, other.computed) + 1) if same else 0
