"""Time to inspect a file of 100 MB in a fresh process: `python -m tests.benchmarks.looking`.

The formats are measured in turn, next to a process that only imports NumPy; medians of CPU time and elapsed time are printed. The
target is half a second.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.files.large import KINDS, make

LOOK = """
import sys
from tui_gru.imported.inspect import inspect
(found,) = inspect(sys.argv[1])
assert found.hidden_size == 1024 and not {"torch", "onnx", "keras"} & set(sys.modules)
"""
ROUNDS = 9


def once(program: str, *arguments: str) -> tuple[float, float]:
    """The CPU seconds of a fresh process, and the seconds until it has ended."""
    begun, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, time.perf_counter() - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder, kind) for kind in KINDS}
        for kind, path in files.items():
            make(path, kind)
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in ("numpy", *KINDS)}
        for _ in range(ROUNDS):
            times["numpy"].append(once("import numpy"))
            for kind, path in files.items():
                times[kind].append(once(LOOK, str(path)))
        for kind, taken in times.items():
            cpu, elapsed = (median(seconds) for seconds in zip(*taken, strict=True))
            print(f"{kind:12} {cpu:.2f} s of CPU, {elapsed:.2f} s   {'' if kind == 'numpy' else 'at most 0.5'}")


if __name__ == "__main__":
    main()
