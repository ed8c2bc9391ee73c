"""Open a recording in a session and print the CPU time; run by `recording.py`, which has torch loaded itself.

The next step is read in a thread while the current one is computed. The user waits only for the time of the session's own thread;
the time of both threads is printed beside it.
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


def open_it(folder: str) -> None:
    """Open the recording, which computes its first step, and move on to the next steps."""
    begun = time.process_time()
    session = Session.open(folder)
    session.snapshot()
    print(f"{'opened, the first step read and computed':<44}{1e3 * (time.process_time() - begun):8.1f} ms")
    session.step("batch")
    own, both = [], []
    for _ in range(STEPS):
        begun = time.thread_time(), time.process_time()
        session.step("batch")
        session.snapshot()
        own.append(time.thread_time() - begun[0])
        both.append(time.process_time() - begun[1])
    print(f"{'a step to the next one':<44}{1e3 * statistics.median(own):8.1f} ms   at most 50")
    print(f"{'  with what is read ahead':<44}{1e3 * statistics.median(both):8.1f} ms")
    assert "torch" not in sys.modules
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{'memory':<44}{peak / 1024:8.0f} MB   under 400")
