"""The memory that a session may take for its past, and what each kind of thing may have of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from weakref import WeakSet

FEWEST = 2  # checkpoints that are kept, whatever the limit
CHANGE_BYTES = 1200  # memory of a change, with what undo keeps of it
PARTS: Mapping[str, int] = {"records": 8, "scalars": 8, "samples": 16}  # what these may take at most: such a part of the limit


class Thinned(Protocol):
    """The checkpoints of one stretch of training."""

    @property
    def count(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def thin(self, spacing: int) -> None:
        """Drop those that do not fall on the spacing."""


class Budget:
    """Bytes that all that a session keeps may take together.

    `PARTS` have their share, checkpoints the rest: where that is used up, every second one goes. What was done is never dropped.
    Changes take from what checkpoints may have, down to a quarter of the limit; where that is not enough, they exceed the limit.
    """

    def __init__(self, limit: int, stride: int = 1) -> None:
        self.spacing, self.changes = stride, 0  # the spacing of checkpoints, in batches; changes kept
        self._stretches: WeakSet[Thinned] = WeakSet()
        self._used = 0  # by checkpoints; counted again where it would be too much, since histories go without notice
        self.bound(limit)

    def share(self, kind: str) -> int:
        """Bytes that one of `PARTS` may take."""
        return self.limit // PARTS[kind]

    @property
    def for_checkpoints(self) -> int:
        """Bytes that all checkpoints may take."""
        return max(self._rest - self.changes * CHANGE_BYTES, self.limit // 4)

    def enter(self, stretch: Thinned) -> None:
        """Count the checkpoints of another stretch, which has had none so far."""
        self._stretches.add(stretch)

    def bound(self, limit: int) -> None:
        """Set another limit, and keep to it at once."""
        self.limit = limit
        self._rest = limit - sum(map(self.share, PARTS))
        self.took(0)

    def took(self, size: int) -> None:
        """A checkpoint of `size` bytes has been added; thin them where they take too much."""
        self._used += size
        while self._used > self.for_checkpoints:
            self._used = sum(stretch.nbytes for stretch in self._stretches)
            if self._used <= self.for_checkpoints or sum(stretch.count for stretch in self._stretches) <= FEWEST:
                return
            self.spacing *= 2
            for stretch in self._stretches:
                stretch.thin(self.spacing)
