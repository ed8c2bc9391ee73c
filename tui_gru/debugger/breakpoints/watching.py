"""Watched values: their value at a moment, and the one computed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from typing import Any, overload

import numpy as np

from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.state.stops import Watch, Watched
from tui_gru.debugger.timeline.moment import Moment, value_before
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.numbers import same


class WatchedValues(Sequence[Watched]):
    """The watches at a moment. Each is evaluated when it is first read, so that watches that are not shown cost nothing.

    Evaluating may replay batches, which must not happen during a verb: the lock `idle` is held meanwhile. If a verb in another
    thread holds it, a watch that has not been evaluated has no value.
    """

    def __init__(self, watches: Sequence[Watch], evaluate: Callable[[Watch], Watched], idle: RLock) -> None:
        self._watches, self._evaluate, self._idle = watches, evaluate, idle
        self._known: dict[int, Watched] = {}

    def __len__(self) -> int:
        return len(self._watches)

    @overload
    def __getitem__(self, index: int) -> Watched: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Watched]: ...
    def __getitem__(self, index: int | slice) -> Watched | Sequence[Watched]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        watch = self._watches[index]
        if watch.id not in self._known:
            if not self._idle.acquire(blocking=False):
                return Watched(watch)
            try:
                self._known[watch.id] = self._evaluate(watch)
            finally:
                self._idle.release()
        return self._known[watch.id]


def watched(resolved: ResolvedStop, timeline: Timeline, moment: Moment) -> Watched:
    """Return a watch evaluated at a moment of a timeline."""
    watch = resolved.stop
    assert isinstance(watch, Watch)
    if not watch.enabled:
        return Watched(watch)
    tick, error, value = moment.position.tick, "", None
    try:
        value = value_at(resolved, timeline, tick)
    except ConditionError as problem:
        error = str(problem)
    return Watched(watch, value, _before(resolved, timeline, tick, value), error)


def _before(resolved: ResolvedStop, timeline: Timeline, tick: int, value: Any) -> Any:
    """Return the watched value computed before `value`; if `value` was not computed in this batch, the last one before the tick."""
    begin = timeline.position(tick).number * timeline.program.ticks
    last = place = last_computed(resolved, timeline, tick + 1)
    while value is not None and place is not None and place[0] > begin:
        before = last_computed(resolved, timeline, place[0])
        if equal_values(place[1], value):
            return None if before is None else before[1]
        place = before
    return None if last is None else last[1]


def value_at(resolved: ResolvedStop, timeline: Timeline, tick: int) -> Any:
    """Return the watched value at a tick; None if not computed yet. Raises `ConditionError` if it cannot be evaluated."""
    assert resolved.watched is not None
    moment = timeline.moment(tick)
    previous = timeline.before(moment.position.number) if resolved.watched.previous else None
    return resolved.watched.value(moment.value, partial(value_before, moment, previous))


def last_computed(resolved: ResolvedStop, timeline: Timeline, before: int) -> tuple[int, Any] | None:
    """Return the last tick before `before` at which the watched value was computed, and the value.

    None if it never was, or could not be evaluated where it would have been computed last.
    """
    N = timeline.program.ticks
    batch = max(before - 1, 0) // N if any(resolved.ticks.values()) else -1
    while batch >= 0:
        learns = timeline.learns(batch)
        for tick in (batch * N + k for k in reversed(resolved.ticks[learns])):
            if tick < before:
                try:
                    value = value_at(resolved, timeline, tick)
                except ConditionError:
                    return None
                if value is not None:
                    return tick, value
        in_part = before <= (batch + 1) * N
        batch = batch - 1 if learns or in_part or timeline.changed_in(batch) else _next_to_test(timeline, batch)
    return None


def _next_to_test(timeline: Timeline, batch: int) -> int:
    """Return the last batch before `batch` that may have a value, if `batch`, which does not learn, has none; −1 if there is none.

    Other batches that do not learn have no more values, except one right after a batch that learns.
    """
    learned = np.flatnonzero(timeline.learned(0, batch - 1))
    likely = [min(int(each) + 1, batch - 1) for each in learned[-1:]]
    return max((*likely, *timeline.changed_batches(0, batch - 1)[-1:]), default=-1)


def equal_values(one: Any, other: Any) -> bool:
    """Return True if two values of any shape and kind are equal; NaN equals NaN."""
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and a.dtype.kind == b.dtype.kind and bool(np.all(same(a, b)))
