"""How long a run takes that is drawn while it goes on, in a real terminal of 160x50, compared with the same run without a screen,
and how many pictures a second it shows: `python -m tests.benchmarks.live`.

Both run in turn in fresh processes, for ten seconds each; the medians of the epochs a second are compared.
"""

from __future__ import annotations

import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from pydoc_data.topics import topics

import pyte

from tests.benchmarks.redraw import SIZE, large

if sys.platform != "win32":
    import fcntl
    import pty
    import struct
    import termios

SECONDS, ROUNDS = 10, 3
PLAIN = """
import sys, time
from tui_gru.session.session import Session
session = Session(**{options!r})
session.learning = True
session.step("epoch")
begun, first = time.perf_counter(), session.position.number
def progress(place):
    if time.perf_counter() - begun > {seconds}:
        session.interrupt()
session.step("epoch", 10**9, progress=progress)
print((session.position.number - first) / session.program.num_batches / (time.perf_counter() - begun))
"""
SHOWN = """
from tui_gru.session.session import Session
from tui_gru.tui.app import run
session = Session(**{options!r})
session.learning = True
run(session, theme=None, ascii=False, keys=None)
"""
EPOCH = re.compile(r"epoch ([\d,]+)")


def plain(options: dict[str, object]) -> float:
    """Return the epochs a second of a run without a screen."""
    program = PLAIN.format(options=options, seconds=SECONDS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment())
    return float(done.stdout)


def shown(options: dict[str, object]) -> tuple[float, float]:
    """Return the epochs a second of a run on a screen, and the number of different headers a second."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-c", SHOWN.format(options=options)], environment())
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        screen = pyte.Screen(*SIZE)
        stream = pyte.ByteStream(screen)
        heads: set[str] = set()

        def watch(seconds: float) -> None:
            """Draw what the program writes for so many seconds, and collect the headers."""
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                if select.select([terminal], [], [], 0.02)[0]:
                    stream.feed(os.read(terminal, 1 << 16))
                    heads.add(screen.display[0])

        watch(3)
        heads.clear()
        os.write(terminal, b"9999999e")
        begun = time.perf_counter()
        watch(SECONDS)
        os.write(terminal, b"\x1b")
        took, pictures = time.perf_counter() - begun, len(heads)
        watch(1)
        found = EPOCH.search(screen.display[0])
        assert found is not None, screen.display
        return int(found[1].replace(",", "")) / took, pictures / took
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


def environment() -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def main() -> None:
    own = {"text": "".join(topics[key] for key in sorted(topics))[:30_000]}  # what it writes is drawn as well
    for name, options in (("tutorial", {}), ("H64 B16 T32 V64", large()), ("a text of 30,000 characters", own)):
        without, rates, pictures = [], [], []
        for _ in range(ROUNDS):
            without.append(plain(options))
            rate, count = shown(options)
            rates.append(rate)
            pictures.append(count)
        slower, seen = statistics.median(without) / statistics.median(rates) - 1, statistics.median(pictures)
        print(f"{name}: {slower:+.1%} of time with a screen (at most +5 %), {seen:.1f} pictures a second (at least 3)")


if __name__ == "__main__":
    main()
