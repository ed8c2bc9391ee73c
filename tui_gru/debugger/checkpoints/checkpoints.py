"""The past of one stretch of training: its checkpoints, and the rows of its scalars."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np

from tui_gru.debugger.checkpoints.budget import Budget
from tui_gru.debugger.checkpoints.scalars import ScalarRows, Scalars

POINTERS = 96  # bytes that a checkpoint uses besides its contents
_BATCH = itemgetter(0)


class Checkpoints:
    """Checkpoints and scalars of consecutive batches from `first` on.

    A checkpoint is the state at the start of a batch, as immutable bytes: the weights with the states of the update rule, then
    the hidden states. Checkpoints are at multiples of the budget's spacing; with carry `notebook` the spacing is a multiple of
    the batches in an epoch, because a replay must begin at the start of an epoch.
    """

    __slots__ = ("__weakref__", "_budget", "_end", "_rows", "_runs", "_scalars", "first", "length")

    def __init__(self, first: int, budget: Budget, scalars: Scalars) -> None:
        self.first, self.length = first, 0  # computed batches: first … first + length − 1
        self._budget, self._scalars = budget, scalars
        self._rows: list[tuple[int, bytes]] = []  # checkpoints by batch, in order
        self._runs: list[tuple[int, int]] = []  # (batch − first, row of its scalars); later batches follow in order
        self._end = -1  # the row after the last one

    # Checkpoints

    @property
    def count(self) -> int:
        """The number of checkpoints."""
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """The memory of the checkpoints, in bytes."""
        return len(self._rows) * _size(self._rows[0][1]) if self._rows else 0

    def is_due(self, batch: int) -> bool:
        """Return True if a checkpoint of `batch` is due: it is the next batch to be computed and a multiple of the spacing."""
        return self.first < batch == self.first + self.length and batch % self._budget.spacing == 0

    def keep(self, batch: int, checkpoint: bytes) -> None:
        """Store the checkpoint of `batch`, which is later than all others."""
        if not self._rows:
            self._budget.enter(self)
        self._rows.append((batch, checkpoint))
        self._budget.took(_size(checkpoint))

    def thin(self, spacing: int) -> None:
        """Drop the checkpoints whose batch is not a multiple of `spacing`."""
        self._rows = [row for row in self._rows if row[0] % spacing == 0]

    def before(self, batch: int) -> tuple[int, bytes] | None:
        """Return the batch and bytes of the last checkpoint at or before `batch`; None if there is none."""
        i = bisect_right(self._rows, batch, key=_BATCH)
        return self._rows[i - 1] if i else None

    def at(self, batch: int) -> bytes | None:
        """Return the checkpoint of `batch`; None if it has none."""
        checkpoint = self.before(batch)
        return checkpoint[1] if checkpoint is not None and checkpoint[0] == batch else None

    def after(self, batch: int) -> Sequence[tuple[int, bytes]]:
        """Return all checkpoints after `batch`, in order."""
        return self._rows[bisect_right(self._rows, batch, key=_BATCH) :]

    # Numbers

    def add(self, numbers: Sequence[float]) -> None:
        """Add the scalars of the next batch, in the order of `COLUMNS`."""
        self._added(self._scalars.add(numbers), 1)

    def add_all(self, numbers: ScalarRows) -> None:
        """Add the scalars of the next batches, (n, 3)."""
        self._added(self._scalars.add_all(numbers), len(numbers))

    def _added(self, row: int, count: int) -> None:
        if row != self._end:
            self._runs.append((self.length, row))
        self.length += count
        self._end = row + count

    def numbers(self, batch: int) -> list[float]:
        """Return the scalars of a computed batch, in the order of `COLUMNS`."""
        return self._scalars.row(self._row(batch - self.first))

    def column(self, name: str, first: int, last: int) -> ScalarRows:
        """Return one of `COLUMNS` for the computed batches `first` … `last`, (last + 1 − first)."""
        parts = [self._scalars.column(name, row, count) for row, count in self._between(first - self.first, last + 1 - self.first)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _row(self, at: int) -> int:
        start, row = self._runs[bisect_right(self._runs, (at, sys.maxsize)) - 1]
        return row + at - start

    def _between(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the rows of the batches begin … end − 1 (counted from `first`), as pairs of a first row and a number of rows."""
        i = bisect_right(self._runs, (begin, sys.maxsize)) - 1
        while begin < end:
            upto = min(end, self._runs[i + 1][0]) if i + 1 < len(self._runs) else end
            yield self._row(begin), upto - begin
            begin, i = upto, i + 1


def _size(checkpoint: bytes) -> int:
    return sys.getsizeof(checkpoint) + POINTERS
