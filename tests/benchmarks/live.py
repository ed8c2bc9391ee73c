"""How long a run takes that is drawn while it goes on, in a real terminal of 160x50, compared with the same run without a screen,
and how many pictures a second it shows: `python -m tests.benchmarks.live`.

Both run in turn in fresh processes, for some seconds each; the medians of the epochs in a second of the process are compared. (On
Linux, which tells the time of another process.) The machine must have a processor to spare: the screen is drawn by the clock, so
where the process has to wait for its turn, drawing takes a larger share of it.
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
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import pyte

from tests.benchmarks.redraw import SIZE, large

if sys.platform != "win32":
    import fcntl
    import pty
    import struct
    import termios

SECONDS, ROUNDS, PATIENCE = 4, 9, 120
PLAIN = """
import sys, time
from tui_gru.session.session import Session
session = Session(**{options!r})
session.learning = True
session.step("epoch")
begun, first = time.process_time(), session.position.number
def progress(place):
    if time.process_time() - begun > {seconds}:
        session.interrupt()
session.step("epoch", 10**9, progress=progress)
print((session.position.number - first) / session.program.num_batches / (time.process_time() - begun))
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
    """Return the epochs in a second of the process, of a run without a screen."""
    program = PLAIN.format(options=options, seconds=SECONDS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment())
    return float(done.stdout)


def shown(options: dict[str, object]) -> tuple[float, float]:
    """Return the epochs in a second of the process, of a run on a screen, and the number of different headers in a second."""
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

        def epoch() -> int:
            found = EPOCH.search(screen.display[0])
            return 0 if found is None else int(found[1].replace(",", ""))

        def watch_until(moment: Callable[[], bool]) -> None:
            end = time.perf_counter() + PATIENCE
            while not moment():
                assert time.perf_counter() < end, screen.display
                watch(0.1)

        watch_until(lambda: epoch() > 0)
        os.write(terminal, b"9999999e")
        watch_until(lambda: epoch() > 1)
        heads.clear()
        first, begun, used = epoch(), time.perf_counter(), cpu_seconds(process)
        watch_until(lambda: cpu_seconds(process) - used > SECONDS)
        count, took, used = epoch() - first, time.perf_counter() - begun, cpu_seconds(process) - used
        return count / used, len(heads) / took
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


def cpu_seconds(process: int) -> float:
    """Return the seconds that a process has computed, with all its threads."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def environment() -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def main() -> None:
    own = {"text": "".join(topics[key] for key in sorted(topics))[:30_000]}  # what it writes is drawn as well
    for name, options in (("tutorial", {}), ("H64 B16 T32 V64", large()), ("a text of 30,000 characters", own)):
        without, rates, pictures = [], [], []
        for _ in range(ROUNDS):
            without.append(plain(options))  # in turn, since the machine may become slower
            rate, count = shown(options)
            rates.append(rate)
            pictures.append(count)
        slower, seen = statistics.median(without) / statistics.median(rates) - 1, statistics.median(pictures)
        print(f"{name}: {slower:+.1%} of time with a screen (at most +5 %), {seen:.1f} pictures a second (at least 3)")


if __name__ == "__main__":
    main()
