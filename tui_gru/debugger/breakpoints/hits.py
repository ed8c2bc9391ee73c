"""Where a trigger is hit in one batch after another: at all places of each, many batches at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tui_gru.debugger.breakpoints.triggers import Trigger
from tui_gru.debugger.breakpoints.watching import last_computed, same
from tui_gru.debugger.expressions.conditions import ConditionError
from tui_gru.debugger.expressions.values import Array, UnevenSliceError
from tui_gru.debugger.search.columns import BatchColumns, BatchView
from tui_gru.debugger.search.probe import TOGETHER, BatchReader
from tui_gru.debugger.state.tallies import Hits
from tui_gru.debugger.timeline.moment import value_before
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.batch import BatchRecord


class HitFinder:
    """Tests a trigger that reads something in the batches it is given. What has been found comes with a delay, in their order."""

    def __init__(self, trigger: Trigger, timeline: Timeline) -> None:
        reads = trigger.watched if trigger.condition is None else trigger.condition
        assert reads is not None
        self._trigger, self._timeline = trigger, timeline
        self._reader = BatchReader(reads, trigger.ticks, timeline)
        self._waiting: BatchColumns | None = None
        self._numbers: list[int] = []
        self._taken: list[list[Array]] = []
        self._together = 1  # more and more, so that what is near is found soon
        self._last: tuple[int, Any] = -2, None  # a batch, and what is watched after it

    def begin(self) -> None:
        """Begin again: what is near is to be found soon."""
        self._together = 1

    def add(self, batch: int, record: BatchRecord) -> list[Hits]:
        """Take another batch. The hits in those that have been tested by now."""
        previous = self._reader.before(batch, record)
        whole = self._reader.whole(batch, record, previous)
        found = []
        if whole is not self._waiting or len(self._numbers) == self._together:
            self._together = min(2 * self._together, TOGETHER)
            found, self._waiting = self.settle(), whole
        if whole is None:
            found.append(self._one_by_one(batch, record, previous))
        elif whole.ticks.size:
            self._numbers.append(batch)
            self._taken.append(whole.take(BatchView(batch, record, previous)))
        else:
            self._last = (batch, self._last[1]) if self._last[0] == batch - 1 else self._last
            found.append(Hits(batch))
        return found

    def settle(self) -> list[Hits]:
        """Test the batches that have been taken and not tested yet."""
        numbers, taken, whole = self._numbers, self._taken, self._waiting
        self._numbers, self._taken = [], []
        if whole is None or not numbers:
            return []
        try:
            held = self._held(whole, numbers, taken)
        except (ConditionError, UnevenSliceError):
            return [self._alone(batch) for batch in numbers]
        if not held.any():
            return [Hits(batch) for batch in numbers]
        ticks = np.array(numbers)[:, np.newaxis] * self._timeline.program.ticks + whole.ticks
        return [Hits(batch, tuple(ticks[i][held[i]].tolist())) for i, batch in enumerate(numbers)]

    def _held(self, whole: BatchColumns, numbers: Sequence[int], taken: Sequence[Sequence[Array]]) -> Array:
        """Whether it is hit at each tick of each batch, (batches, ticks)."""
        if self._trigger.condition is not None:
            return whole.holds(self._trigger.condition, taken)
        assert self._trigger.watched is not None
        values, count = whole.values(self._trigger.watched, taken), len(whole.ticks)
        changed = np.empty(len(values), bool)
        changed[1:] = _differ(values[1:], values[:-1])
        for i, batch in enumerate(numbers):
            if i == 0 or numbers[i - 1] != batch - 1:
                before = self._value_before(batch)
                changed[i * count] = before is not None and not same(before, values[i * count])
        self._last = numbers[-1], values[-1]
        return changed.reshape(len(numbers), count)

    def _value_before(self, batch: int) -> Any:
        """What is watched as it was when last computed before a batch; None if it never was."""
        if self._last[0] == batch - 1:
            return self._last[1]
        last = last_computed(self._trigger, self._timeline, batch * self._timeline.program.ticks + 1)
        return None if last is None else last[1]

    def _alone(self, batch: int) -> Hits:
        previous = self._timeline.before(batch)
        return self._one_by_one(batch, self._timeline.record(batch), previous)

    def _one_by_one(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> Hits:
        """Test the places of a batch, one after the other."""
        trigger, N = self._trigger, self._timeline.program.ticks
        last = None if trigger.watched is None else self._value_before(batch)
        ticks, errors = [], []
        for k in trigger.ticks[record.gradients is not None]:
            tick = batch * N + k
            moment = self._reader.moment(tick, record)
            before = partial(value_before, moment, previous)
            try:
                if trigger.condition is not None:
                    hit = trigger.condition.test(moment.value, before)
                else:
                    assert trigger.watched is not None
                    value = trigger.watched.value(moment.value, before)
                    hit = value is not None and last is not None and not same(last, value)
                    last = last if value is None else value
            except ConditionError as error:
                errors.append((tick, error.with_traceback(None)))  # it is kept, and need not keep records
                last = None
            else:
                if hit:
                    ticks.append(tick)
        if trigger.watched is not None:
            self._last = batch, last
        return Hits(batch, tuple(ticks), tuple(errors))


def _differ(one: Array, other: Array) -> Array:
    """At which of the rows two arrays are not the same; NaN and NaN are."""
    differ = one != other
    if one.dtype.kind == "f":
        differ &= ~(np.isnan(one) & np.isnan(other))
    return np.asarray(differ.any(axis=tuple(range(1, differ.ndim))))
