"""Batches kept at hand, so that what is near in time need not be run again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from tui_gru.debugger.checkpoints.budget import Budget
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config

MOST = 64
MOST_OF_A_RUN = 2  # more of them would not stay in the processor's cache, and the way to one from a checkpoint is short
LEAST_GIVEN = 2  # of a run on given batches, in which none is run on the way to another
LEAST = 4  # batches that are kept whatever the limit: the one shown, the one before it, and two to run in
RECORD, VIEW = 25_000, 160  # bytes that a record takes besides its numbers, and each array that it cuts for a pass; measured


def size_at_hand(config: Config) -> int:
    """Memory of one batch at hand, bytes: of a small model most of it is not the numbers."""
    return config.record_bytes + RECORD + VIEW * config.compiled.views


@dataclass(frozen=True, eq=False, slots=True)
class CachedBatch:
    """A finished batch. `earlier` (carry `notebook`) holds the records of the epoch's batches before it, the latest first."""

    record: BatchRecord
    earlier: Sequence[BatchRecord] = ()


class RecordCache:
    """The batches at hand of all stretches of a session; those not used for longest go first. What is kept here never changes."""

    def __init__(self, budget: Budget, record_bytes: int, least: int = LEAST) -> None:
        self._budget, self._record_bytes, self._most, self._least = budget, record_bytes, MOST, least
        self._kept: OrderedDict[tuple[int, int], CachedBatch] = OrderedDict()
        self._of: dict[int, dict[int, CachedBatch]] = {}  # by stretch; each is in `_kept` as well, even after an interrupt
        self._in_passes = False  # whether any batch had earlier ones

    @property
    def run(self) -> int:
        """How many to keep of those on the way to a batch, so that the steps back from there are at hand."""
        return min(max(self._least, min(self._most, self._budget.share("records") // self._record_bytes)) // 4, MOST_OF_A_RUN)

    def keep(self, stretch: int, batch: int, kept: CachedBatch) -> None:
        """Keep a batch of a stretch."""
        self._kept[stretch, batch] = kept
        self._in_passes = self._in_passes or bool(kept.earlier)
        self._kept.move_to_end((stretch, batch))
        self._of.setdefault(stretch, {})[batch] = kept
        least = self._least + len(kept.earlier)
        most = max(least, self._budget.share("records") // self._record_bytes)
        while len(self._kept) > self._most or (len(self._kept) > 1 and self._held() > most):
            self._drop(*next(iter(self._kept)))

    def nearest(self, stretch: int, batch: int) -> tuple[int, CachedBatch] | None:
        """The last batch of a stretch that is kept, at or before `batch`; None if there is none."""
        of = self._of.get(stretch, {})
        at = batch if batch in of else max((b for b in of if b <= batch), default=None)
        if at is None:
            return None
        self._kept.move_to_end((stretch, at))
        return at, of[at]

    def clear(self) -> None:
        """Keep nothing any more."""
        self._of.clear()
        self._kept.clear()

    def _drop(self, stretch: int, batch: int) -> None:
        of = self._of.get(stretch, {})
        of.pop(batch, None)
        if not of:
            self._of.pop(stretch, None)
        del self._kept[stretch, batch]

    def _held(self) -> int:
        """How many batches are in memory. Those of one pass through an epoch have their earlier ones in common."""
        if not self._in_passes:
            return len(self._kept)
        passes: dict[int, int] = {}
        for kept in self._kept.values():
            first = id(kept.earlier[-1] if kept.earlier else kept.record)
            passes[first] = max(passes.get(first, 0), 1 + len(kept.earlier))
        return sum(passes.values())
