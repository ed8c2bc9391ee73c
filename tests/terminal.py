"""The program in a pseudo-terminal, started as from a shell, and the contents of its screen."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyte

from tests.process import PROGRAM

SLOWER = 10 if os.nice(0) > 0 else 1  # a program of low priority waits long for the processor where others run
PATIENCE = 60 * SLOWER  # seconds until a program that does not respond is given up


# A shell of one command, which is in a process group of its own, so that SIGTSTP stops it. The shell stops with it, so that the
# process that waits for the shell notices, or continues it at once if CONTINUES is set; it ends as the command does.
SHELL = """
import os, signal, sys
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os.execv(sys.argv[2], sys.argv[2:])
os.write(int(sys.argv[1]), child.to_bytes(8, "big"))
while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
    if "CONTINUES" in os.environ:
        os.kill(child, signal.SIGCONT)
    else:
        os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Terminal:
    """A pseudo-terminal with the program in it. `output` is everything that it has written, `screen` the resulting screen.

    `variables` are set in the program's environment; `program` replaces the program. Without a `shell`, the program is the only
    process in the terminal, as in `xterm -e`, and SIGTSTP does not stop it. `pid` is the program, `process` the shell if there is
    one.
    """

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (100, 30),
        program: Sequence[str] = PROGRAM,
        shell: bool = False,
        **variables: str,
    ) -> None:
        self.master, self.slave = pty.openpty()
        columns, rows = size
        termios.tcsetwinsize(self.slave, (rows, columns))
        self.before = termios.tcgetattr(self.slave)
        self.output, self._unseen = bytearray(), bytearray()
        self._screen = pyte.Screen(columns, rows)
        self._rows, self._text = [""] * rows, ""
        self._stream = pyte.ByteStream(self._screen)
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}  # of another terminal
        environment = {**inherited, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **variables}
        number, written = os.pipe()
        by = [sys.executable, "-c", SHELL, str(written)] if shell else []
        self.process = subprocess.Popen(
            [*by, *program, *arguments], pass_fds=[written],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(written)
        self.pid = int.from_bytes(os.read(number, 8), "big") if shell else self.process.pid
        os.close(number)

    @property
    def screen(self) -> str:
        """The rows of the screen as text."""
        if self._unseen or not self._text:  # rendered only when it is read, since that takes longer than reading the output
            self._stream.feed(bytes(self._unseen))
            self._unseen.clear()
            self._rows[self._screen.lines :] = [""] * (self._screen.lines - len(self._rows))
            for y in self._screen.dirty.intersection(range(self._screen.lines)):
                row = self._screen.buffer[y]  # `display` would look up the width of each character, and draw all rows
                self._rows[y] = "".join([row[x].data for x in range(self._screen.columns)])
            self._screen.dirty.clear()
            self._text = "\n".join(self._rows)
        return self._text

    def type(self, keys: str) -> None:
        """Send keys as a terminal does."""
        self.send(keys.encode())

    def send(self, data: bytes) -> None:
        """Send any bytes."""
        while data:
            if select.select([], [self.master], [], 0.05)[1]:
                data = data[os.write(self.master, data[:256]) :]
            self._read(0)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        assert self.screen  # drawn for the old size
        self._screen.resize(rows, columns)
        self._text = ""
        termios.tcsetwinsize(self.slave, (rows, columns))
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGWINCH)
        self._read(0)

    def wait(self, done: str | Callable[[], Any]) -> None:
        """Read the program's output until a text is on the screen, or until `done()` is true."""
        deadline = time.monotonic() + PATIENCE
        while not (done in self.screen if isinstance(done, str) else done()):
            assert time.monotonic() < deadline, f"{done} did not come:\n{self.screen}"
            self._read(0.05)

    @property
    def place(self) -> str:
        """The first row of the screen, with one blank between words: `epoch 1 batch 1 of 3 start learning off, η 0.01`."""
        return " ".join(self.screen.partition("\n")[0].split())

    def wait_at(self, place: str) -> None:
        """Read the program's output until it is at this place."""
        self.wait(lambda: place in self.place)

    def rest(self, seconds: float) -> None:
        """Read the program's output for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.01)

    def wait_for_the_end(self) -> int:
        """Read until the program has ended and the terminal is restored. Returns the exit code."""
        self.wait(lambda: self.process.poll() is not None)
        self.wait(self.restored)
        return int(self.process.returncode)

    def restored(self) -> bool:
        """Return True if the terminal has its original settings."""
        self._read(0)
        return termios.tcgetattr(self.slave)[:4] == self.before[:4] and self.output.rfind(b"\x1b[?1049l") > self.output.rfind(
            b"\x1b[?1049h"
        )

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError as error:
                if error.errno != errno.EIO:  # the other end is closed
                    raise
                return
            self.output += data
            self._unseen += data

    def until_blocked(self) -> None:
        """Stop reading until the program cannot write any more."""
        deadline = time.monotonic() + PATIENCE
        unread, since = 0, time.monotonic()
        while not unread or time.monotonic() - since < 1:
            assert time.monotonic() < deadline, "it does not draw"
            before, unread = unread, int.from_bytes(fcntl.ioctl(self.master, termios.FIONREAD, bytes(4)), sys.byteorder)
            if unread != before:
                since = time.monotonic()
            time.sleep(0.05)

    def hang_up(self) -> None:
        """Close the terminal."""
        if self.master >= 0:
            os.close(self.master)
            os.close(self.slave)
        self.master = self.slave = -1

    def kill(self) -> None:
        """Kill the program."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        if self.master >= 0:
            os.close(self.master)
            os.close(self.slave)
