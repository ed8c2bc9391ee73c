"""Opens a recording as the debugger does, and prints what it takes, in CPU time; for `recording.py`, which has torch loaded."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
from pathlib import Path

from tui_gru.interop.recomputing import recompute
from tui_gru.interop.recording import open_recording


def open_it(folder: str) -> None:
    """Open it, read and compute its first step, and go on to the next ones."""
    begun = time.process_time()
    recording = open_recording(folder)
    print(f"{'opened, listed':<44}{1e3 * (time.process_time() - begun):8.1f} ms")
    begun = time.process_time()
    step = recording.load(recording.steps[0].number)
    print(f"{'the first step read':<44}{1e3 * (time.process_time() - begun):8.1f} ms")
    begun = time.process_time()
    record = recompute(step.calls[0])
    print(f"{'the first step computed':<44}{1e3 * (time.process_time() - begun):8.1f} ms")
    times = []
    for kept in recording.steps[1:20]:
        begun = time.process_time()
        recompute(recording.load(kept.number).calls[0], record=record)
        times.append(time.process_time() - begun)
    print(f"{'a step to the next one, read and computed':<44}{1e3 * statistics.median(times):8.1f} ms")
    assert "torch" not in sys.modules
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{'memory':<44}{peak / 1024:8.0f} MB")
