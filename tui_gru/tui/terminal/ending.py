"""Handlers of the signals that end the process: the program exits in order, or, if it is stuck, by force."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

PATIENCE = 3.0  # seconds for an exit in order
LEAVE = b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"  # as Textual ends
#: The signals that end a process by default and that others send it: shells, batch systems, a terminal that closes, limits. Windows
#: sends SIGBREAK where the console is closed, and has few of the others.
ENDING = ("SIGTERM", "SIGHUP", "SIGINT", "SIGBREAK", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU")


class EndingSignals:
    """Handlers of signals. They run in the main thread, whatever it waits for, and ask the event loop to exit by `leave`.

    A loop that waits for a blocked terminal or for a computing thread would never exit, so a thread ends the process after
    `PATIENCE`. The work is in the session's file then, as after a kill.
    """

    def __init__(self, leave: Callable[[int], None]) -> None:
        self._leave = leave
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._modes: list[Any] | None = None  # of the terminal, as a shell expects them

    def handle(self) -> None:
        """Call `leave` in this event loop on a signal, and end the process if exiting takes longer than `PATIENCE`."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        self._loop, self._modes = asyncio.get_running_loop(), modes_of_terminal()
        self._before = {number: signal.signal(number, self._handler) for number in ending_signals()}

    def take(self, number: int) -> None:
        """Exit as on this signal."""
        if self._loop is None:
            self._leave(number)
            return
        threading.Thread(target=_end_anyway, args=(128 + number, self._modes), daemon=True, name="ending").start()
        with suppress(RuntimeError):  # the loop has ended, and the rest of the program is about to
            self._loop.call_soon_threadsafe(self._leave, number)

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _handler(self, number: int, frame: FrameType | None) -> None:
        self.take(number)


def ending_signals() -> list[int]:
    """Return the signals of `ENDING` that this system has."""
    return [getattr(signal, name) for name in ENDING if hasattr(signal, name)]


def modes_of_terminal() -> list[Any] | None:
    """Return the modes of the terminal, None if there is none."""
    with suppress(Exception):  # no terminal, or Windows, where the console has no such modes
        import termios

        return termios.tcgetattr(sys.__stdin__.fileno())  # type: ignore[union-attr]
    return None


def _end_anyway(code: int, modes: list[Any] | None) -> None:
    time.sleep(PATIENCE)
    with suppress(Exception):
        _restore_terminal((sys.__stdin__ if os.name == "posix" else sys.__stdout__).fileno(), modes)  # type: ignore[union-attr]
    os._exit(code)


def _restore_terminal(terminal: int, modes: list[Any] | None) -> None:
    """Restore the modes of a terminal, and leave its other screen if it can still be written."""
    try:
        import termios
    except ImportError:  # on Windows, where writing to the console does not block
        os.write(terminal, LEAVE)
        return
    if modes is not None:
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
    if select.select([], [terminal], [], 0)[1]:
        os.write(terminal, LEAVE)
