"""Signals that tell the process to end: the program leaves in order; where it is stuck, it ends all the same."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

PATIENCE = 3.0  # seconds for an end in order
LEAVE = b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"  # what Textual ends with


class EndingSignals:
    """Handlers of signals. They run in the main thread, whatever it waits for, and ask the loop to leave.

    A loop that waits for a terminal that takes no more output, or for a thread that computes, would never come to that. What
    has been done is in the session's file by then, as after a kill.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._leave: Callable[[int], None] = lambda number: None
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle(self, numbers: Iterable[int], leave: Callable[[int], None]) -> None:
        """Call `leave` in this loop when one of the signals comes; end the process if that takes longer than `PATIENCE`."""
        self._loop, self._leave = asyncio.get_running_loop(), leave
        self._before = {number: signal.signal(number, self._come) for number in numbers}

    def take(self, number: int) -> None:
        """Do what is done when a signal comes."""
        if self._loop is None:
            self._leave(number)
            return
        threading.Thread(target=_end_anyway, args=(128 + number,), daemon=True, name="ending").start()
        self._loop.call_soon_threadsafe(self._leave, number)

    def close(self) -> None:
        """Handle no more."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.take(number)


def _end_anyway(code: int) -> None:
    time.sleep(PATIENCE)
    with suppress(Exception):
        _restore_terminal(sys.__stdin__.fileno())  # type: ignore[union-attr]
    os._exit(code)


def _restore_terminal(terminal: int) -> None:
    """Make a terminal as a shell expects it, as far as it still takes anything."""
    import termios

    attributes = termios.tcgetattr(terminal)
    attributes[0] |= termios.ICRNL | termios.IXON
    attributes[3] |= termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    if select.select([], [terminal], [], 0)[1]:
        os.write(terminal, LEAVE)
