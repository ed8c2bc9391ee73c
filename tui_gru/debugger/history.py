"""The past of one stretch of training, within a memory budget: checkpoints, and a few numbers of every batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.parameters import Array
from tui_gru.engine.record import BatchRecord

COLUMNS = ("loss", "grad_norm", "max_weight")


@dataclass
class Budget:
    """Bytes that the checkpoints of all stretches of a session may take together."""

    limit: int
    used: int = 0


class History:
    """Checkpoints of consecutive batches from `first` on, evenly spaced; the spacing doubles when the budget is used up.

    A checkpoint is the state with which a batch after the first begins: all parameters (P) and the hidden state (B H), as one row.
    Columns hold loss, gradient norm and largest |weight| of every batch. For carry `notebook`, `stride` is the number of batches
    in an epoch, since a replay must begin with one.
    """

    def __init__(self, first: int, row: int, dtype: str, budget: Budget, stride: int = 1) -> None:
        self.first, self.length = first, 0  # batches run: first … first + length − 1
        self._row, self._dtype, self._budget, self._stride = row, dtype, budget, stride
        self._spacing = 1
        self._rows = np.empty((0, row), dtype)
        self._count = 0
        self._columns = {name: np.empty(0) for name in COLUMNS}

    @property
    def spacing(self) -> int:
        """Batches between two checkpoints."""
        return self._spacing * self._stride

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + sum(column.nbytes for column in self._columns.values())

    def is_due(self, batch: int) -> bool:
        """Whether the state before `batch` is to be kept: it falls on the spacing, and is the next one."""
        offset = batch - self._aligned
        return offset >= 0 and offset % self.spacing == 0 and offset // self.spacing == self._count

    @property
    def _aligned(self) -> int:
        return -(-(self.first + 1) // self._stride) * self._stride

    def keep(self, batch: int, parameters: Array, state: Array) -> None:
        """Keep the state before `batch`, which is due."""
        if self._count == len(self._rows):
            self._grow()
            if not self.is_due(batch):
                return
        row = self._rows[self._count]
        row[: parameters.size] = parameters
        row[parameters.size :] = state.ravel()
        self._count += 1

    def _grow(self) -> None:
        row_bytes = self._row * np.dtype(self._dtype).itemsize
        more = max(4, min(len(self._rows), 1 + (1 << 22) // row_bytes))
        if self._budget.used + more * row_bytes > self._budget.limit and self._count >= 2:
            self._thin()
            return
        self._rows = np.concatenate([self._rows, np.empty((more, self._row), self._dtype)])
        self._budget.used += more * row_bytes

    def _thin(self) -> None:
        """Drop every second checkpoint."""
        kept = (self._count + 1) // 2
        self._rows[:kept] = self._rows[: self._count : 2]
        self._count, self._spacing = kept, self._spacing * 2

    def before(self, batch: int) -> tuple[int, Array] | None:
        """The last checkpoint at or before `batch`: its batch and its row, read-only. None if there is none."""
        offset = batch - self._aligned
        if offset < 0 or not self._count:
            return None
        index = min(offset // self.spacing, self._count - 1)
        row = self._rows[index].view()
        row.flags.writeable = False
        return self._aligned + index * self.spacing, row

    def checkpoints(self) -> tuple[range, Array]:
        """The batches of all checkpoints, and their rows, read-only."""
        rows = self._rows[: self._count].view()
        rows.flags.writeable = False
        return range(self._aligned, self._aligned + self._count * self.spacing, self.spacing), rows

    def restore(self, columns: Mapping[str, NDArray[np.float64]], spacing: int, rows: Array) -> None:
        """Take over what another history of these batches held: its columns, and its checkpoints, every `spacing` batches."""
        self._columns = {name: columns[name].copy() for name in COLUMNS}
        self.length = len(self._columns["loss"])
        self._budget.used += rows.nbytes - self._rows.nbytes
        self._rows, self._count, self._spacing = rows, len(rows), spacing // self._stride

    def add(self, batch: int, record: BatchRecord, max_weight: float) -> None:
        """Note the numbers of `batch`, the next one."""
        i = batch - self.first
        if i >= len(self._columns["loss"]):
            size = max(64, i + (i >> 1))
            for name in COLUMNS:
                grown = np.empty(size)
                grown[: self.length] = self._columns[name][: self.length]
                self._columns[name] = grown
        self._columns["loss"][i] = record.loss
        self._columns["grad_norm"][i] = record.grad_norm
        self._columns["max_weight"][i] = max_weight
        self.length = i + 1

    def column(self, name: str) -> NDArray[np.float64]:
        """loss, grad_norm or max_weight of every batch run, (length)."""
        return self._columns[name][: self.length]
