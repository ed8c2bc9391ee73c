"""Counts hits without looking into batches: of lines, and of conditions on the columns that are kept of every batch."""

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
    """What conditions read of the batches of a timeline; for many that ask about the same batches it is read once."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._read: dict[tuple[str, int, int], Any] = {}

    def read(self, name: str, first: int, last: int) -> Any:
        """One of the timeline's whole columns, or 1 for those that learn (`learned`), of these batches, (n,); read-only."""
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
    """Counts the hits of one stop in batches that have been run, from their columns; `possible` says whether that can be done."""

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
        """The hits in each of the batches `first` … `last`, UNKNOWN where one has to look. None where it cannot be done."""
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
        """The ticks of the hits in a batch that has some; None where one has to look."""
        if self._condition is not None and self._timeline.changed_in(batch):
            return None
        start = batch * self._timeline.program.ticks
        return tuple(start + k for k in self._ticks[self._timeline.learns(batch)])

    def _holds(self, condition: Condition, first: int, last: int) -> NDArray[np.bool_]:
        """Whether it holds in each of the batches at the places where all that it reads is there."""
        previous = condition.previous
        if not previous:
            return np.asarray(condition.over_columns({name: self._columns.read(name, first, last) for name in condition.names}))
        begin = max(first - 1, 0)
        columns = {name: self._columns.read(name, begin, last) for name in condition.names}
        before = {name: column[:-1] for name, column in columns.items()}
        holds = condition.over_columns({name: column[1:] for name, column in columns.items()}, before)
        if "grad_norm" in previous:
            holds = holds & (self._columns.read("learned", begin, last)[:-1] != 0)
        return np.concatenate((np.zeros(last + 1 - first - len(holds), bool), holds))  # nothing is before the first batch


def _readable(condition: Condition, program: Program, ticks: tuple[int, ...], learns: bool) -> tuple[int, ...]:
    """Those of the ticks at which all that a condition on columns reads as of now has been computed."""
    since = {"loss": program.loss_tick, "grad_norm": program.backward_end if learns else program.ticks + 1}
    first = max((since.get(name, 0) for name in condition.current), default=0)
    return tuple(k for k in ticks if k >= first)
