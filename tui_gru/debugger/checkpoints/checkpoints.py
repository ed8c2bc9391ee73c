"""The past of one stretch of training: checkpoints, and where the numbers of its batches are."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np

from tui_gru.debugger.checkpoints.budget import Budget
from tui_gru.debugger.checkpoints.scalars import Rows, Scalars

POINTERS = 96  # bytes that a checkpoint takes besides its own
_BATCH = itemgetter(0)


class Checkpoints:
    """Checkpoints and numbers of consecutive batches from `first` on.

    A checkpoint is the state with which a batch begins, as bytes that nothing can change: the weights with what the update rule
    keeps, then the hidden states. They fall on the multiples of the budget's spacing; for carry `notebook` that is a multiple of
    the batches in an epoch, since a replay must begin with one.
    """

    __slots__ = ("__weakref__", "_budget", "_rows", "_runs", "_scalars", "first", "length")

    def __init__(self, first: int, budget: Budget, scalars: Scalars) -> None:
        self.first, self.length = first, 0  # batches run: first … first + length − 1
        self._budget, self._scalars = budget, scalars
        self._rows: list[tuple[int, bytes]] = []  # checkpoints by batch, in order
        self._runs: list[tuple[int, int]] = []  # (batch, counted from `first`; the row of its numbers): the next ones follow

    # Checkpoints

    @property
    def count(self) -> int:
        """How many checkpoints there are."""
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Memory of the checkpoints."""
        return len(self._rows) * _size(self._rows[0][1]) if self._rows else 0

    def is_due(self, batch: int) -> bool:
        """Whether the state before `batch` is to be kept: it is the next one to be run, and falls on the spacing."""
        return self.first < batch == self.first + self.length and batch % self._budget.spacing == 0

    def keep(self, batch: int, checkpoint: bytes) -> None:
        """Keep the state before `batch`, which comes after all that have a checkpoint."""
        if not self._rows:
            self._budget.enter(self)
        self._rows.append((batch, checkpoint))
        self._budget.took(_size(checkpoint))

    def thin(self, spacing: int) -> None:
        """Drop the checkpoints that do not fall on the spacing."""
        self._rows = [row for row in self._rows if row[0] % spacing == 0]

    def before(self, batch: int) -> tuple[int, bytes] | None:
        """The last checkpoint at or before `batch`: its batch and its bytes. None if there is none."""
        i = bisect_right(self._rows, batch, key=_BATCH)
        return self._rows[i - 1] if i else None

    def at(self, batch: int) -> bytes | None:
        """The checkpoint of a batch; None where it has none."""
        checkpoint = self.before(batch)
        return checkpoint[1] if checkpoint is not None and checkpoint[0] == batch else None

    def after(self, batch: int) -> Sequence[tuple[int, bytes]]:
        """All checkpoints after `batch`, in order."""
        return self._rows[bisect_right(self._rows, batch, key=_BATCH) :]

    # Numbers

    def add(self, numbers: Rows | Sequence[Sequence[float]]) -> None:
        """Note the numbers of the next batches (n, 3), one for each of `COLUMNS`."""
        row = self._scalars.add(numbers)
        if not self._runs or self._row(self.length) != row:
            self._runs.append((self.length, row))
        self.length += len(numbers)

    def numbers(self, batch: int) -> list[float]:
        """The numbers of a batch that has been run, one for each of `COLUMNS`."""
        return self._scalars.row(self._row(batch - self.first))

    def column(self, name: str, first: int, last: int) -> Rows:
        """One of `COLUMNS` of the batches `first` … `last`, which have been run."""
        parts = [self._scalars.column(name, row, count) for row, count in self._between(first - self.first, last + 1 - self.first)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _row(self, at: int) -> int:
        start, row = self._runs[bisect_right(self._runs, (at, sys.maxsize)) - 1]
        return row + at - start

    def _between(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The rows of the batches begin … end − 1, counted from `first`: a row, and how many from there on."""
        i = bisect_right(self._runs, (begin, sys.maxsize)) - 1
        while begin < end:
            upto = min(end, self._runs[i + 1][0]) if i + 1 < len(self._runs) else end
            yield self._row(begin), upto - begin
            begin, i = upto, i + 1


def _size(checkpoint: bytes) -> int:
    return sys.getsizeof(checkpoint) + POINTERS
