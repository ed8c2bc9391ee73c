"""Speed of a training batch relative to PyTorch: `python -m tests.benchmarks.ratios`.

The contenders run in turn, so that a slow phase of the machine affects all of them. Each figure is a median; each ratio is that of
two medians of the same rounds. Everything runs in one thread, whose CPU time counts. Before each round of a contender, it computes
a few batches that do not count, because it finds the data of another contender in the processor's caches.
"""

from __future__ import annotations

import time
from statistics import median

from tests.benchmarks.contenders import CONTENDERS, OF_CELL, SIZES, Run, Sizes

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


def main() -> None:
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
