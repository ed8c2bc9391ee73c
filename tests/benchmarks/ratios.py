"""How many times faster a training batch is here than in PyTorch: `python -m tests.benchmarks.ratios`.

The contenders take turns, so that what slows the machine slows them all; each figure is a median, each ratio that of two medians of
the same rounds.
"""

from __future__ import annotations

import time
from statistics import median

from tests.benchmarks.contenders import CONTENDERS, SIZES, Batch, Sizes

SECONDS = 6.0  # a size
TARGETS = {"tutorial's loop": (4.0, 3.0, 1.2), "torch.nn.GRU": (1.0, 1.0, 1.0)}  # a size each


def medians(sizes: Sizes) -> dict[str, float]:
    """The median time of a batch, in milliseconds, by contender."""
    batches = {name: make(sizes) for name, make in CONTENDERS.items()}
    calls = {name: _calls(batch) for name, batch in batches.items()}
    rounds: dict[str, list[float]] = {name: [] for name in batches}
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(rounds["engine"]) < 5:
        for name, batch in batches.items():
            rounds[name].append(_time(batch, calls[name]))
    return {name: 1000 * median(times) for name, times in rounds.items()}


def _calls(batch: Batch) -> int:
    """Calls that take about 20 ms together, so that the clock's own time does not count; the first warm up."""
    _time(batch, 3)
    return max(1, int(0.02 / _time(batch, 3)))


def _time(batch: Batch, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        batch()
    return (time.perf_counter() - start) / calls


def main() -> None:
    print(f"{'a training batch, ms':22}{'engine':>10}" + "".join(f"{name:>18}{'ratio':>8}{'target':>8}" for name in TARGETS))
    for i, sizes in enumerate(SIZES):
        found = medians(sizes)
        row = f"{sizes!s:22}{found['engine']:10.3f}"
        for name, targets in TARGETS.items():
            row += f"{found[name]:18.3f}{found[name] / found['engine']:8.2f}{targets[i]:8.1f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
