"""Where a step of each level ends, and how many such places lie between two moments: arithmetic, no search.

Batches that learn have more places than those that do not (their backward and update lines are not stepped over), so a timeline is
cut into runs of batches that are alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_gru.debugger.program.line_table import Program
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

LEVELS = ("op", "timestep", "phase", "batch", "epoch")


def check_level(level: str) -> str:
    if not isinstance(level, str) or level not in LEVELS:
        raise TuiGruError(f"there is no level {arguments.shown(level)} to step by; there are {', '.join(LEVELS)}")
    return level


def ends_in_batch(program: Program, level: str, learns: bool) -> tuple[int, ...]:
    """The ticks within a batch at which a step of `level` ends (epoch: as batch, though only an epoch's last batch counts)."""
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


@dataclass(frozen=True)
class StepMemory:
    """Steps at one level from `origin`, wherever in a batch that is, remembered so that their reverse leads back to it.

    `net` is how many have been asked for so far, `at` the tick that they have led to; `cut` says that they were to lead further,
    but the beginning, the end or a stop was in the way: then only the whole reverse leads back, and other steps begin from `at`.
    """

    level: str
    origin: int
    net: int
    at: int
    cut: bool = False

    @classmethod
    def begin(cls, level: str, tick: int) -> StepMemory:
        return cls(level, tick, 0, tick)

    def onwards(self, level: str, tick: int, count: int) -> StepMemory:
        """The stride that `count` steps from `tick` belong to: this one, or a new one."""
        goes_on = (self.level, self.at) == (level, tick) and (not self.cut or self.net + count == 0)
        return self if goes_on else StepMemory.begin(level, tick)

    def target(self, index: StepIndex, count: int) -> tuple[int, bool]:
        """Where `count` more steps lead, and whether the beginning is in their way."""
        net, passed = self.net + count, index.count(self.origin)
        if net == 0:
            return self.origin, False
        if net < 0 and index.tick(passed) != self.origin:
            net += 1  # the first step back is to the place before, which is nearer than a whole step
        return index.tick(passed + net), passed + net < 0

    def gone(self, count: int, tick: int, cut: bool) -> StepMemory:
        """After `count` more steps, which have led to `tick`."""
        return replace(self, net=self.net + count, at=tick, cut=cut)
