"""Whether the body of a script's loop is being tried: what captures and records it then does nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread: int | None = None  # in which a body is tried


def in_trial() -> bool:
    """Return True within a body that is tried, in its thread."""
    return _thread is not None and _thread == threading.get_ident()


@contextmanager
def trial() -> Iterator[None]:
    """Mark what this thread does within this context as a trial."""
    global _thread
    before, _thread = _thread, threading.get_ident()
    try:
        yield
    finally:
        _thread = before
