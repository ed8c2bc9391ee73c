"""How long it takes from a key that stops a long run to the screen at rest, in a terminal of its own.

python -m tests.benchmarks.stop

Of what esc takes, 100 ms are Textual's: its driver waits so long until an escape is a key and not the start of a sequence.
"""

from __future__ import annotations

import os
import select
import statistics
import time

from tests.tui.test_terminal import Terminal

ROUNDS = 7
RUNS = {"epochs": b"l999999e", "a search": b":until any(z > 2)\r"}
KEYS = {"esc": b"\x1b", "ctrl+c": b"\x03"}


def rest(terminal: Terminal, seconds: float) -> None:
    """Read what the program writes for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal.master], [], [], 0.01)[0]:
            terminal.output += os.read(terminal.master, 65536)


def once(run: bytes, key: bytes) -> float:
    """Seconds from the key to the hints, or the word that nothing was found, back on the last row."""
    terminal = Terminal()
    try:
        terminal.read_until(lambda: b"training loop" in terminal.output)
        rest(terminal, 0.3)
        os.write(terminal.master, run[:1])
        rest(terminal, 0.3)  # the command line opens
        os.write(terminal.master, run[1:])
        terminal.read_until(lambda: b"running" in terminal.output)
        rest(terminal, 0.5)
        terminal.output, begun = b"", time.monotonic()
        os.write(terminal.master, key)
        terminal.read_until(lambda: b" timestep " in terminal.output or b"did not hold" in terminal.output)
        return time.monotonic() - begun
    finally:
        terminal.end()


def main() -> None:
    for what, run in RUNS.items():
        for name, key in KEYS.items():
            times = [once(run, key) * 1e3 for _ in range(ROUNDS)]
            print(f"{what}, {name}: {statistics.median(times):.0f} ms, the slowest {max(times):.0f}")


if __name__ == "__main__":
    main()
