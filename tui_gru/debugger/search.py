"""Finding a moment by what happens in it: a condition is tested each time something that it reads is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.conditions import Condition
from tui_gru.debugger.history import COLUMNS
from tui_gru.debugger.moment import COUNTERS, WRITTEN_WITH, Moment
from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.record import BatchRecord

WHOLE_COLUMNS = frozenset({*COLUMNS, "epoch", "batch"})


@dataclass(frozen=True)
class Found:
    """Where a search ended, and whether the condition held there."""

    tick: int
    matched: bool


def test_ticks(program: Program, names: frozenset[str], learns: bool) -> tuple[int, ...]:
    """The ticks within a batch at which something in `names` is computed, in order.

    Counters alone are tested where they change: `t` where a timestep begins, `batch` and `epoch` (and all that is constant in a
    batch) at its first line. Gradients count once they are complete.
    """
    ticks: set[int] = set()
    T, forward = program.seq_length, len(program.forward)
    for name in names - set(COUNTERS) - {"learning_rate"}:
        if name in ("x", "y", "h_prev", "char", "target"):
            ticks.update(t * forward + 1 for t in range(T))
        elif name == "grad_norm":
            ticks.add(program.backward_end)
        elif name == "max_weight":
            ticks.add(program.ticks if learns else program.loss_tick)
        elif name == "dh_future":
            ticks.update(_at_each_timestep(program, "dlogits"))
        else:
            ticks.update(_at_each_timestep(program, WRITTEN_WITH.get(name, name)))
    if not ticks:
        ticks.update((t * forward + 1 for t in range(T)) if "t" in names else (1,))
    last = program.ticks if learns else program.loss_tick
    return tuple(sorted(k for k in ticks if k <= last))


def _at_each_timestep(program: Program, name: str) -> Sequence[int]:
    line = next((line for line in program.backward if line.target == name), None)
    if line is not None and line.op == "+=":
        return [tick] if (tick := program.tick_of(name, 0)) is not None else []
    return [tick for t in range(program.seq_length) if (tick := program.tick_of(name, t)) is not None]


@dataclass
class _Tester:
    """Tests a condition at the places of one batch after another."""

    condition: Condition
    timeline: Timeline
    program: Program = field(init=False)
    _ticks: dict[bool, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = self.timeline.program

    def ticks(self, record: BatchRecord) -> tuple[int, ...]:
        learns = record.gradients is not None
        if learns not in self._ticks:
            self._ticks[learns] = test_ticks(self.program, self.condition.names, learns)
        return self._ticks[learns]

    def holds(self, batch: int, k: int, record: BatchRecord) -> bool:
        """Whether the condition holds after tick `k` of a batch."""
        position = position_of(self.program, batch * self.program.ticks + k)
        moment = Moment(self.program, position, record, self.timeline.segments[0].settings.trainer.corpus.vocabulary)
        return self.condition.test(moment.value, lambda name: self._previous(moment, name))

    def _previous(self, moment: Moment, name: str) -> Any:
        """The value that `name` had when it was computed last before this: a timestep earlier, or in the batch before."""
        t, position, program = moment.position.t, moment.position, self.program
        backwards = any(line.target == name and line.op == "=" for line in program.backward)
        per_timestep = program.tick_of(name, 0) != program.tick_of(name, program.seq_length - 1)
        before = t + 1 if backwards else t - 1
        if per_timestep and 0 <= before < program.seq_length:
            return moment.value(name, before)
        if position.number == 0:
            return None
        record = self.timeline.record(position.number - 1)
        end = position_of(program, position.number * program.ticks)
        last = Moment(program, end, record, moment.vocabulary)
        return last.value(name, 0 if backwards else program.seq_length - 1)


def search_forward(condition: Condition, timeline: Timeline, tick: int, end: Position | None, monitor: Monitor) -> Found:
    """The first place after `tick` where the condition holds; where the run ended or was stopped if there is none."""
    tester, N = _Tester(condition, timeline), timeline.program.ticks
    first = max(tick - 1, 0) // N
    found = Found(tick, False)

    def visit(batch: int, record: BatchRecord) -> bool:
        nonlocal found
        for k in tester.ticks(record):
            if batch * N + k > tick and tester.holds(batch, k, record):
                found = Found(batch * N + k, True)
                return True
        found = Found(max(tick, _end_of(timeline, batch)), False)
        return batch > first and monitor(batch, record)

    timeline.walk(first, None if end is None else end.number, visit)
    return found


def search_back(condition: Condition, timeline: Timeline, tick: int, end: Position | None, monitor: Monitor) -> Found:
    """The last place before `tick` where the condition holds; the beginning if there is none."""
    tester, N = _Tester(condition, timeline), timeline.program.ticks
    newest = max(tick - 1, 0) // N
    candidates = _batches_that_match(condition, timeline, newest)
    for batch in range(newest, -1, -1) if candidates is None else candidates.tolist():
        record = timeline.record(batch)
        for k in reversed(tester.ticks(record)):
            if batch * N + k < tick and tester.holds(batch, k, record):
                return Found(batch * N + k, True)
        if monitor(batch, record):
            return Found(min(tick, _end_of(timeline, batch)), False)
    return Found(0, False)


def _end_of(timeline: Timeline, batch: int) -> int:
    """The last tick of a batch: after its update, or after its loss where it does not learn."""
    ruler = timeline.ruler("batch")
    return ruler.tick(ruler.count((batch + 1) * timeline.program.ticks))


def _batches_that_match(condition: Condition, timeline: Timeline, batch: int) -> NDArray[np.intp] | None:
    """For a condition on columns only: the batches up to `batch` in which it holds, the latest first. None for any other."""
    if not condition.scalar(WHOLE_COLUMNS) or condition.previous:
        return None
    columns: dict[str, Any] = {name: timeline.column(name, batch) for name in COLUMNS}
    n = len(columns["loss"])
    columns["epoch"], columns["batch"] = np.divmod(np.arange(n), timeline.program.num_batches)
    return np.flatnonzero(condition.over_columns(columns))[::-1]


Search = Callable[[Condition, Timeline, int, Position | None, Monitor], Found]
