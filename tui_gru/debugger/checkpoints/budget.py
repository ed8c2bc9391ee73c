"""The memory that a session may use for its past, and the share of each kind of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from tui_gru.debugger.checkpoints.checkpoints import Checkpoints

EXCESS = 1.5  # times the limit: the most that is used for a moment, such as during a change
FEWEST = 2  # checkpoints that are never dropped
CHANGE_BYTES = 1200  # memory of a change, including its undo data
PARTS: Mapping[str, int] = {"records": 8, "scalars": 8, "samples": 16}  # the limit divided by this is the most that each may take


class Budget:
    """The memory limit of a session, in bytes.

    Each of `PARTS` has its share; checkpoints use the rest. When the rest is used up, every second checkpoint is dropped. Changes
    are never dropped: they reduce the memory for checkpoints, down to a quarter of the limit; beyond that they exceed the limit.
    `records` is the memory that batches take at most, in bytes, even if it is more than their share. It reduces the memory for
    checkpoints down to an eighth of the limit, so that all together stay within `EXCESS` times the limit if it is large enough.
    """

    def __init__(self, limit: int, stride: int = 1, records: int = 0) -> None:
        self.spacing, self.changes = stride, 0  # spacing: batches between checkpoints; changes: their number
        self._stretches: WeakSet[Checkpoints] = WeakSet()
        self._used = 0  # bytes of checkpoints; an upper bound, since deleted stretches are not subtracted
        self.bound(limit, records)

    @property
    def is_enough(self) -> bool:
        """True if no more than `EXCESS` times the limit is used at any time."""
        return self._records + self.share("scalars") + self.share("samples") + self.limit // 8 <= self.limit * EXCESS

    @property
    def needed(self) -> int:
        """The bytes that are used at most, without changes."""
        return self._records + self._rest + self.share("scalars") + self.share("samples")

    def share(self, kind: str) -> int:
        """Return the bytes that one of `PARTS` may use."""
        return self.limit // PARTS[kind]

    @property
    def for_checkpoints(self) -> int:
        """The bytes that all checkpoints together may use."""
        return max(self._rest - self.changes * CHANGE_BYTES, min(self.limit // 4, max(self._rest, self.limit // 8)))

    def enter(self, stretch: Checkpoints) -> None:
        """Count the checkpoints of a new stretch, which has none yet."""
        self._stretches.add(stretch)

    def bound(self, limit: int, records: int = 0) -> None:
        """Set another limit, and apply it immediately; `records` as for the class."""
        self.limit, self._records = limit, records
        self._rest = limit - sum(map(self.share, PARTS))
        if self.is_enough:  # otherwise the limit does not hold, and fewer checkpoints would only make it slower
            room = limit * EXCESS - self.share("scalars") - self.share("samples") - self._records
            self._rest = min(self._rest, max(int(room), limit // 8))
        self.took(0)

    def took(self, size: int) -> None:
        """Note a new checkpoint of `size` bytes, and drop checkpoints if they use too much."""
        self._used += size
        while self._used > self.for_checkpoints:
            self._used = sum(stretch.nbytes for stretch in self._stretches)
            if self._used <= self.for_checkpoints or sum(stretch.count for stretch in self._stretches) <= FEWEST:
                return
            self.spacing *= 2
            for stretch in self._stretches:
                stretch.thin(self.spacing)
