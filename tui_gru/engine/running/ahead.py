"""Reading of the item that is likely to be needed next, in a thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """One item of a sequence, read in a thread while the item before it is in use."""

    def __init__(self, read: Callable[[int], Item]) -> None:
        self._read = read
        self._at, self._thread = -1, Thread()
        self._item: Item | None = None

    def begin(self, at: int) -> None:
        """Begin to read item `at`, unless another is still being read."""
        if self._thread.is_alive() or at == self._at:
            return
        self._at, self._item = at, None
        self._thread = Thread(target=self._run, args=(at,), name="tui-gru-reads-ahead")
        self._thread.start()

    def take(self, at: int) -> Item | None:
        """Return item `at` if it has been or is being read ahead; otherwise None, also if it cannot be read. Reading it directly
        raises the error."""
        if at != self._at:
            return None
        if self._thread.is_alive():
            self._thread.join()
        item, self._item, self._at = self._item, None, -1
        return item

    def _run(self, at: int) -> None:
        try:
            self._item = self._read(at)
        except Exception:  # the caller reads the item again, which raises the error
            self._item = None
