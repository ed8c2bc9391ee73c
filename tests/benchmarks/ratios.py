"""Speed of a training batch relative to PyTorch: `python -m tests.benchmarks.ratios`.

With `--write`, more sizes and float64 are measured, and written as a section of the manual.

The contenders run in turn, so that a slow phase of the machine affects all of them. Each figure is a median; each ratio is that of
two medians of the same rounds. Everything runs in one thread, whose CPU time counts. Before each round of a contender, it computes
a few batches that do not count, because it finds the data of another contender in the processor's caches.

Each library is measured with the kernels that it chooses for the processor: variables of the environment that hold some libraries
to older ones, as in many containers, do not count. A second column has both held to AVX2, which is what most processors have.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_info

from tests.benchmarks.contenders import CONTENDERS, OF_CELL, SIZES, Run, Sizes, in_two_threads, session, torch_module

SECONDS = 12.0  # a size
#: The required speed of a session relative to PyTorch, for each size.
TARGETS = {
    "gru": {"tutorial's loop": (8.0, 4.2, 1.3), "torch": (5.5, 2.4, 1.1)},
    "lstm": {"torch": (5.0, 0.7, 0.7)},
}
#: The variables that hold OpenBLAS, NumPy, oneDNN, MKL and PyTorch to the kernels of a processor, and their values for AVX2. One
#: that holds OpenBLAS alone would compare its kernels for an older processor with those of oneDNN for the newest.
HELD_TO_AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
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
    """Return the CPU time of a batch in this thread; a second thread of PyTorch goes on spinning for a while after its work."""
    start = time.thread_time()
    run(batches)
    return (time.thread_time() - start) / batches


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


LEAST_UNDISTURBED = 5  # rounds
SHORT_ROUNDS = 4  # in place of one
MOST_WAITING = 0.05  # of an undisturbed round, in which the threads wait for a core that other programs have


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


def waiting() -> float | None:
    """Return the seconds for which all threads of this process have waited for a core; None where the system does not say it."""
    try:
        return sum(float(path.read_text().split()[1]) for path in Path("/proc/self/task").glob("*/schedstat")) / 1e9
    except (OSError, IndexError):
        return None


def batch_times(sizes: Sizes, cell: str, dtype: str) -> BatchTimes:
    runs = {"session": session(sizes, cell, dtype), "torch": torch_module(sizes, cell, dtype)}
    runs["two"] = in_two_threads(torch_module(sizes, cell, dtype))
    calls = {name: _calls(run) for name, run in runs.items()}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    clock: dict[str, list[float]] = {name: [] for name in runs}  # of undisturbed rounds
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(cpu["torch"]) < 5:
        for name, run in runs.items():
            run(1 + calls[name] // 10)
            cpu[name].append(_time(run, calls[name]))
            for _ in range(SHORT_ROUNDS):  # of which other programs leave some alone
                batches = -(-calls[name] // SHORT_ROUNDS)
                waited, start = waiting(), time.perf_counter()
                run(batches)
                seconds, now = time.perf_counter() - start, waiting()
                if waited is not None and now is not None and now - waited <= MOST_WAITING * seconds:
                    clock[name].append(seconds / batches)
    one, torch_alone = 1000 * median(cpu["session"]), 1000 * median(cpu["torch"])
    if min(len(clock["session"]), len(clock["two"])) < LEAST_UNDISTURBED:
        return BatchTimes(one, torch_alone)
    return BatchTimes(one, torch_alone, 1000 * median(clock["session"]), 1000 * median(clock["two"]))


def processor() -> str:
    """Return the name of the processor, with the number of its cores that this process may use."""
    names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else []
    kernels = {pool["architecture"] for pool in threadpool_info() if pool.get("architecture")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0].strip() if names else platform.processor()}, {cores} cores, BLAS kernels for {' and '.join(sorted(kernels))}"


class MeasuredRow(NamedTuple):
    """A row of the section: a cell, its sizes and numbers, the times with the kernels that the libraries choose, and with AVX2."""

    cell: str
    sizes: Sizes
    dtype: str
    own: BatchTimes
    avx2: BatchTimes


def section(rows: Sequence[MeasuredRow], on: str) -> str:
    """Return the section of the manual that has these measurements; `on` names the processor and its kernels."""
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__.partition('+')[0]}"
    lines = [
        HEADING,
        "",
        f"`python -m tests.benchmarks.ratios --write` wrote this on {on}; {versions}.",
        "Medians of alternating runs. A session records every number of the batch; `torch.nn.GRU` and `torch.nn.LSTM` show no",
        "gates. The first ratio is of CPU times in one thread. The second is by the clock, PyTorch with two threads and a session",
        "with one, as always; · where other programs kept the cores, so that the clock says nothing. The third is as the first,",
        "with all libraries held to AVX2. An environment that holds only OpenBLAS to it (`OPENBLAS_CORETYPE=Haswell`) makes a",
        "session slower, and `torch.nn.LSTM` not, which oneDNN computes.",
        "",
        "| cell | sizes | numbers | a batch of a session | speed, of PyTorch's with one thread | with two threads | with AVX2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell, sizes, dtype, own, avx2 in rows:
        shown = f"H {sizes.H}, B {sizes.B}, T {sizes.T}, V {sizes.V}"
        second = own.speed_to_two_threads
        ratios = f"{own.speed:.2f} | {'·' if second is None else f'{second:.2f}'} | {avx2.speed:.2f}"
        lines.append(f"| {cell.upper()} | {shown} | {dtype} | {own.session:.3g} ms | {ratios} |")
    return "\n".join(lines) + "\n"


def run_with(kernels: Mapping[str, str], argument: str) -> list[str]:
    """Run this benchmark in a process in which only these variables choose kernels, show what it prints, and return that."""
    environment = {name: value for name, value in os.environ.items() if name not in HELD_TO_AVX2} | dict(kernels)
    command, lines = [sys.executable, "-m", "tests.benchmarks.ratios", argument], list[str]()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(process.returncode)
    return lines


def print_rows() -> None:
    """Measure all sizes with the kernels of this process, and print the processor and the times as lines of JSON."""
    print(json.dumps(processor()), flush=True)
    for dtype, all_sizes in (("float32", SIZES_IN_MANUAL), ("float64", IN_FLOAT64)):
        for cell in ("gru", "lstm"):
            for sizes in all_sizes:
                print(json.dumps([cell, astuple(sizes), dtype, batch_times(sizes, cell, dtype)]), flush=True)


def write_section() -> None:
    """Measure all sizes, and write the section into the manual."""
    (on, *own), (_, *avx2) = ([json.loads(line) for line in run_with(kernels, "--rows")] for kernels in ({}, HELD_TO_AVX2))
    rows = [
        MeasuredRow(cell, Sizes(*sizes), dtype, BatchTimes(*times), BatchTimes(*others))
        for (cell, sizes, dtype, times), (*_, others) in zip(own, avx2, strict=True)
    ]
    before = MEASURED.read_text(encoding="utf-8").partition(HEADING)[0].rstrip("\n")
    MEASURED.write_text(f"{before}\n\n{section(rows, on)}", encoding="utf-8")


def print_ratios() -> None:
    """Measure the sizes that have a target."""
    print(processor())
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


def main() -> None:
    match sys.argv[1:]:
        case ["--write"]:
            write_section()
        case ["--rows"]:
            print_rows()
        case ["--targets"]:
            print_ratios()
        case _:
            run_with({}, "--targets")


if __name__ == "__main__":
    main()
