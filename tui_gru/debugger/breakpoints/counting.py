"""Counts hits of lines and of conditions on scalars, without computing any batch again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.breakpoints.resolved import ResolvedStop
from tui_gru.debugger.checkpoints.scalars import COLUMNS
from tui_gru.debugger.expressions.conditions import Condition, ConditionError
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.state.hit_counts import UNKNOWN
from tui_gru.debugger.timeline.timeline import Timeline

MOST_READ = 16  # columns


class Columns:
    """A cache of the scalars that conditions read, so that several stops read those of the same batches only once."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._read: dict[tuple[str, int, int], Any] = {}

    def read(self, name: str, first: int, last: int) -> Any:
        """Return a scalar of each of the batches, (n), read-only: a column of the timeline, or `learned`, 1 if the batch learns."""
        key = name, first, last
        if key not in self._read:
            if len(self._read) >= MOST_READ:
                self._read.clear()
            self._read[key] = self._values(*key)
        return self._read[key]

    def _values(self, name: str, first: int, last: int) -> Any:
        if name == "learned":
            return self._timeline.learned(first, last).astype(np.intp)
        if name in COLUMNS:
            return self._timeline.column(name, first, last)
        epochs, batches = np.divmod(np.arange(first, last + 1), self._timeline.program.num_batches)
        return epochs if name == "epoch" else batches


class ColumnCounter:
    """Counts the hits of one stop in computed batches from their scalars, if `possible`."""

    def __init__(self, stop: ResolvedStop, timeline: Timeline, columns: Columns) -> None:
        self._timeline, self._condition, self._columns = timeline, stop.condition, columns
        condition, program = stop.condition, timeline.program
        self.plain = stop.plain
        self._ticks = dict(stop.ticks)
        self.possible = self.plain
        if condition is not None and condition.names and condition.scalar(timeline.whole_columns):
            self._ticks = {learns: _readable(condition, program, ticks, learns) for learns, ticks in stop.ticks.items()}
            self.possible = "max_weight" not in condition.current or self._ticks[True] in ((), (program.ticks,))
        self._each = np.array([len(self._ticks[learns]) for learns in (False, True)], np.int32)

    def counts(self, first: int, last: int) -> NDArray[np.int32] | None:
        """Return the number of hits in each of the batches `first` … `last`, UNKNOWN if a batch must be tested.

        None if not possible.
        """
        counts: NDArray[np.int32] = self._each[self._columns.read("learned", first, last)]
        if self._condition is None:
            return counts
        try:
            counts *= self._holds(self._condition, first, last)
        except ConditionError:
            return None
        if changed := self._timeline.changed_batches(first, last):
            counts[np.array(changed) - first] = UNKNOWN
        return counts

    def ticks_in(self, batch: int) -> tuple[int, ...] | None:
        """Return the ticks of the hits in a batch that has hits; None if the batch must be tested."""
        if self._condition is not None and self._timeline.changed_in(batch):
            return None
        start = batch * self._timeline.program.ticks
        return tuple(start + k for k in self._ticks[self._timeline.learns(batch)])

    def _holds(self, condition: Condition, first: int, last: int) -> NDArray[np.bool_]:
        """Return True for each of the batches in which the condition holds where all values that it reads are computed."""
        previous = condition.previous
        if not previous:
            return np.asarray(condition.over_columns({name: self._columns.read(name, first, last) for name in condition.names}))
        begin = max(first - 1, 0)
        columns = {name: self._columns.read(name, begin, last) for name in condition.names}
        before = {name: column[:-1] for name, column in columns.items()}
        holds = condition.over_columns({name: column[1:] for name, column in columns.items()}, before)
        if "grad_norm" in previous:
            holds = holds & (self._columns.read("learned", begin, last)[:-1] != 0)
        return np.concatenate((np.zeros(last + 1 - first - len(holds), bool), holds))  # the first batch has no previous one


def _readable(condition: Condition, program: Program, ticks: tuple[int, ...], learns: bool) -> tuple[int, ...]:
    """Return the ticks at which the current values of all scalars that a condition reads have been computed."""
    since = {"loss": program.loss_tick, "grad_norm": program.backward_end if learns else program.ticks + 1}
    first = max((since.get(name, 0) for name in condition.current), default=0)
    return tuple(k for k in ticks if k >= first)
