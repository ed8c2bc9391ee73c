"""The drivers of Textual that the program uses, for a terminal and for a browser. Imported late: Windows lacks what they need."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO

from textual import messages
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver
from textual.drivers.web_driver import WebDriver
from textual.message import Message

from tui_gru.errors import TuiGruError
from tui_gru.paths import SERVED_FOLDER, confine
from tui_gru.tui.terminal import GuardedApp, InputParser

# ------------------------------------------------------------------------------
# Textual's driver for a terminal, with a faster `esc`, a correct size after fast resizes, and tolerance of any input.


IDLE = 0.1  # seconds between checks whether the input thread has to end
LATER = 0.002  # seconds added to the delay, such that it is over for the parser
LONGEST = 60.0  # seconds; systems refuse to wait for the longest delays that the variable ESCDELAY can set
READ = 4096  # bytes


CONTINUED = 0.1  # seconds after a stop in which the event loop is told of the SIGCONT that has ended it


class TerminalGone(Message):
    """Posted when the terminal can no longer be read or written."""


class StopIgnored(Message):
    """Posted when the system has ignored SIGTSTP, since no shell could continue the program."""


class PromptDriver(LinuxDriver):
    """A `LinuxDriver` (textual 8.2) in which a single escape is a key after `ESCAPE_DELAY`.

    `LinuxDriver` checks only every tenth of a second whether that delay is over. It also reads the size of the terminal in the
    signal handler, which the next signal may interrupt, so that the older size is reported after the newer one. Here the event
    loop reads the sizes, one after another.

    The signals that end the program are handled from before the first mode of the terminal is set. It stops on SIGTSTP and goes on
    after SIGCONT in the event loop as well: `LinuxDriver` does so in the signal handlers, where the queue of the output may be
    locked by what they interrupt. It also takes every SIGCONT for the end of its own stop: it remembers the modes of a terminal
    that is raw already as those to restore, and starts a second thread that reads it.

    It stops only where a shell can continue it: the system ignores SIGTSTP for a program in a terminal of its own (`xterm -e`,
    `ssh -t`, `docker exec -it`) and for process 1, but not SIGSTOP, which `LinuxDriver` uses, and which only SIGCONT and SIGKILL
    would end there. Where it is ignored, the program takes the terminal again, and `StopIgnored` is posted.

    Bytes that are no text and sequences that are no keys are ignored. If the terminal is gone, `TerminalGone` is posted.
    """

    def __init__(self, app: GuardedApp, *args: Any, **options: Any) -> None:
        super().__init__(app, *args, **options)
        self._ending = app.ending
        self._file: TextIO = _Terminal(self._file, self._report_gone)  # type: ignore[assignment]
        self._gone_posted = False
        self._has_terminal = False  # True while the terminal is in the modes of the program
        self._stopped = False  # True from SIGTSTP to SIGCONT
        self._ignored: asyncio.TimerHandle | None = None  # takes the terminal again if there was no stop
        for number in (signal.SIGTSTP, signal.SIGCONT):  # Textual has handled them until here
            signal.signal(number, signal.SIG_DFL)

    def start_application_mode(self) -> None:
        loop = asyncio.get_running_loop()
        self._ending.handle()
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        loop.add_signal_handler(signal.SIGCONT, self._go_on)
        self._has_terminal = True
        super().start_application_mode()  # type: ignore[no-untyped-call]
        tell = signal.getsignal(signal.SIGWINCH)
        assert callable(tell)
        loop.add_signal_handler(signal.SIGWINCH, tell, signal.SIGWINCH, None)

    def stop_application_mode(self) -> None:
        if self._has_terminal:
            self._has_terminal = False
            super().stop_application_mode()

    def _stop(self) -> None:
        """Give the terminal back, and stop the process if the system does so on SIGTSTP."""
        if self._has_terminal:
            self._stopped = True
            self.suspend_application_mode()
        if self._ignored is not None:
            self._ignored.cancel()
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGTSTP)
        signal.raise_signal(signal.SIGTSTP)  # in this thread, where it has acted, or was ignored, when this returns
        loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._ignored = loop.call_later(CONTINUED, self._go_on_without_stop)

    def _go_on_without_stop(self) -> None:
        if self._stopped:
            self._go_on()
            self.process_message(StopIgnored())

    def _go_on(self) -> None:
        """Take the terminal after a stop. After SIGSTOP, which gave the program no time to give it back, do that first.

        In between a shell may have written on the screen and changed the modes, so everything is drawn again.
        """
        if self._has_terminal:
            self.suspend_application_mode()
        elif not self._stopped:  # the program is ending
            return
        self._stopped = False
        self.resume_application_mode()
        self.process_message(self.SignalResume())

    def run_input_thread(self) -> None:
        parser = InputParser(self._debug)
        wait = IDLE
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            ended = False
            while not ended:
                ended = self.exit_event.is_set()  # if so, read the remaining input once more, otherwise the shell would get it
                ready = selector.select(wait)
                wait = IDLE
                if ready:
                    data = self._read()
                    if not data:
                        self._report_gone()
                        break
                    self._process(parser.feed(data))
                    if data.endswith(b"\x1b"):
                        wait = min(ESCAPE_DELAY + LATER, LONGEST)
                self._process(parser.tick())
        self._process(parser.end())

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno, READ)
        except OSError:
            return b""

    def _process(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)

    def _report_gone(self) -> None:
        if not self._gone_posted:
            self._gone_posted = True
            self.process_message(TerminalGone())


class _Terminal:
    """The output file of a terminal. If it cannot be written any more, output is discarded."""

    def __init__(self, file: TextIO, report: Callable[[], None]) -> None:
        self._file, self._report_gone = file, report

    def write(self, text: str) -> None:
        self._try(lambda: self._file.write(text))

    def flush(self) -> None:
        self._try(self._file.flush)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError:
            with suppress(OSError):  # such that flushing the buffer does not fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            self._report_gone()


# ------------------------------------------------------------------------------
# Textual's driver for a browser, which ends the program when its server is gone.


def confine_to_served_folder() -> None:
    """Confine this process to the folder that its server names.

    Raises `TuiGruError` if it names none: other servers, such as `textual serve`, do not ask who connects, and every page that the
    user's browser shows could write files here.
    """
    folder = os.environ.get(SERVED_FOLDER)
    if folder is None:
        raise TuiGruError("this server lets every web page in: use `tui-gru serve`, which asks for a token")
    confine(folder)


class ServedDriver(WebDriver):
    """A `WebDriver` that ends the program at the end of its input. In textual 8.2, the program would continue unreachable."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._write = self._write_if_read  # type: ignore[assignment]

    def _write_if_read(self, data: bytes) -> None:
        with suppress(OSError):  # a broken pipe, which Windows reports as an invalid argument
            os.write(self.fileno, data)

    def run_input_thread(self) -> None:
        super().run_input_thread()
        self._app.post_message(messages.ExitApp())
