"""loss, grad_norm and max_weight of every computed batch: the newest in memory, older ones in a temporary file."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.budget import Budget
from tui_gru.engine.errors import TuiGruError

COLUMNS = ("loss", "grad_norm", "max_weight")
BLOCK = 1024  # rows that are written to the file together
READ = 8  # blocks of the file that are cached
BLOCK_BYTES = 8 * len(COLUMNS) * BLOCK

ScalarRows = NDArray[np.float64]


class Scalars:
    """Rows of three numbers, in the order of `COLUMNS`, numbered in the order in which they are added. Rows never change.

    The file has no name and disappears with the process. If it cannot be written, everything stays in memory. Thread-safe.
    """

    def __init__(self, budget: Budget) -> None:
        self.count = 0
        self._budget, self._lock = budget, threading.Lock()
        self._new: dict[int, ScalarRows] = {}  # blocks not yet in the file, by number
        self._read: OrderedDict[int, ScalarRows] = OrderedDict()
        self._file: IO[bytes] | None = None
        self._filed, self._process = 0, os.getpid()  # number of blocks in the file; only this process writes it

    def add(self, row: Sequence[float]) -> int:
        """Add a row. Returns its number."""
        with self._lock:
            block, at = self._newest()
            block[at] = row
            self.count += 1
            return self.count - 1

    def add_all(self, rows: ScalarRows) -> int:
        """Add rows (n, 3). Returns the number of the first one."""
        with self._lock:
            first = self.count
            while len(rows):
                block, at = self._newest()
                part, rows = rows[: BLOCK - at], rows[BLOCK - at :]
                block[at : at + len(part)] = part
                self.count += len(part)
            return first

    def _newest(self) -> tuple[ScalarRows, int]:
        """Return the block that the next row belongs to, and its place in it."""
        number, at = divmod(self.count, BLOCK)
        if at == 0:
            self._spill()
            self._new[number] = np.empty((BLOCK, len(COLUMNS)))
        return self._new[number], at

    def row(self, at: int) -> list[float]:
        """Return row `at`, as Python floats."""
        with self._lock:
            row: list[float] = self._block(at // BLOCK)[at % BLOCK].tolist()
            return row

    def column(self, name: str, first: int, count: int) -> ScalarRows:
        """Return `count` numbers of a column from row `first` on, (count)."""
        into, done, which = np.empty(count), 0, COLUMNS.index(name)
        with self._lock:
            while done < count:
                block, at = divmod(first + done, BLOCK)
                part = self._block(block)[at : at + count - done, which]
                into[done : done + len(part)] = part
                done += len(part)
        return into

    def _block(self, number: int) -> ScalarRows:
        if number in self._new:
            return self._new[number]
        if number not in self._read:
            while len(self._read) >= READ:
                self._read.popitem(last=False)
            self._read[number] = self._from_file(number)
        self._read.move_to_end(number)
        return self._read[number]

    def _from_file(self, number: int) -> ScalarRows:
        assert self._file is not None
        try:
            data = _read(self._file, number * BLOCK_BYTES)
        except OSError:
            data = b""
        if len(data) != BLOCK_BYTES:
            raise TuiGruError("the temporary file with the losses of earlier batches cannot be read; open the session again")
        return np.frombuffer(data).reshape(BLOCK, len(COLUMNS))

    def _spill(self) -> None:
        """Move the oldest blocks to the file until the rest fits the budget."""
        most = max(1, self._budget.share("scalars") // BLOCK_BYTES)
        if len(self._new) < most or self._process != os.getpid():  # after a fork, the file belongs to the parent process
            return
        import tempfile  # imported late: few runs are this long

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="tui-gru-", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            while len(self._new) >= most:
                self._file.seek(self._filed * BLOCK_BYTES)
                data = memoryview(self._new[self._filed].data).cast("B")
                while data:
                    data = data[self._file.write(data) :]
                self._filed += 1
                del self._new[self._filed - 1]
        except OSError:  # disk full: the blocks stay in memory, and the next block tries again
            return


def _read(file: IO[bytes], at: int) -> bytes:
    """Read a block of the file. Uses pread if possible, because forked processes share the file position."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), BLOCK_BYTES, at)
    file.seek(at)
    return file.read(BLOCK_BYTES)
