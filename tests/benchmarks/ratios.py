"""Speed of a training batch relative to PyTorch: `python -m tests.benchmarks.ratios`.

With `--write`, more sizes and float64 are measured, and written as a section of the manual.

The contenders run in turn, so that a slow phase of the machine affects all of them. Each figure is a median; each ratio is that of
two medians of the same rounds. Everything runs in one thread, whose CPU time counts. Before each round of a contender, it computes
a few batches that do not count, because it finds the data of another contender in the processor's caches.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_info

from tests.benchmarks.contenders import CONTENDERS, OF_CELL, SIZES, Run, Sizes, in_two_threads

SECONDS = 8.0  # a size
#: The required speed of a session relative to PyTorch, for each size.
TARGETS = {
    "gru": {"tutorial's loop": (8.0, 4.2, 1.3), "torch": (5.5, 2.4, 1.1)},
    "lstm": {"torch": (5.0, 1.1, 0.9)},
}
MOST_OF_ENGINE = 1.1  # time of a batch of a session, relative to a batch of the engine alone


def medians(sizes: Sizes, cell: str) -> dict[str, float]:
    """Return the median CPU time of a batch, in milliseconds, by contender."""
    runs = {name: CONTENDERS[name](sizes, cell) for name in OF_CELL[cell]}
    calls = {name: _calls(run) for name, run in runs.items()}
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(rounds["engine"]) < 5:
        for name, run in runs.items():
            run(1 + calls[name] // 10)
            rounds[name].append(_time(run, calls[name]))
    return {name: 1000 * median(times) for name, times in rounds.items()}


def _calls(run: Run) -> int:
    """Return the number of batches that take about 30 ms together, so that the clock's resolution does not matter; the first ones
    warm up."""
    _time(run, 3)
    return max(1, int(0.03 / _time(run, max(3, int(0.03 / _time(run, 3))))))


def _time(run: Run, batches: int) -> float:
    start = time.process_time()
    run(batches)
    return (time.process_time() - start) / batches


# ------------------------------------------------------------------------------
# The section of the manual.


MEASURED = Path(__file__).parents[2] / "tui_gru" / "manual" / "measured.md"
HEADING = "## A training batch, by its size"
SIZES_IN_MANUAL = (
    Sizes(2, 2, 3, 4),
    Sizes(64, 16, 32, 64),
    Sizes(128, 32, 32, 64),
    Sizes(256, 32, 64, 96),
    Sizes(512, 32, 64, 96),
)
IN_FLOAT64 = SIZES_IN_MANUAL[1], SIZES_IN_MANUAL[3]


MOST_BY_CLOCK = 1.1  # time of a session by the clock, relative to its CPU time, up to which the cores count as free


class BatchTimes(NamedTuple):
    """Median times of a batch in ms: of a session and of PyTorch in one thread, as CPU time; of the session and of PyTorch in two
    threads, by the clock, None where other programs keep the cores, so that the clock says nothing."""

    session: float
    torch: float
    session_by_clock: float | None = None
    two_threads: float | None = None

    @property
    def speed(self) -> float:
        """Speed relative to PyTorch in one thread."""
        return self.torch / self.session

    @property
    def speed_to_two_threads(self) -> float | None:
        """Speed relative to PyTorch in two threads."""
        if self.session_by_clock is None or self.two_threads is None:
            return None
        return self.two_threads / self.session_by_clock


def batch_times(sizes: Sizes, cell: str, dtype: str) -> BatchTimes:
    runs = {"session": CONTENDERS["session"](sizes, cell, dtype), "torch": CONTENDERS["torch"](sizes, cell, dtype)}
    calls = {name: _calls(run) for name, run in runs.items()}
    start, started = time.perf_counter(), time.process_time()
    runs["session"](calls["session"])
    are_free = time.perf_counter() - start <= MOST_BY_CLOCK * (time.process_time() - started)
    if are_free:
        runs["two"] = in_two_threads(CONTENDERS["torch"](sizes, cell, dtype))
        calls["two"] = calls["torch"]
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    clock: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(cpu["torch"]) < 5:
        for name, run in runs.items():
            run(1 + calls[name] // 10)
            start = time.perf_counter()
            cpu[name].append(_time(run, calls[name]))
            clock[name].append((time.perf_counter() - start) / calls[name])
    middle = {name: 1000 * median(rounds) for name, rounds in cpu.items()}
    by_clock = 1000 * median(clock["session"])
    if not are_free or by_clock > MOST_BY_CLOCK * middle["session"]:
        return BatchTimes(middle["session"], middle["torch"])
    return BatchTimes(middle["session"], middle["torch"], by_clock, 1000 * median(clock["two"]))


def processor() -> str:
    """Return the name of the processor, with the number of its cores that this process may use."""
    names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else []
    kernels = {pool["architecture"] for pool in threadpool_info() if pool.get("architecture")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0].strip() if names else platform.processor()}, {cores} cores, BLAS kernels for {' and '.join(sorted(kernels))}"


def section(rows: Sequence[tuple[str, Sizes, str, BatchTimes]]) -> str:
    """Return the section of the manual that has these measurements."""
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__.partition('+')[0]}"
    everywhere = ", as in all of these rows" if all(times.two_threads is None for *_, times in rows) else ""
    lines = [
        HEADING,
        "",
        f"`python -m tests.benchmarks.ratios --write` wrote this on {processor()}; {versions}.",
        "Medians of alternating runs. A session records every number of the batch; `torch.nn.GRU` and `torch.nn.LSTM` show no",
        "gates. The first ratio is of CPU times in one thread. The second is by the clock, PyTorch with two threads and a session",
        f"with one, as always; · where other programs kept the cores, so that the clock says nothing{everywhere}.",
        "",
        "| cell | sizes | numbers | a batch of a session | speed, of PyTorch's with one thread | with two threads |",
        "|---|---|---|---|---|---|",
    ]
    for cell, sizes, dtype, times in rows:
        shown = f"H {sizes.H}, B {sizes.B}, T {sizes.T}, V {sizes.V}"
        second = times.speed_to_two_threads
        ratios = f"{times.speed:.2f} | {'·' if second is None else f'{second:.2f}'}"
        lines.append(f"| {cell.upper()} | {shown} | {dtype} | {times.session:.3g} ms | {ratios} |")
    return "\n".join(lines) + "\n"


def write_section() -> None:
    """Measure all sizes, and write the section into the manual."""
    rows = []
    for dtype, all_sizes in (("float32", SIZES_IN_MANUAL), ("float64", IN_FLOAT64)):
        for cell in ("gru", "lstm"):
            for sizes in all_sizes:
                rows.append((cell, sizes, dtype, batch_times(sizes, cell, dtype)))
                print(*rows[-1], flush=True)
    before = MEASURED.read_text(encoding="utf-8").partition(HEADING)[0].rstrip("\n")
    MEASURED.write_text(f"{before}\n\n{section(rows)}", encoding="utf-8")


def main() -> None:
    if "--write" in sys.argv[1:]:
        write_section()
        return
    for cell, targets in TARGETS.items():
        for i, sizes in enumerate(SIZES):
            found = medians(sizes, cell)
            of_engine = f"{found['session'] / found['engine']:.2f} of the engine alone (<= {MOST_OF_ENGINE})"
            print(f"{cell} {sizes}: a batch of a session {found['session']:.3f} ms, {of_engine}")
            for name, least in targets.items():
                print(
                    f"    {found[name] / found['session']:.2f} times as fast as {name}, {found[name]:.3f} ms (>= {least[i]})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
