"""Textual's driver for a terminal: `esc` is a key sooner, no size is mistaken for the newest, and nothing that comes can end it."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO

from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from tui_gru.tui.terminal.input_parser import InputParser

IDLE = 0.1  # seconds after which the thread looks whether it is to end
LATER = 0.002  # seconds: the parser must find the delay over
READ = 4096  # bytes


class TerminalGone(Message):
    """Nothing more comes from the terminal, or can be written to it."""


class PromptDriver(LinuxDriver):
    """Reads keys as `LinuxDriver` does (textual 8.2), but an escape by itself is a key after `ESCAPE_DELAY`.

    `LinuxDriver` looks every tenth of a second whether that delay is over, so that it takes as long whatever the delay.
    And it reads the size of the terminal in the signal's handler, which the next signal may interrupt: then the older size is
    told after the newer one, and stays. Here the loop reads it, one after another.

    Bytes that are no text and sequences that are no keys are left out; where the terminal is gone, the app is told.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._file: TextIO = _Terminal(self._file, self._gone)  # type: ignore[assignment]
        self._told = False  # that the terminal is gone

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        tell = signal.getsignal(signal.SIGWINCH)
        assert callable(tell)
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, tell, signal.SIGWINCH, None)

    def run_input_thread(self) -> None:
        parser = InputParser(self._debug)
        wait = IDLE
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            ended = False
            while not ended:
                ended = self.exit_event.is_set()  # then what is left is read once more, lest the shell gets it
                ready = selector.select(wait)
                wait = IDLE
                if ready:
                    data = self._read()
                    if not data:
                        self._gone()
                        break
                    self._deal_with(parser.feed(data))
                    if data.endswith(b"\x1b"):
                        wait = ESCAPE_DELAY + LATER
                self._deal_with(parser.tick())
        self._deal_with(parser.end())

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno, READ)
        except OSError:
            return b""

    def _deal_with(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)

    def _gone(self) -> None:
        if not self._told:
            self._told = True
            self.process_message(TerminalGone())


class _Terminal:
    """The file that a terminal is written to; where that cannot be written any more, what is written goes nowhere."""

    def __init__(self, file: TextIO, gone: Callable[[], None]) -> None:
        self._file, self._gone = file, gone

    def write(self, text: str) -> None:
        self._try(lambda: self._file.write(text))

    def flush(self) -> None:
        self._try(self._file.flush)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def _try(self, what: Callable[[], object]) -> None:
        try:
            what()
        except OSError:
            with suppress(OSError):  # so that what is still in the buffer fails no more
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            self._gone()
