"""Batches kept at hand, so that what is near in time need not be run again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from tui_gru.engine.batch import BatchRecord

MOST_BYTES = 32 * 2**20
MOST, LEAST = 64, 4
MOST_OF_A_RUN = 2  # more of them would not stay in the processor's cache, and the way to one from a checkpoint is short


@dataclass(frozen=True, eq=False)
class Kept:
    """A finished batch. `earlier` (carry `notebook`) holds the records of the epoch's batches before it, the latest first."""

    record: BatchRecord
    earlier: Sequence[BatchRecord] = ()


class Records:
    """The batches at hand of all stretches of a session; those not used for longest go first. What is kept here never changes."""

    def __init__(self, record_bytes: int) -> None:
        self._most = max(LEAST, min(MOST, MOST_BYTES // record_bytes))
        self._stretches = count()
        self._kept: OrderedDict[tuple[int, int], Kept] = OrderedDict()

    @property
    def run(self) -> int:
        """How many to keep of those on the way to a batch, so that the steps back from there are at hand."""
        return min(self._most // 4, MOST_OF_A_RUN)

    def new_stretch(self) -> int:
        """A number of its own for another stretch."""
        return next(self._stretches)

    def keep(self, stretch: int, batch: int, kept: Kept) -> None:
        """Keep a batch of a stretch."""
        self._kept[stretch, batch] = kept
        self._kept.move_to_end((stretch, batch))
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def nearest(self, stretch: int, batch: int) -> tuple[int, Kept] | None:
        """The last batch of a stretch that is kept, at or before `batch`; None if there is none."""
        at = max((b for s, b in self._kept if s == stretch and b <= batch), default=None)
        if at is None:
            return None
        self._kept.move_to_end((stretch, at))
        return at, self._kept[stretch, at]
