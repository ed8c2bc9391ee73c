"""Where a condition is tested: at the places of each batch where something that it reads is computed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tui_gru.debugger.expressions.conditions import Condition, ConditionError, Expression
from tui_gru.debugger.expressions.values import Array
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import Kind
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.search.columns import BatchColumns, BatchView
from tui_gru.debugger.timeline.moment import Moment, value_before
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.batch import BatchRecord

TOGETHER = 16  # batches, at most, that are tested at once


@dataclass(frozen=True)
class Found:
    """Where a search ended, whether the condition held there, and why it could not be evaluated there, if so."""

    tick: int
    matched: bool = False
    error: ConditionError | None = None


def tested_ticks(program: Program, names: frozenset[str], learns: bool) -> tuple[int, ...]:
    """The ticks within a batch at which something in `names` is computed, in order.

    Gradients count once they are complete; parameters, which a batch that does not learn leaves as they are, at its end; counters
    where nothing else is read: `t` where a timestep begins, the others at the first line.
    """
    T, last = program.seq_length, program.ticks if learns else program.loss_tick
    begins = [program.there_at(next(iter(program.model.page.inputs)), t) for t in range(T)]
    ticks: set[int | None] = set()
    for name in names:
        match program.names[name].kind:
            case Kind.INPUT | Kind.CHARACTER:
                ticks.update(begins)
            case Kind.PARAMETER | Kind.KEPT if not learns or not program.update:
                ticks.add(last)
            case Kind.NUMBER if name == "max_weight":
                ticks.add(last)
            case Kind.NUMBER if name == "loss" and name not in program.lines:  # it is known from elsewhere
                ticks.add(program.loss_tick)
            case Kind.NUMBER if name == "grad_norm" and name not in program.lines:
                ticks.add(program.backward_end)
            case Kind.GRADIENT:
                ticks.add(program.complete_at(name))
            case Kind.COUNTER:
                pass
            case Kind.STATE | Kind.DELTA:
                ticks.update(program.there_at(name, t) for t in range(T))
            case _:
                ticks.update(program.tick_of(name, t) for t in range(T))
    computed = ticks - {None}
    if not computed:
        computed = set(begins) if "t" in names else {1}
    return tuple(sorted(tick for tick in computed if tick is not None and tick <= last))


class BatchReader:
    """How a condition is tested in the batches of a timeline, at given ticks within them (by whether a batch learns)."""

    def __init__(self, condition: Condition | Expression, ticks: Mapping[bool, tuple[int, ...]], timeline: Timeline) -> None:
        self._condition, self._ticks, self._timeline = condition, ticks, timeline
        self._vocabulary = timeline.program.config.vocabulary
        self._whole: dict[bool, BatchColumns | None] = {}
        self._seen: tuple[int, BatchRecord | None] = -1, None

    def moment(self, tick: int, record: BatchRecord) -> Moment:
        """What can be read at a tick of the batch whose finished record this is."""
        position = position_of(self._timeline.program, tick)
        if self._timeline.changed_in(position.number):
            return self._timeline.moment(tick)
        return Moment(self._timeline.program, position, record, self._vocabulary)

    def before(self, batch: int, record: BatchRecord) -> BatchRecord | None:
        """The record of the batch before, if it is read; cheap where the batches come one after the other."""
        if not self._condition.previous:
            return None
        seen, previous = self._seen
        self._seen = batch, record
        return previous if batch and seen == batch - 1 else self._timeline.before(batch)

    def whole(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> BatchColumns | None:
        """How to test all places of a batch at once; None where they have to be tested one by one."""
        learns = record.learned
        if self._timeline.changed_in(batch):
            return None
        if self._condition.previous and (batch == 0 or previous is None or previous.learned != learns):
            return None
        if learns not in self._whole:
            like = Moment(self._timeline.program, position_of(self._timeline.program, 0), record, self._vocabulary)
            self._whole[learns] = BatchColumns.of(self._condition, self._ticks[learns], like)
        return self._whole[learns]


class Probe:
    """Tests one condition in one batch after another of a timeline, many of them at once.

    Of the places after tick `after` and before tick `before` it finds the first where the condition holds, or cannot be evaluated;
    with `last` the last.
    """

    def __init__(
        self, condition: Condition, timeline: Timeline, *, after: int = -1, before: int = sys.maxsize, last: bool = False
    ) -> None:
        self._condition, self._timeline, self._program = condition, timeline, timeline.program
        self._after, self._before, self._last = after, before, last
        self._ticks = {learns: tested_ticks(self._program, condition.names, learns) for learns in (False, True)}
        self._reader = BatchReader(condition, self._ticks, timeline)
        self._waiting: BatchColumns | None = None
        self._numbers: list[int] = []
        self._taken: list[list[Array]] = []
        self._together = 1  # more and more, so that what is near is found soon

    def add(self, batch: int, record: BatchRecord) -> Found | None:
        """Take another batch, later than those before it. What is found in those that have been tested by now."""
        previous = self._reader.before(batch, record)
        whole = self._reader.whole(batch, record, previous)
        found = None
        if whole is not self._waiting or len(self._numbers) == self._together:
            self._together = min(2 * self._together, TOGETHER)
            found, self._waiting = self.settle(), whole
        if whole is None:
            return self._of(found, self._one_by_one(batch, record, previous))
        if whole.ticks.size:
            self._numbers.append(batch)
            self._taken.append(whole.take(BatchView(batch, record, previous)))
        return found

    def settle(self) -> Found | None:
        """Test the batches that have been taken and not tested yet. What is found in them."""
        numbers, taken, whole = self._numbers, self._taken, self._waiting
        self._numbers, self._taken = [], []
        if whole is None or not numbers:
            return None
        try:
            held = whole.holds(self._condition, taken)
        except ConditionError:
            return self._each_alone(numbers)
        if not held.any():
            return None
        ticks = (np.array(numbers)[:, np.newaxis] * self._program.ticks + whole.ticks)[held]
        ticks = ticks[(ticks > self._after) & (ticks < self._before)]
        return Found(int(ticks[-1 if self._last else 0]), True) if ticks.size else None

    def _of(self, earlier: Found | None, later: Found | None) -> Found | None:
        """The one that is looked for."""
        return (later or earlier) if self._last else (earlier or later)

    def _each_alone(self, numbers: Sequence[int]) -> Found | None:
        for batch in reversed(numbers) if self._last else numbers:
            previous = self._timeline.before(batch) if self._condition.previous else None
            found = self._one_by_one(batch, self._timeline.record(batch), previous)
            if found is not None:
                return found
        return None

    def _one_by_one(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> Found | None:
        """Test the places of a batch, one after the other."""
        ticks = [batch * self._program.ticks + k for k in self._ticks[record.learned]]
        for tick in reversed(ticks) if self._last else ticks:
            if not self._after < tick < self._before:
                continue
            moment = self._reader.moment(tick, record)
            try:
                if self._condition.test(moment.value, partial(value_before, moment, previous)):
                    return Found(tick, True)
            except ConditionError as error:
                return Found(tick, False, error)
        return None
