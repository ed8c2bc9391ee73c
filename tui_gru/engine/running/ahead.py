"""Computation of what is likely to be needed next, in a thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """One item, such as the next batch, that is read or computed in a thread while the item before it is in use.

    The methods are called by one thread at a time.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._thread = Thread()
        self._item: Item | None = None

    def is_free_for(self, key: Hashable) -> bool:
        """Return True if `begin` would begin to compute the item `key`."""
        return key != self._key and not self._thread.is_alive()

    def begin(self, key: Hashable, compute: Callable[[], Item]) -> None:
        """Begin to compute the item `key`, unless it is there or another is still being computed."""
        if not self.is_free_for(key):
            return
        self._key, self._item = key, None
        self._thread = Thread(target=self._run, args=(compute,), name="tui-gru-works-ahead")
        self._thread.start()

    def take(self, key: Hashable) -> Item | None:
        """Return the item `key` if it has been or is being computed, and forget it; otherwise None, also if it failed. Computing it
        directly raises the error."""
        if key != self._key:
            return None
        if self._thread.is_alive():
            self._thread.join()
        item, self._item, self._key = self._item, None, None
        return item

    def _run(self, compute: Callable[[], Item]) -> None:
        try:
            self._item = compute()
        except Exception:  # the caller computes the item again, which raises the error
            self._item = None
