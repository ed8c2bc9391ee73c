"""Where a step of each level ends, and how many such places lie between two moments: arithmetic, no search.

Batches that learn have more places than those that do not (their backward and update lines are not stepped over), so a timeline is
cut into runs of batches that are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from tui_gru.debugger.program import Program
from tui_gru.engine.errors import TuiGruError

LEVELS = ("op", "timestep", "phase", "batch", "epoch")


def check_level(level: str) -> str:
    if level not in LEVELS:
        raise TuiGruError(f"there is no level {level!r} to step by; there are {', '.join(LEVELS)}")
    return level


def ends_in_batch(program: Program, level: str, learns: bool) -> tuple[int, ...]:
    """The ticks within a batch at which a step of `level` ends (epoch: as batch, though only an epoch's last batch counts)."""
    T, F, K = program.seq_length, len(program.forward), len(program.backward)
    loss, N = program.loss_tick, program.ticks
    if level == "op":
        return tuple(range(1, (N if learns else loss) + 1))
    if level == "timestep":
        forward = tuple(F * (t + 1) for t in range(T))
        return (*forward, *(loss + K * (i + 1) for i in range(T)), N) if learns else forward
    if level == "phase":
        return (loss, program.backward_end, N) if learns else (loss,)
    return (N,) if learns else (loss,)


class Ruler:
    """Counts the places of one level along a timeline. `runs` lists (first batch, learns), in order, the first from batch 0."""

    def __init__(self, program: Program, level: str, runs: Sequence[tuple[int, bool]]) -> None:
        self._program, self._every = program, program.num_batches if level == "epoch" else 1
        self._starts = [first for first, _ in runs]
        self._ends = [ends_in_batch(program, level, learns) for _, learns in runs]
        self._before = [0]  # places before each run
        for i in range(1, len(runs)):
            self._before.append(self._before[-1] + self._whole(i - 1, self._starts[i]))

    def _counted(self, batch: int) -> int:
        """Batches before `batch` that count: all, or the last of each epoch."""
        return batch // self._every

    def _whole(self, run: int, batch: int) -> int:
        return (self._counted(batch) - self._counted(self._starts[run])) * len(self._ends[run])

    def count(self, tick: int) -> int:
        """How many places there are up to and including `tick`."""
        if tick <= 0:
            return 0
        batch, k = divmod(tick - 1, self._program.ticks)
        run = bisect_right(self._starts, batch) - 1
        inside = bisect_right(self._ends[run], k + 1) if (batch + 1) % self._every == 0 else 0
        return self._before[run] + self._whole(run, batch) + inside

    def tick(self, n: int) -> int:
        """The tick of the n-th place, 1-based; 0 for n ≤ 0, the beginning."""
        if n <= 0:
            return 0
        run = bisect_right(self._before, n - 1) - 1  # the last run with fewer than n places before it
        batches, index = divmod(n - 1 - self._before[run], len(self._ends[run]))
        counted = self._counted(self._starts[run]) + batches
        batch = (counted + 1) * self._every - 1
        return batch * self._program.ticks + self._ends[run][index]
