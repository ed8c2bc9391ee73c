"""Time from a key that stops a long run to the final screen, in a pseudo-terminal.

    python -m tests.benchmarks.stop

Of what esc takes, 20 ms are waited to see whether it is a key, or the start of a sequence. All is compiled beforehand, as what is
installed is.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import closing

from tests.terminal import Terminal

ROUNDS = 7
RUNS = {"epochs": "l999999e", "a search": ":until any(z > 2)\r"}
ENDS = (b" timestep ", b"did not hold")  # the hints, or the message that nothing was found
KEYS = {"esc": "\x1b", "ctrl+c": "\x03"}


def once(run: str, key: str, compiled: str) -> float:
    """Return the seconds from the key until the last row shows the hints, or that nothing was found.

    Bytecode is kept in the folder `compiled`.
    """
    with closing(Terminal(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=compiled)) as terminal:
        terminal.wait("training loop")
        terminal.rest(0.3)
        terminal.type(run[:1])
        terminal.rest(0.3)  # the command line opens
        terminal.type(run[1:])
        terminal.wait("esc stops")
        terminal.rest(0.5)
        begun = time.monotonic()
        terminal.type(key)
        written = b""  # unparsed: rendering a screen would take longer than the measured time
        while not any(end in written for end in ENDS):
            written += os.read(terminal.master, 65536)
        return time.monotonic() - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as compiled:
        for what, run in RUNS.items():
            once(run, KEYS["ctrl+c"], compiled)
            for name, key in KEYS.items():
                times = [once(run, key, compiled) * 1e3 for _ in range(ROUNDS)]
                print(f"{what}, {name}: {statistics.median(times):.0f} ms, the slowest {max(times):.0f}")


if __name__ == "__main__":
    main()
