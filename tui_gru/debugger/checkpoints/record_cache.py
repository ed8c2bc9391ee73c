"""A cache of batches, so that nearby batches need not be computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from tui_gru.debugger.checkpoints.budget import Budget
from tui_gru.engine.config import Config
from tui_gru.engine.running.batch import BatchRecord

MOST = 64  # batches cached, however small they are
MOST_OF_A_RUN = 2  # more would not fit into the processor's cache, and a replay from a checkpoint is short
LEAST_GIVEN = 2  # in a run on given batches, which computes no batch on the way to another
LEAST = 4  # batches cached regardless of the limit, unless they are large: the one shown, the one before it, and two to compute in
LEAST_LARGE = 3  # the one shown, the same before a change, and the one before it
IN_USE = 14  # records in use besides the cached ones, at most: by what is shown, and while batches are computed and changed
IN_USE_LARGE = 5  # the same if a batch begins with a copy of the weights, and so does not hold the record of the batch before
RECORD, VIEW = 22_000, 160  # measured bytes of a record besides its numbers, and of each view that it creates for a pass


def size_at_hand(config: Config) -> int:
    """Return the memory of one cached batch, in bytes, including overhead, which dominates for small models."""
    return config.record_bytes + RECORD + VIEW * config.compiled.views


@dataclass(frozen=True, eq=False, slots=True)
class CachedBatch:
    """A computed batch. `earlier` (carry `notebook`) has the records of the epoch's batches before it, latest first."""

    record: BatchRecord
    earlier: Sequence[BatchRecord] = ()


class RecordCache:
    """The cached batches of all stretches of a session; the least recently used are dropped first. Cached batches never change."""

    def __init__(self, budget: Budget, record_bytes: int, least: int = LEAST) -> None:
        self._budget, self._record_bytes, self._most, self.least = budget, record_bytes, MOST, least
        self._kept: OrderedDict[tuple[int, int], CachedBatch] = OrderedDict()  # by stretch and batch
        self._in_passes = False  # whether any batch had earlier ones

    @property
    def most(self) -> int:
        """The number of batches that may be cached, without the earlier ones of an epoch that the newest needs."""
        return max(self.least, min(self._most, self._budget.share("records") // self._record_bytes))

    @property
    def run(self) -> int:
        """The number of batches to cache on the way to a batch, so that steps back from it are fast."""
        return min(self.most // 4, MOST_OF_A_RUN)

    def make_room(self) -> None:
        """Drop so many batches that another can be cached; it can then be computed in the record of one of them."""
        while len(self._kept) >= self.most:
            self._kept.popitem(last=False)

    def keep(self, stretch: int, batch: int, kept: CachedBatch) -> None:
        """Cache a batch of a stretch."""
        self._kept[stretch, batch] = kept
        self._in_passes = self._in_passes or bool(kept.earlier)
        self._kept.move_to_end((stretch, batch))
        least = self.least + len(kept.earlier)
        most = max(least, self._budget.share("records") // self._record_bytes)
        while len(self._kept) > self._most or (len(self._kept) > 1 and self._held() > most):
            self._kept.popitem(last=False)

    def has(self, stretch: int, batch: int) -> bool:
        """Return True if a batch of a stretch is cached."""
        return (stretch, batch) in self._kept

    def nearest(self, stretch: int, batch: int) -> tuple[int, CachedBatch] | None:
        """Return the last cached batch of a stretch at or before `batch`, with its number; None if there is none."""
        earlier = (b for s, b in self._kept if s == stretch and b <= batch)
        at = batch if self.has(stretch, batch) else max(earlier, default=None)
        if at is None:
            return None
        self._kept.move_to_end((stretch, at))
        return at, self._kept[stretch, at]

    def clear(self) -> None:
        """Drop all batches."""
        self._kept.clear()

    def _held(self) -> int:
        """Return the number of records in memory. Batches of one pass through an epoch share their earlier records."""
        if not self._in_passes:
            return len(self._kept)
        passes: dict[int, int] = {}
        for kept in self._kept.values():
            first = id(kept.earlier[-1] if kept.earlier else kept.record)
            passes[first] = max(passes.get(first, 0), 1 + len(kept.earlier))
        return sum(passes.values())
