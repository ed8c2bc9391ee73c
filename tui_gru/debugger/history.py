"""The past of one stretch of training, within a memory budget: checkpoints, and a few numbers of every batch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.weights import Array, Weights

COLUMNS = ("loss", "grad_norm", "max_weight")
FEWEST = 2  # checkpoints that a stretch keeps, whatever the budget


class Budget:
    """Bytes that the histories of all stretches of a session may take together: where it is used up, the densest is thinned."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._histories: WeakSet[History] = WeakSet()
        self._used = 0  # counted again where it would be too much, since histories go without a word

    def enter(self, history: History) -> None:
        self._histories.add(history)

    def bound(self, limit: int) -> None:
        """Set another limit, and keep to it at once."""
        self.limit = limit
        self.take(0)

    def take(self, size: int) -> None:
        """Count `size` more bytes; thin checkpoints where that is too much."""
        self._used += size
        while self._used > self.limit:
            self._used = sum(history.nbytes for history in self._histories) + size
            thick = [history for history in self._histories if history.count > FEWEST]
            if self._used <= self.limit or not thick:
                return
            min(thick, key=lambda history: (history.spacing, -history.count)).thin()


class History:
    """Checkpoints of consecutive batches from `first` on, evenly spaced; the spacing doubles when the budget is used up.

    A checkpoint is the state with which a batch after the first begins, as bytes that nothing can change: the weights with what the
    update rule keeps, then the hidden states. Columns hold loss, gradient norm and largest |weight| of every batch. For carry
    `notebook`, `stride` is the number of batches in an epoch, since a replay must begin with one."""

    def __init__(self, first: int, budget: Budget, stride: int = 1) -> None:
        self.first, self.length = first, 0  # batches run: first … first + length − 1
        self._budget, self._stride = budget, stride
        self._aligned = -(-(first + 1) // stride) * stride  # the first batch that can have a checkpoint
        self._rows: list[bytes] = []
        self._spacing = 1
        self._columns = np.empty((len(COLUMNS), 0))
        budget.enter(self)

    @property
    def count(self) -> int:
        """How many checkpoints there are."""
        return len(self._rows)

    @property
    def spacing(self) -> int:
        """Batches between two checkpoints."""
        return self._spacing * self._stride

    @property
    def nbytes(self) -> int:
        row = sys.getsizeof(self._rows[0]) if self._rows else 0
        return sys.getsizeof(self._rows) + len(self._rows) * row + self._columns.nbytes

    def is_due(self, batch: int) -> bool:
        """Whether the state before `batch` is to be kept: it falls on the spacing, and is the next one."""
        return batch == self._aligned + len(self._rows) * self.spacing

    def keep(self, batch: int, weights: Weights, state: Array) -> None:
        """Keep the state before `batch`, which is due."""
        row = weights.tobytes() + state.tobytes()
        self._budget.take(sys.getsizeof(row))
        if self.is_due(batch):
            self._rows.append(row)

    def thin(self) -> None:
        """Drop every second checkpoint."""
        self._rows, self._spacing = self._rows[::2], self._spacing * 2

    def before(self, batch: int) -> tuple[int, bytes] | None:
        """The last checkpoint at or before `batch`: its batch and its bytes. None if there is none."""
        index = min((batch - self._aligned) // self.spacing, len(self._rows) - 1)
        return (self._aligned + index * self.spacing, self._rows[index]) if index >= 0 else None

    def at(self, batch: int) -> bytes | None:
        """The checkpoint of a batch; None where it has none."""
        index, off = divmod(batch - self._aligned, self.spacing)
        return self._rows[index] if not off and 0 <= index < len(self._rows) else None

    def checkpoints(self) -> tuple[range, Sequence[bytes]]:
        """The batches of all checkpoints, and their bytes."""
        return range(self._aligned, self._aligned + len(self._rows) * self.spacing, self.spacing), self._rows

    def restore(self, columns: Mapping[str, NDArray[np.float64]], spacing: int, rows: Sequence[bytes]) -> None:
        """Take over what another history of these batches held: its columns, and its checkpoints, every `spacing` batches."""
        joined = np.array([columns[name] for name in COLUMNS])
        self._budget.take(sum(map(sys.getsizeof, rows)) + joined.nbytes)
        self._columns, self.length = joined, joined.shape[1]
        self._rows, self._spacing = list(rows), spacing // self._stride

    def add(self, record: BatchRecord) -> None:
        """Note the numbers of the next batch."""
        i, capacity = self.length, self._columns.shape[1]
        if i == capacity:
            grown = np.empty((len(COLUMNS), max(64, i + (i >> 2))))
            grown[:, :i] = self._columns
            self._budget.take(grown.nbytes - self._columns.nbytes)
            self._columns = grown
        self._columns[:, i] = record.loss, record.grad_norm, record.max_weight
        self.length = i + 1

    def column(self, name: str) -> NDArray[np.float64]:
        """loss, grad_norm or max_weight of every batch run, (length), read-only."""
        column = self._columns[COLUMNS.index(name), : self.length]
        column.flags.writeable = False
        return column
