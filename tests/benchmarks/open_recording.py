"""Opens a recording as the debugger does, and prints what it takes, in CPU time; for `recording.py`, which has torch loaded."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
from pathlib import Path

from tui_gru import Session


def open_it(folder: str) -> None:
    """Open it beside the tutorial, and go on to the next steps."""
    begun = time.process_time()
    Session().snapshot()
    tutorial = time.process_time() - begun
    begun = time.process_time()
    session = Session.open(folder)
    session.snapshot()
    opened = time.process_time() - begun
    print(f"{'opened, on its first step':<44}{1e3 * opened:8.1f} ms, a session on the tutorial {1e3 * tutorial:.1f}")
    times = []
    for _ in range(20):
        begun = time.process_time()
        session.step("batch")
        session.snapshot()
        times.append(time.process_time() - begun)
    print(f"{'a step to the next one':<44}{1e3 * statistics.median(times):8.1f} ms")
    assert "torch" not in sys.modules
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{'memory':<44}{peak / 1024:8.0f} MB")
