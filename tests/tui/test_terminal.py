"""The program in a terminal of its own, as a shell starts it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

PATIENCE = 60  # seconds until a program that does not answer is given up


class Terminal:
    """A pseudo-terminal with the program in it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (30, 100))
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui_gru"],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment, start_new_session=True,
        )  # fmt: skip

    def read_until(self, done) -> None:
        """Read what the program writes until `done()`."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.output[-2000:]
            if select.select([self.master], [], [], 0.05)[0]:
                self.output += os.read(self.master, 65536)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    terminal = Terminal()
    terminal.read_until(lambda: b"training loop" in terminal.output)
    yield terminal
    terminal.end()


def restored(terminal: Terminal) -> bool:
    return termios.tcgetattr(terminal.slave)[:4] == terminal.before[:4] and b"\x1b[?1049l" in terminal.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_restores_the_terminal(terminal, number):
    terminal.process.send_signal(number)
    terminal.read_until(lambda: terminal.process.poll() is not None)
    terminal.read_until(lambda: restored(terminal))
    assert terminal.process.returncode == 128 + number


def test_a_run_can_be_interrupted_and_left(terminal):
    os.write(terminal.master, b"l999999e")
    terminal.read_until(lambda: b"running" in terminal.output)
    os.write(terminal.master, b"\x03")
    os.write(terminal.master, b"q")
    terminal.read_until(lambda: terminal.process.poll() is not None)
    terminal.read_until(lambda: restored(terminal))
    assert terminal.process.returncode == 0


def test_pasted_keys_are_not_typed(terminal):
    os.write(terminal.master, b"\x1b[200~n\nN:q!\n\x1b[201~")
    os.write(terminal.master, b"s")
    terminal.read_until(lambda: b"forward" in terminal.output)
    assert terminal.process.poll() is None
    assert b"update" not in terminal.output.partition(b"forward")[2]
    os.write(terminal.master, b"q")
    terminal.read_until(lambda: terminal.process.poll() is not None)
