"""Open a recording in a session and print the time; run by `recording.py`, which has torch loaded itself.

As on the screen, the next step is computed in a thread while the user looks at the current one (`Session.prefetch`). So a step is
measured twice: the wait for it, wall time, after the user has looked for `LOOK` seconds; and the CPU time of this thread for a step
that was not computed ahead, which is the wait of a script that steps on at once. The time of both threads is printed beside it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
from pathlib import Path

from tui_gru import Session

STEPS = 40
LOOK = 0.25  # seconds; a key held down repeats faster, a reader is slower


def open_it(folder: str) -> None:
    """Open the recording, which computes its first step, and move on to the next steps."""
    begun = time.process_time()
    session = Session.open(folder)
    session.snapshot()
    print(f"{'opened, the first step read and computed':<44}{1e3 * (time.process_time() - begun):8.1f} ms of CPU")
    session.step("batch")
    session.snapshot()
    waited, both = [], []
    for _ in range(STEPS):
        started = time.process_time()
        session.prefetch()
        time.sleep(LOOK)
        begun = time.perf_counter()
        session.step("batch")
        session.snapshot()
        waited.append(time.perf_counter() - begun)
        both.append(time.process_time() - started)
    print(f"{f'wait for the next step, after {LOOK} s':<44}{1e3 * statistics.median(waited):8.1f} ms   at most 50")
    print(f"{'  CPU of both threads':<44}{1e3 * statistics.median(both):8.1f} ms")
    own = []
    for _ in range(STEPS):
        begun = time.thread_time()
        session.step("batch")
        session.snapshot()
        own.append(time.thread_time() - begun)
    print(f"{'a step that was not computed ahead':<44}{1e3 * statistics.median(own):8.1f} ms of CPU")
    assert "torch" not in sys.modules
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{'memory':<44}{peak / 1024:8.0f} MB   under 400")
