"""Handlers of the signals that end the process: the program exits in order, or, if it is stuck, by force."""

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

PATIENCE = 3.0  # seconds for an exit in order
LEAVE = b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"  # as Textual ends


class EndingSignals:
    """Handlers of signals. They run in the main thread, whatever it waits for, and ask the event loop to exit.

    A loop that waits for a blocked terminal or for a computing thread would never exit, so a thread ends the process after
    `PATIENCE`. The work is in the session's file then, as after a kill.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._leave: Callable[[int], None] = lambda number: None
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle(self, numbers: Iterable[int], leave: Callable[[int], None]) -> None:
        """Call `leave` in this event loop on one of the signals, and end the process if exiting takes longer than `PATIENCE`."""
        self._loop, self._leave = asyncio.get_running_loop(), leave
        self._before = {number: signal.signal(number, self._handler) for number in numbers}

    def take(self, number: int) -> None:
        """Exit as on this signal."""
        if self._loop is None:
            self._leave(number)
            return
        threading.Thread(target=_end_anyway, args=(128 + number,), daemon=True, name="ending").start()
        self._loop.call_soon_threadsafe(self._leave, number)

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _handler(self, number: int, frame: FrameType | None) -> None:
        self.take(number)


def ending_signals() -> list[int]:
    """Return the signals that end a program: Windows sends SIGBREAK where the console is closed, and has no SIGHUP."""
    return [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGBREAK") if hasattr(signal, name)]


def _end_anyway(code: int) -> None:
    time.sleep(PATIENCE)
    with suppress(Exception):
        _restore_terminal((sys.__stdin__ if os.name == "posix" else sys.__stdout__).fileno())  # type: ignore[union-attr]
    os._exit(code)


def _restore_terminal(terminal: int) -> None:
    """Restore the modes of a terminal that a shell expects, if the terminal can still be written."""
    try:
        import termios
    except ImportError:  # on Windows, where the console has no such modes, and writing to it does not block
        os.write(terminal, LEAVE)
        return
    attributes = termios.tcgetattr(terminal)
    attributes[0] |= termios.ICRNL | termios.IXON
    attributes[3] |= termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    if select.select([], [terminal], [], 0)[1]:
        os.write(terminal, LEAVE)
