"""Computes where the steps of each level end, and how many steps lie between two moments, by arithmetic.

Batches that learn have more steps than batches that do not, whose backward and update lines are skipped. So a timeline is divided
into runs of batches that all learn or all do not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tui_gru.debugger.program.line_table import Program
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

Level = Literal["op", "line", "timestep", "phase", "batch", "epoch"]
LEVELS: tuple[Level, ...] = ("op", "timestep", "phase", "batch", "epoch")  # a line is an op


def check_level(level: Level) -> Level:
    """Return one of `LEVELS`. Raises `TuiGruError` for anything else than these and `line`."""
    if not isinstance(level, str) or level not in (*LEVELS, "line"):
        raise TuiGruError(f"there is no level {arguments.shown(level)} to step by; there are line, {', '.join(LEVELS)}")
    return "op" if level == "line" else level


def ends_in_batch(program: Program, level: str, learns: bool) -> tuple[int, ...]:
    """Return the ticks within a batch at which a step of `level` ends.

    For `epoch` they are those of `batch`, and only the last batch of an epoch counts.
    """
    last = program.ticks if learns else program.loss_tick
    blocks = [block for block in program.blocks if block.end <= last]
    if level == "op":
        return tuple(range(1, last + 1))
    if level == "timestep":
        loops = [block for block in blocks if block.way]
        ends = [block.start + (step + 1) * len(block.lines) for block in loops for step in range(block.steps)]
        return tuple(dict.fromkeys((*ends, last))) if learns else tuple(ends)
    if level == "phase":
        return tuple(dict.fromkeys((program.loss_tick, program.backward_end, last))) if learns else (last,)
    return (last,)


class StepIndex:
    """Counts the steps of one level along a timeline. `runs` lists (first batch, learns) in order, beginning with batch 0."""

    def __init__(self, program: Program, level: str, runs: Sequence[tuple[int, bool]]) -> None:
        self._program, self._every = program, program.num_batches if level == "epoch" else 1
        self._starts = [first for first, _ in runs]
        self._ends = [ends_in_batch(program, level, learns) for _, learns in runs]
        self._before = [0]  # steps before each run
        for i in range(1, len(runs)):
            self._before.append(self._before[-1] + self._whole(i - 1, self._starts[i]))

    def _counted(self, batch: int) -> int:
        """Return the number of batches before `batch` that count: all, or only the last of each epoch."""
        return batch // self._every

    def _whole(self, run: int, batch: int) -> int:
        return (self._counted(batch) - self._counted(self._starts[run])) * len(self._ends[run])

    def count(self, tick: int) -> int:
        """Return the number of steps that end at or before `tick`."""
        if tick <= 0:
            return 0
        batch, k = divmod(tick - 1, self._program.ticks)
        run = bisect_right(self._starts, batch) - 1
        inside = bisect_right(self._ends[run], k + 1) if (batch + 1) % self._every == 0 else 0
        return self._before[run] + self._whole(run, batch) + inside

    def tick(self, n: int) -> int:
        """Return the tick at which the n-th step ends, 1-based; 0, the beginning, for n ≤ 0."""
        if n <= 0:
            return 0
        run = bisect_right(self._before, n - 1) - 1  # the last run with fewer than n steps before it
        batches, index = divmod(n - 1 - self._before[run], len(self._ends[run]))
        counted = self._counted(self._starts[run]) + batches
        batch = (counted + 1) * self._every - 1
        return batch * self._program.ticks + self._ends[run][index]


@dataclass(frozen=True)
class StepMemory:
    """Consecutive steps at one level from `origin`, stored so that the same number of steps back returns to `origin`.

    `net` is the sum of the steps so far, `at` the tick that they reached. `cut` is True if the last call ended early, at the
    beginning, the end or a stop. Then only a complete reverse returns: of all steps to `origin`, of the last call, which began at
    the tick `begun` and asked for `last` steps, to `begun`; other steps begin from `at`.
    """

    level: str
    origin: int
    net: int
    at: int
    cut: bool = False
    begun: int = 0
    last: int = 0

    @classmethod
    def begin(cls, level: str, tick: int) -> StepMemory:
        return cls(level, tick, 0, tick)

    def onwards(self, level: str, tick: int, count: int) -> StepMemory:
        """Return the memory for `count` steps from `tick`: this one if they continue it, otherwise a new one."""
        continues = (self.level, self.at) == (level, tick) and (not self.cut or -count in (self.net, self.last))
        return self if continues else StepMemory.begin(level, tick)

    def target(self, index: StepIndex, count: int) -> tuple[int, bool]:
        """Return the tick after `count` more steps, and whether they end early at the beginning of the run."""
        if self.cut and count == -self.last:
            return self.begun, False
        net, passed = self.net + count, index.count(self.origin)
        if net == 0:
            return self.origin, False
        if net < 0 and index.tick(passed) != self.origin:
            net += 1  # the first step back is to the last step end, less than a whole step away
        return index.tick(passed + net), passed + net < 0

    def gone(self, count: int, tick: int, cut: bool) -> StepMemory:
        """Return the memory after `count` more steps, which reached `tick`."""
        begun, last = (self.at, count) if cut else (0, 0)
        return replace(self, net=self.net + count, at=tick, cut=cut, begun=begun, last=last)
