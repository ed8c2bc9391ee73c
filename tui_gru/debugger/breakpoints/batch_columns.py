"""Evaluates a condition at all places of one batch at once, from columns of its complete record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.expressions.conditions import Condition
from tui_gru.debugger.expressions.parser import CompiledExpression
from tui_gru.debugger.expressions.values import AnyArray
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.timeline.moment import Moment, value_before
from tui_gru.debugger.timeline.recorded import recorded
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.running.batch import BatchRecord


@dataclass(frozen=True, eq=False)
class BatchView:
    """A finished batch: its number through all epochs, its record, and the record of the batch before if that is needed."""

    number: int
    record: BatchRecord
    previous: BatchRecord | None = None


# The values of a name at the places of one batch: (n, …), or (1, …) if they are all the same.
Column = Callable[[BatchView], AnyArray]


@dataclass(frozen=True, eq=False)
class BatchColumns:
    """The ticks of a batch at which all values that a condition reads are computed, and how to read its columns from records."""

    ticks: AnyArray
    now: Mapping[str, Column]
    before: Mapping[str, Column]

    @classmethod
    def of(cls, condition: CompiledExpression, ticks: Sequence[int], like: Moment) -> BatchColumns | None:
        """Create the columns for all batches that learn, or do not learn, like that of `like` and the one before.

        None if not possible.
        """
        if not condition.names:  # there is nothing to read at each place
            return None
        program, record = like.program, like.record
        there = []
        for k in ticks:
            second = position_of(program, program.ticks + k)  # in the second batch, which has a previous one
            moment = Moment(program, second, record, like.vocabulary)
            values = [moment.value(name) for name in condition.current]
            values += [value_before(moment, record, name) for name in condition.previous]
            if all(value is not None for value in values):
                there.append(k)
        now = {name: _now(name, there, like) for name in condition.current}
        before = {name: _before(name, there, like) for name in condition.previous}
        if None in now.values() or None in before.values():
            return None
        return cls(np.array(there, int), _known(now.items()), _known(before.items()))

    def take(self, batch: BatchView) -> list[AnyArray]:
        """Return the columns of one batch, copied: the current values, then those for `prev()`."""
        return [column(batch).copy() for column in (*self.now.values(), *self.before.values())]

    def holds(self, condition: Condition, taken: Sequence[Sequence[AnyArray]]) -> AnyArray:
        """Return True for each tick of each of the batches `taken` at which the condition holds, (batches, ticks).

        Raises `ConditionError` if it cannot be evaluated at one of them, without saying at which.
        """
        shape = len(taken), len(self.ticks)
        return np.broadcast_to(condition.over_columns(*self._columns(taken)), shape[0] * shape[1]).reshape(shape)

    def values(self, expression: CompiledExpression, taken: Sequence[Sequence[AnyArray]]) -> AnyArray:
        """Return the values at all ticks of the batches `taken`, one batch after the other, (batches · ticks, …).

        Raises `ConditionError` if it cannot be evaluated at one of them, `UnevenSliceError` if its shape varies.
        """
        count = len(taken) * len(self.ticks)
        values = expression.evaluate(expression.moments(*self._columns(taken), count))
        return np.broadcast_to(values, (count, *values.shape[1:]))

    def _columns(self, taken: Sequence[Sequence[AnyArray]]) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
        columns = [self._joined(pieces) for pieces in zip(*taken, strict=True)]
        now = dict(zip(self.now, columns, strict=False))
        return now, dict(zip(self.before, columns[len(self.now) :], strict=True))

    def _joined(self, pieces: Sequence[AnyArray]) -> AnyArray:
        """Join the columns of all batches into one with a row for each tick."""
        joined = np.concatenate(pieces)
        return joined if len(joined) == len(pieces) * len(self.ticks) else np.repeat(joined, len(self.ticks), axis=0)


def _known(columns: Iterable[tuple[str, Column | None]]) -> dict[str, Column]:
    return {name: column for name, column in columns if column is not None}


def _now(name: str, ticks: Sequence[int], like: Moment) -> Column | None:
    """Return the current values of a name at `ticks`."""
    over_time, rows, program = _over_time(name, like), _rows(ticks, like.program), like.program
    if over_time is not None:
        return lambda batch: over_time(batch.record)[rows]
    match program.names[name].kind:
        case ValueKind.PARAMETER | ValueKind.OPTIMIZER_STATE:
            return _weight(name, ticks, program)
        case ValueKind.GRADIENT:
            return _gradient(name, ticks, program)
        case ValueKind.UPDATE_VALUE | ValueKind.VALUE | ValueKind.VALUE_GRADIENT:
            return lambda batch: recorded(program, batch.record, name)[np.newaxis]
    return _number(name, program)


def _before(name: str, ticks: Sequence[int], like: Moment) -> Column | None:
    """Return the values that `prev()` of a name has at `ticks`."""
    over_time, rows, way = _over_time(name, like), _rows(ticks, like.program), like.program.way_of(name)
    if over_time is not None and way < 0:
        return lambda batch: np.concatenate((over_time(batch.record)[1:], over_time(_previous(batch))[:1]))[rows]
    if over_time is not None:
        return lambda batch: np.concatenate((over_time(_previous(batch))[-1:], over_time(batch.record)[:-1]))[rows]
    end = [like.program.ticks]
    column = _now(name, end, like)
    return column and (lambda batch: column(BatchView(batch.number - 1, _previous(batch))))


def _previous(batch: BatchView) -> BatchRecord:
    assert batch.previous is not None
    return batch.previous


def _rows(ticks: Sequence[int], program: Program) -> AnyArray | slice:
    """Return the timesteps of `ticks`, as a slice if they are consecutive."""
    ts = [program.line_at(k)[1] for k in ticks]
    if ts and ts == list(range(ts[0], ts[-1] + 1)):
        return slice(ts[0], ts[-1] + 1)
    return np.array(ts, int)


def _over_time(name: str, like: Moment) -> Callable[[BatchRecord], AnyArray] | None:
    """Return a function that returns the values of a name at all timesteps, (T, …); None if the name has no value per timestep."""
    program, named = like.program, like.program.names[name]
    if named.kind is ValueKind.CHARACTER:
        letters, source = np.array(tuple(like.vocabulary)), program.tokens_of(name)
        return None if source is None else lambda record: letters[record.ids(source)]
    if name == "t":
        ts = np.arange(program.seq_length)
        return lambda record: ts
    if named.timed:
        return lambda record: record.array(name)
    return None


def _number(name: str, program: Program) -> Column | None:
    """Return the column of a scalar that is constant within a batch; None for others.

    max_weight is not constant, because the update changes it.
    """
    if program.names[name].kind is ValueKind.SETTING:
        return lambda batch: np.array([batch.record.settings[name]])
    if name in ("loss", "grad_norm"):
        return lambda batch: np.array([getattr(batch.record, name)])
    if name in program.lines:
        return lambda batch: np.array([batch.record.numbers[name]])
    if name == "epoch":
        return lambda batch: np.array([batch.number // program.num_batches])
    if name == "batch":
        return lambda batch: np.array([batch.number % program.num_batches])
    return None


def _weight(name: str, ticks: Sequence[int], program: Program) -> Column:
    """Return the column of a parameter, or of a state of the update rule; it has been updated at some of the ticks."""
    updated = program.tick_of(name)  # None in a run without an update
    after = [updated is not None and k >= updated for k in ticks]
    if all(after):
        return lambda batch: batch.record.after[name][np.newaxis]
    if not any(after):
        return lambda batch: batch.record.before[name][np.newaxis]
    index = np.array(after, int)
    return lambda batch: np.stack((batch.record.before[name], batch.record.after[name]))[index]


def _gradient(name: str, ticks: Sequence[int], program: Program) -> Column | None:
    """Return the column of the gradient of a parameter; None unless it is complete at all ticks."""
    if any(k < program.complete_at(name) for k in ticks):
        return None
    return lambda batch: batch.record.own_gradients[name[1:]][np.newaxis]


class BatchReader:
    """Prepares the test of a condition in batches of a timeline; `ticks` are the places in a batch, by whether it learns."""

    def __init__(self, condition: CompiledExpression, ticks: Mapping[bool, tuple[int, ...]], timeline: Timeline) -> None:
        self._condition, self._ticks, self._timeline = condition, ticks, timeline
        self._vocabulary = timeline.program.config.vocabulary
        self._whole: dict[bool, BatchColumns | None] = {}
        self._seen: tuple[int, BatchRecord | None] = -1, None

    def moment(self, tick: int, record: BatchRecord) -> Moment:
        """Return the moment at a tick of the batch whose complete record is `record`."""
        position = position_of(self._timeline.program, tick)
        if self._timeline.changed_in(position.number):
            return self._timeline.moment(tick)
        return Moment(self._timeline.program, position, record, self._vocabulary)

    def before(self, batch: int, record: BatchRecord) -> BatchRecord | None:
        """Return the record of the batch before, or None if the condition does not read it. Fast for consecutive batches."""
        if not self._condition.previous:
            return None
        seen, previous = self._seen
        self._seen = batch, record
        return previous if batch and seen == batch - 1 else self._timeline.before(batch)

    def whole(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> BatchColumns | None:
        """Return the columns to test all places of a batch at once; None if the places must be tested one by one."""
        learns = record.learned
        if self._timeline.changed_in(batch):
            return None
        if self._condition.previous and (batch == 0 or previous is None or previous.learned != learns):
            return None
        if learns not in self._whole:
            like = Moment(self._timeline.program, position_of(self._timeline.program, 0), record, self._vocabulary)
            self._whole[learns] = BatchColumns.of(self._condition, self._ticks[learns], like)
        return self._whole[learns]
