"""The number of hits of each stop in each batch, and their places. Counted once and stored, because computed batches never change.

On another machine, a condition may hold at other places by the last digits of its numbers. The hits that were counted remain: the
fifth hit is the same place on every machine.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.timeline.timeline import Timeline

UNKNOWN = -1
RECENT = 64
MOST = 4  # timelines

HitKey = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Hits:
    """The ticks of a batch at which a stop is hit, in order; and the ticks at which it could not be evaluated, with the errors."""

    batch: int
    ticks: tuple[int, ...] = ()
    errors: tuple[tuple[int, ConditionError], ...] = ()


class HitCounts:
    """The number of hits of one stop in each batch of a timeline, as far as the hits have been counted."""

    def __init__(self) -> None:
        self._counts = np.full(0, UNKNOWN, np.int32)
        self._sums = np.zeros(1, np.int64)  # hits before each batch
        self._summed = 0  # the number of batches, from the first on, that are in the sums
        self._doubtful: set[int] = set()  # batches with a place at which the stop could not be evaluated
        self._recent: dict[int, Hits] = {}
        self._ticks = array("q")  # of the hits in batches that were tested, batch by batch in the order of testing
        self._places = np.full(0, UNKNOWN, np.int64)  # by batch: where its ticks begin in `_ticks`; UNKNOWN if it was not tested
        self.looked = False  # True if a batch had to be tested, so that counting again would take long

    @classmethod
    def of(
        cls,
        counts: NDArray[np.int32],
        doubtful: Iterable[int],
        batches: NDArray[np.int64] | None = None,
        ticks: NDArray[np.int64] | None = None,
    ) -> HitCounts:
        """Create from known counts: the number of hits in each batch, or UNKNOWN. `doubtful` are batches with errors. `batches` and
        `ticks` are those of `places`."""
        known = cls()
        known._counts, known._doubtful, known.looked = counts.copy(), set(doubtful), True
        if batches is not None and ticks is not None:
            known._ticks = array("q", ticks.tobytes())
            known._places = np.full(len(counts), UNKNOWN, np.int64)
            known._places[batches] = np.cumsum(counts[batches], dtype=np.int64) - counts[batches]
        return known

    @property
    def places(self) -> dict[str, NDArray[np.int64]]:
        """The `batches` with hits that were tested, (n), and the `ticks` of these hits, batch by batch."""
        batches = np.flatnonzero(self._places != UNKNOWN)
        every = np.frombuffer(self._ticks, np.int64) if self._ticks else np.empty(0, np.int64)
        parts = [every[at : at + count] for at, count in zip(self._places[batches], self._counts[batches], strict=True)]
        return {"batches": batches.astype(np.int64), "ticks": np.concatenate(parts or [every[:0]])}

    @property
    def known_counts(self) -> NDArray[np.int32]:
        """The number of hits in each batch, up to the last that is known, (n); UNKNOWN for others."""
        known = np.flatnonzero(self._counts != UNKNOWN)
        return self._counts[: known[-1] + 1 if known.size else 0]

    def counts(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the counts of the batches `first` … `last`, (last + 1 − first), UNKNOWN if not counted: a writable view."""
        missing = last + 1 - len(self._counts)
        if missing > 0:
            more = max(missing, len(self._counts) // 4, 64)
            self._counts = np.concatenate((self._counts, np.full(more, UNKNOWN, np.int32)))
        return self._counts[first : last + 1]

    def known(self, batch: int) -> bool:
        return batch < len(self._counts) and bool(self._counts[batch] != UNKNOWN)

    def note(self, hits: Hits) -> None:
        """Store the hits in a batch, unless they have been counted before: on another machine they may be at other places now."""
        self.looked = True
        if not self.known(hits.batch):
            self.counts(hits.batch, hits.batch)[0] = len(hits.ticks)
            self._note_places(hits)
        if hits.errors:
            self._doubtful.add(hits.batch)
        if hits.ticks or hits.errors:
            self._recent[hits.batch] = hits
            while len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]

    def _note_places(self, hits: Hits) -> None:
        if not hits.ticks:
            return
        missing = hits.batch + 1 - len(self._places)
        if missing > 0:
            more = max(missing, len(self._places) // 4, 64)
            self._places = np.concatenate((self._places, np.full(more, UNKNOWN, np.int64)))
        self._places[hits.batch] = len(self._ticks)
        self._ticks.extend(hits.ticks)

    def noted(self, batch: int) -> Hits | None:
        """Return the hits in a batch, as they were counted; None if the batch was not tested, or had an error longer ago."""
        if batch in self._recent or not self.known(batch) or batch in self._doubtful:
            return self._recent.get(batch)
        at = int(self._places[batch]) if batch < len(self._places) else UNKNOWN
        return None if at == UNKNOWN else Hits(batch, tuple(self._ticks[at : at + int(self._counts[batch])]))

    def doubtful(self, first: int, last: int) -> list[int]:
        """Return the batches among `first` … `last` in which the stop could not be evaluated at some place."""
        return [batch for batch in self._doubtful if first <= batch <= last]

    def before(self, batch: int) -> int | None:
        """Return the number of hits before a batch; None if not known."""
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

    def shared(self, batches: int) -> HitCounts:
        """Return the counts for a timeline that shares the first `batches` batches with this one."""
        shared = HitCounts()
        shared._counts, shared._places = self._counts[:batches].copy(), self._places[:batches].copy()
        shared._ticks = array("q", self._ticks)
        shared._doubtful = {batch for batch in self._doubtful if batch < batches}
        shared.looked = self.looked
        return shared


class HitCache:
    """A cache of hit counts, by timeline and key of the stop. Only the timelines used last are kept; others are counted again."""

    def __init__(self) -> None:
        self._of: OrderedDict[Timeline, dict[HitKey, HitCounts]] = OrderedDict()

    def put(self, timeline: Timeline, counts: Mapping[HitKey, HitCounts]) -> None:
        """Store the counts of a timeline."""
        self._of[timeline] = dict(counts)

    def of(self, timeline: Timeline, key: HitKey) -> HitCounts:
        """Return the counts of a stop on a timeline; those of batches shared with a cached timeline are copied from it."""
        if timeline not in self._of:
            self._of[timeline] = self._taken_over(timeline)
            while len(self._of) > MOST:
                self._of.popitem(last=False)
        self._of.move_to_end(timeline)
        return self._of[timeline].setdefault(key, HitCounts())

    def _taken_over(self, timeline: Timeline) -> dict[HitKey, HitCounts]:
        nearest = max(self._of, key=lambda each: _in_common(each, timeline), default=timeline)
        batches = _in_common(nearest, timeline)
        return {key: each.shared(batches) for key, each in self._of.get(nearest, {}).items()} if batches else {}


def _in_common(one: Timeline, other: Timeline) -> int:
    """Return the number of leading batches that two timelines share."""
    same = one.chain.shared(other.chain)
    parted = (each.segments[same].first_batch for each in (one, other) if same < len(each.segments))
    return min(parted, default=max(one.computed, other.computed) + 1) if same else 0
