"""Textual's driver for a terminal, with an `esc` that is a key sooner, and no size that is mistaken for the newest."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
from codecs import getincrementaldecoder
from collections.abc import Iterable
from contextlib import suppress

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

IDLE = 0.1  # seconds after which the thread looks whether it is to end
LATER = 0.002  # seconds: the parser must find the delay over
READ = 4096  # bytes


class PromptDriver(LinuxDriver):
    """Reads keys as `LinuxDriver` does (textual 8.2), but an escape by itself is a key after `ESCAPE_DELAY`.

    `LinuxDriver` looks every tenth of a second whether that delay is over, so that it takes as long whatever the delay.
    And it reads the size of the terminal in the signal's handler, which the next signal may interrupt: then the older size is
    told after the newer one, and stays. Here the loop reads it, one after another.
    """

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        tell = signal.getsignal(signal.SIGWINCH)
        assert callable(tell)
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, tell, signal.SIGWINCH, None)

    def run_input_thread(self) -> None:
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")().decode
        wait = IDLE
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            ended = False
            while not ended:
                ended = self.exit_event.is_set()  # then what is left is read once more, lest the shell gets it
                ready = selector.select(wait)
                wait = IDLE
                if ready:
                    data = os.read(self.fileno, READ)
                    if not data:  # the terminal is gone
                        break
                    if text := decode(data):  # none where a character has come in part
                        self._deal_with(parser.feed(text))
                    if data.endswith(b"\x1b"):
                        wait = ESCAPE_DELAY + LATER
                self._deal_with(parser.tick())
        with suppress(EOFError, ParseError):
            self._deal_with(parser.feed(""))

    def _deal_with(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)
