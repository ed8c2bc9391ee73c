"""Finds the hits of a stop in batches, testing all places of several batches at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tui_gru.debugger.breakpoints.batch_columns import BatchColumns, BatchReader, BatchView
from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.breakpoints.watching import equal_values, last_computed
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.expressions.values import AnyArray, UnevenSliceError
from tui_gru.debugger.state.hit_counts import Hits
from tui_gru.debugger.timeline.moment import value_before
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.numbers import same
from tui_gru.engine.running.batch import BatchRecord

TOGETHER = 16  # the most batches that are tested at once


class HitFinder:
    """Tests a stop with a condition or a watch in batches. Results are in the order of the batches, and can be delayed."""

    def __init__(self, stop: ResolvedStop, timeline: Timeline) -> None:
        reads = stop.watched if stop.condition is None else stop.condition
        assert reads is not None
        self._stop, self._timeline = stop, timeline
        self._reader = BatchReader(reads, stop.ticks, timeline)
        self._waiting: BatchColumns | None = None
        self._numbers: list[int] = []
        self._taken: list[list[AnyArray]] = []
        self._together = 1  # the number of batches to test at once; it grows, so that a near hit is found early
        self._last: tuple[int, Any] = -2, None  # a batch, and the watched value at its end

    def begin(self) -> None:
        """Test few batches at once again, so that a near hit is found early."""
        self._together = 1

    def add(self, batch: int, record: BatchRecord) -> list[Hits]:
        """Add a batch. Returns the hits in the batches that have been tested by now."""
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
        """Test the batches that were added but not tested yet. Returns their hits."""
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

    def _held(self, whole: BatchColumns, numbers: Sequence[int], taken: Sequence[Sequence[AnyArray]]) -> AnyArray:
        """Return True for each tick of each batch at which the stop is hit, (batches, ticks)."""
        if self._stop.condition is not None:
            return whole.holds(self._stop.condition, taken)
        assert self._stop.watched is not None
        values, count = whole.values(self._stop.watched, taken), len(whole.ticks)
        changed = np.empty(len(values), bool)
        changed[1:] = _differ(values[1:], values[:-1])
        for i, batch in enumerate(numbers):
            if i == 0 or numbers[i - 1] != batch - 1:
                before = self._value_before(batch)
                changed[i * count] = before is not None and not equal_values(before, values[i * count])
        self._last = numbers[-1], values[-1]
        return changed.reshape(len(numbers), count)

    def _value_before(self, batch: int) -> Any:
        """Return the watched value that was computed last before a batch; None if there is none."""
        if self._last[0] == batch - 1:
            return self._last[1]
        last = last_computed(self._stop, self._timeline, batch * self._timeline.program.ticks + 1)
        return None if last is None else last[1]

    def _alone(self, batch: int) -> Hits:
        previous = self._timeline.before(batch)
        return self._one_by_one(batch, self._timeline.record(batch), previous)

    def _one_by_one(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> Hits:
        """Test the places of a batch one by one."""
        stop, N = self._stop, self._timeline.program.ticks
        last = None if stop.watched is None else self._value_before(batch)
        ticks, errors = [], []
        for k in stop.ticks[record.gradients is not None]:
            tick = batch * N + k
            moment = self._reader.moment(tick, record)
            before = partial(value_before, moment, previous)
            try:
                if stop.condition is not None:
                    hit = stop.condition.test(moment.value, before)
                else:
                    assert stop.watched is not None
                    value = stop.watched.value(moment.value, before)
                    hit = value is not None and last is not None and not equal_values(last, value)
                    last = last if value is None else value
            except ConditionError as error:
                errors.append((tick, error.with_traceback(None)))  # stored without its traceback, which would keep records alive
                last = None
            else:
                if hit:
                    ticks.append(tick)
        if stop.watched is not None:
            self._last = batch, last
        return Hits(batch, tuple(ticks), tuple(errors))


def _differ(one: AnyArray, other: AnyArray) -> AnyArray:
    """Return True for each row in which two arrays differ, (rows); NaN equals NaN."""
    differ = ~np.asarray(same(one, other))
    return np.asarray(differ.any(axis=tuple(range(1, differ.ndim))))
