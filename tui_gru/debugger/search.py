"""Finds the places where a run stops: searches batches for hits, counts them, and says why a run stopped."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.expressions import AnyArray, CompiledExpression, Condition, ConditionError, UnevenSliceError
from tui_gru.debugger.history import COLUMNS
from tui_gru.debugger.moment import Moment, recorded, value_before
from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import Program, ValueKind
from tui_gru.debugger.state import UNKNOWN, HitCache, HitCounts, Hits, LogLine, Watch
from tui_gru.debugger.stops import ResolvedStop, equal_values, last_computed, value_at
from tui_gru.debugger.timeline import BLOCK, Monitor, Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import same

# ------------------------------------------------------------------------------
# Evaluates a condition at all places of one batch at once, from columns of its complete record.


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


# ------------------------------------------------------------------------------
# Finds the hits of a stop in batches, testing all places of several batches at once.


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


# ------------------------------------------------------------------------------
# Counts the hits of one stop on a timeline, batch by batch, and tells in which batches it stops a run.


MOST_READ = 16  # columns


class ScalarCache:
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

    def __init__(self, stop: ResolvedStop, timeline: Timeline, columns: ScalarCache) -> None:
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


class HitCounter:
    """Counts the hits of `stop` into `hits`. If `matters` is False, the hits are only counted and stop no run: a log point.

    `counts` is True if they can be counted from scalars of the timeline, without testing batches.
    """

    def __init__(self, stop: ResolvedStop, timeline: Timeline, hits: HitCounts, columns: ScalarCache, *, matters: bool) -> None:
        self.stop, self.hits, self.matters = stop, hits, matters
        self._timeline, self._columns = timeline, ColumnCounter(stop, timeline, columns)
        self._finder: HitFinder | None = None
        self.counts = self._columns.possible

    def begin(self) -> None:
        """Prepare for another search: test few batches at once at first, so that a near hit is found early."""
        if self._finder is not None:
            self._finder.begin()

    @property
    def counted(self) -> bool:
        """True if the stop has a hit count, so that the number of hits in all batches before must be known."""
        return self.stop.count is not None

    def known(self, batch: int) -> bool:
        """Return True if the hits in a batch have been counted."""
        return self.hits.known(batch)

    def fill(self, first: int, last: int) -> None:
        """Count the hits in the batches `first` … `last` from scalars, if possible."""
        for low in range(first, last + 1, BLOCK):
            if self.counts:
                self._fill(low, min(low + BLOCK - 1, last))

    def _fill(self, first: int, last: int) -> None:
        noted = self.hits.counts(first, last)
        unknown = np.flatnonzero(noted == UNKNOWN) if first < last else range(noted.item() == UNKNOWN)
        if not len(unknown):
            return
        low, high = int(unknown[0]), int(unknown[-1])
        counts = self._columns.counts(first + low, first + high)
        self.counts = counts is not None
        if counts is not None:
            part = noted[low : high + 1]
            np.copyto(part, counts, where=part == UNKNOWN)

    def count(self, first: int, last: int) -> bool:
        """Count the hits in the batches `first` … `last`, which are computed. True if one of them may stop a run."""
        self.fill(first, last)
        if not self.counts:  # the columns could not be evaluated
            for batch in range(first, last + 1):
                if not self.known(batch):
                    self._note(self._testing().add(batch, self._timeline.record(batch)))
            self.settle()
        return bool(self.possible_hits(first, last).any())

    def look(self, batch: int, record: BatchRecord) -> bool:
        """Test a batch that has not been counted. True if one of the batches tested so far may stop a run."""
        return self._note(self._testing().add(batch, record))

    def settle(self) -> bool:
        """Test the batches that were added but not tested yet. True if one of them may stop a run."""
        return self._finder is not None and self._note(self._finder.settle())

    def may_stop(self, batch: int) -> bool:
        """Return True if a hit in `batch`, which has been counted, stops the run, or the condition could not be evaluated in it."""
        if not self.matters:
            return False
        if self.hits.doubtful(batch, batch):
            return True
        count = int(self.hits.counts(batch, batch)[0])
        if count <= 0 or self.stop.count is None:
            return count > 0
        before = self.hits.before(batch)
        return before is None or bool(self.stop.count.stops_between(before, before + count))

    def possible_hits(self, first: int, last: int) -> NDArray[Any]:
        """Return True for each of the batches `first` … `last` that has not been counted, or may stop a run."""
        if first == last:
            return np.array([not self.known(first) or self.may_stop(first)])
        counts = self.hits.counts(first, last)
        worth: NDArray[Any] = counts == UNKNOWN
        if self.matters:
            hit = counts > 0
            if self.stop.count is not None and (before := self.hits.before(first)) is not None and not worth.any():
                upto = before + np.cumsum(counts, dtype=np.int64)
                hit &= self.stop.count.stops_between(upto - counts, upto)
            worth |= hit
            worth[[batch - first for batch in self.hits.doubtful(first, last)]] = True
        return worth

    def hits_in(self, batch: int) -> Hits:
        """Return the hits in a batch."""
        if (noted := self.hits.noted(batch)) is not None:
            return noted
        ticks = self._columns.ticks_in(batch) if self.counts else None
        if ticks is not None:
            return Hits(batch, ticks)
        finder = HitFinder(self.stop, self._timeline)
        (hits,) = [*finder.add(batch, self._timeline.record(batch)), *finder.settle()]
        self.hits.note(hits)
        return hits

    def stops_in(self, batch: int) -> list[tuple[int, int | None]]:
        """Return the ticks in a batch at which it stops a run, each with the number of the hit if the stop has a hit count."""
        ticks = self.hits_in(batch).ticks
        if self.stop.count is None:
            return [(tick, None) for tick in ticks]
        before = self.hits.before(batch)
        assert before is not None
        return [(tick, n) for n, tick in enumerate(ticks, before + 1) if self.stop.count.stops(n)]

    def number(self, tick: int) -> int | None:
        """Return the number of the hit at a tick, counted in time from 1; None if the hits before have not all been counted."""
        batch = (tick - 1) // self._timeline.program.ticks
        if self.hits.before(batch) is None:
            self.fill(0, batch - 1)
        before = self.hits.before(batch)
        return None if before is None else before + bisect_left(self.hits_in(batch).ticks, tick) + 1

    def _testing(self) -> HitFinder:
        if self._finder is None:
            self._finder = HitFinder(self.stop, self._timeline)
        return self._finder

    def _note(self, found: list[Hits]) -> bool:
        for hits in found:
            self.hits.note(hits)
        return any(self.may_stop(hits.batch) for hits in found if hits.ticks or hits.errors)


# ------------------------------------------------------------------------------
# Finds the first or the last place where one of several stops is hit, in one pass over the batches.


CHUNK = 32  # at least so many batches are replayed together, in the order of time, by a search backwards
SEARCH_BLOCK = 2**14  # batches whose counts are searched at once
COUNTED_TOGETHER = 64  # the most batches that are counted at once while they are computed
QUIET = 32  # batches in a row that have been counted before, after which the search continues in the counts


@dataclass(frozen=True, eq=False)
class SearchEnd:
    """The end of a search: at a stop, at its goal, or at the end of the batch where the monitor interrupted it (`broken_off`).

    `by` are the stops that are hit there, each with the number of the hit if known. With `error`, the condition of the stop in
    `by` could not be evaluated there.
    """

    tick: int
    by: tuple[tuple[ResolvedStop, int | None], ...] = ()
    error: ConditionError | None = None
    broken_off: bool = False


class StopSearch:
    """Searches a timeline for the places at which one of `counters` stops a run. `monitor` sees every batch and can interrupt."""

    def __init__(self, timeline: Timeline, counters: Sequence[HitCounter], monitor: Monitor) -> None:
        self._timeline, self._counters, self._monitor = timeline, counters, monitor
        self._N = timeline.program.ticks

    def forward(self, tick: int, end: int) -> SearchEnd:
        """Return the first stop after `tick`, up to `end`.

        If there is none: `end`, or the place where the search was interrupted.
        """
        first, last = tick // self._N, max(end - 1, 0) // self._N
        if self._count_before(first):
            return SearchEnd(tick, broken_off=True)
        broken = False
        while first <= last:
            if first <= self._timeline.computed:
                high = min(first + SEARCH_BLOCK - 1, self._timeline.computed, last)
                batch = next(self._candidates(first, high), None)
                if batch is None:
                    first = high + 1
                    continue
                first = batch
                if self._known(batch):
                    if found := self._stop_in(batch, tick, end, latest=False):
                        return found
                    first += 1
                    continue
            reached, broken = self._walk(first, last)
            if broken:
                last = reached
        if broken:
            return SearchEnd(max(tick, min(self._timeline.end_of(last), end)), broken_off=True)
        return SearchEnd(end)

    def back(self, tick: int, begin: int) -> SearchEnd:
        """Return the last stop before `tick`, from `begin` on.

        If there is none: `begin`, or the place where the search was interrupted.
        """
        first, last = max(begin - 1, 0) // self._N, max(tick - 1, 0) // self._N
        if self._count_before(last + 1):
            return SearchEnd(tick, broken_off=True)
        while (batch := self._last_candidate(first, last)) is not None:
            last = batch
            if self._known(batch):
                if found := self._stop_in(batch, begin - 1, tick - 1, latest=True):
                    return found
                last -= 1
            elif self._count_back(max(first, last - SEARCH_BLOCK + 1), last):
                return SearchEnd(min(tick, self._timeline.end_of(last)), broken_off=True)
        return SearchEnd(begin)

    def latest(self, counter: HitCounter, after: int, upto: int, most: int) -> list[int]:
        """Return the ticks of the last hits of one counter after `after`, up to `upto`, latest first: `most` or a few more."""
        found: list[int] = []
        first, last = after // self._N, max(upto - 1, 0) // self._N
        if self._count_before(last + 1):
            return found
        while len(found) < most and (batch := self._last_candidate(first, last)) is not None:
            last = batch
            if counter.known(batch):
                found += [tick for tick, _ in reversed(counter.stops_in(batch)) if after < tick <= upto]
                last -= 1
            elif self._count_back(max(first, last - SEARCH_BLOCK + 1), last):
                break
        return found

    def _count_before(self, batch: int) -> bool:
        """Count all hits before `batch` for the stops with a hit count. True if interrupted."""
        counting = [counter for counter in self._counters if counter.counted and counter.hits.before(batch) is None]
        if not counting:
            return False
        every, self._counters = self._counters, counting
        try:
            for counter in counting:
                counter.fill(0, batch - 1)
            unknown = self._unknown(0, batch - 1)
            while unknown is not None:
                reached, broken = self._walk(unknown, batch - 1, through=True)
                if broken:
                    return True
                unknown = self._unknown(reached, batch - 1)
        finally:
            self._counters = every
        return False

    def _unknown(self, first: int, last: int) -> int | None:
        """Return the first of the batches `first` … `last` in which some counter has not counted yet; None if there is none."""
        if first > last:
            return None
        unknown = [np.flatnonzero(counter.hits.counts(first, last) < 0)[:1] for counter in self._counters]
        return min((first + int(each[0]) for each in unknown if each.size), default=None)

    def _known(self, batch: int) -> bool:
        return all(counter.known(batch) for counter in self._counters)

    def _candidates(self, first: int, last: int, *, latest: bool = False) -> Iterator[int]:
        """Return the batches in which a stop is hit or possible, in order, or in reverse if `latest` is True."""
        worth = np.zeros(last + 1 - first, bool)
        for counter in self._counters:
            counter.fill(first, last)
            worth |= counter.possible_hits(first, last)
        batches = np.flatnonzero(worth)
        return iter((first + (batches[::-1] if latest else batches)).tolist())

    def _last_candidate(self, first: int, last: int) -> int | None:
        """Return the last of the batches `first` … `last` in which a stop is hit or possible; None if there is none."""
        while last >= first:
            low = max(first, last - SEARCH_BLOCK + 1)
            if (batch := next(self._candidates(low, last, latest=True), None)) is not None:
                return batch
            last = low - 1
        return None

    def _walk(self, first: int, last: int, *, through: bool = False) -> tuple[int, bool]:
        """Compute batches from `first` on until one of them may have a stop, or, if `through` is True, up to `last`.

        Returns the last batch reached, up to which all hits are counted, and whether it was interrupted.
        """
        reached, quiet, broken, computed = first, 0, False, self._timeline.computed
        counting = [counter for counter in self._counters if counter.counts]
        looking = [counter for counter in self._counters if not counter.counts]
        uncounted, together = first, 1  # the first batch that `counting` has not counted; how many it counts at once

        def count(upto: int) -> bool:
            nonlocal uncounted, counting
            stops = [counter.count(uncounted, upto) for counter in counting] if uncounted <= upto else []
            looking.extend(counter for counter in counting if not counter.counts)
            uncounted, counting = upto + 1, [counter for counter in counting if counter.counts]
            return any(stops)

        def look(batch: int, record: BatchRecord) -> bool:
            changed = self._timeline.changed_in(batch)
            stops = changed and count(batch - 1)
            for counter in (*looking, *counting) if changed else tuple(looking):
                if changed and counter.stop.plain:
                    continue
                if not counter.known(batch):
                    stops = counter.look(batch, record) or stops
                elif counter.matters and not through:
                    stops = counter.settle() or counter.may_stop(batch) or stops
            return stops

        def visit(batch: int, record: BatchRecord) -> bool:
            nonlocal reached, quiet, broken, together
            reached, known = batch, all(counter.known(batch) for counter in looking)
            quiet = quiet + 1 if known else 0
            stops = look(batch, record)
            if batch + 1 - uncounted >= together:
                together = min(2 * together, COUNTED_TOGETHER)
                stops = count(batch) or stops
            broken = self._monitor(batch, record)
            return broken or (stops and not through) or (quiet >= QUIET and batch < computed)

        self._timeline.walk(first, last, visit)
        count(reached)
        for counter in self._counters:
            counter.settle()
        return reached, broken

    def _count_back(self, low: int, last: int) -> bool:
        """Count the hits in the batches up to `last`, as many as are replayed at once. True if interrupted."""
        start = max(low, self._timeline.replay_start(max(0, last - CHUNK + 1)))
        while (unknown := self._unknown(start, last)) is not None:
            start, broken = self._walk(unknown, last, through=True)
            if broken:
                return True
        return False

    def _stop_in(self, batch: int, after: int, upto: int, *, latest: bool) -> SearchEnd | None:
        """Return the first, or the latest, stop in a batch whose hits are all counted."""
        stops: dict[int, list[HitCounter]] = {}
        errors: dict[int, tuple[HitCounter, ConditionError]] = {}
        for counter in self._counters:
            if counter.matters and counter.may_stop(batch):
                for tick, _ in counter.stops_in(batch):
                    stops.setdefault(tick, []).append(counter)
                for tick, error in counter.hits_in(batch).errors:
                    errors.setdefault(tick, (counter, error))
        ticks = [tick for tick in (*stops, *errors) if after < tick <= upto]
        if not ticks:
            return None
        tick = max(ticks) if latest else min(ticks)
        if tick in errors:
            counter, error = errors[tick]
            return SearchEnd(tick, ((counter.stop, None),), error)
        return SearchEnd(tick, tuple((counter.stop, counter.number(tick)) for counter in stops[tick]))


# ------------------------------------------------------------------------------
# The message that says why a run stopped, such as `stopped at h̃ = tanh(…): breakpoint 2, hit 5 · loss < 0.5`.


_CALL = re.compile(r"([^()]*\w)\((.*)\)")  # a formula that is a single function call
LONGEST = 48


def why(found: SearchEnd, timeline: Timeline) -> str:
    """Return the message for the end of a search."""
    reasons = "; ".join(_by(resolved, hit, found, timeline) for resolved, hit in found.by)
    if all(isinstance(resolved.stop, Watch) for resolved, _ in found.by):
        return f"stopped: {reasons}"
    return f"stopped at {_line(timeline.position(found.tick))}: {reasons}"


def _by(resolved: ResolvedStop, hit: int | None, found: SearchEnd, timeline: Timeline) -> str:
    stop = resolved.stop
    what = f"{'watch' if isinstance(stop, Watch) else 'breakpoint'} {stop.id}"
    if found.error is not None:
        return f"{what} cannot be evaluated, {found.error}"
    if isinstance(stop, Watch):
        return f"{what}, {stop.expression} {_change(resolved, found.tick, timeline)}"
    counted = "" if hit is None else f", hit {hit}"
    elsewhere = "" if _holds(resolved, found.tick, timeline) else " (a hit on the machine that recorded it; here it does not hold)"
    return f"{what}{counted}{' · ' * bool(stop.condition)}{stop.condition}{elsewhere}"


def _holds(resolved: ResolvedStop, tick: int, timeline: Timeline) -> bool:
    """Return True unless another machine counted a hit there and the condition does not hold with the numbers of this one."""
    batch = timeline.position(tick).number
    if resolved.condition is None or timeline.is_exact(batch):
        return True
    moment = timeline.moment(tick)
    try:
        return resolved.condition.test(moment.value, partial(value_before, moment, timeline.before(batch)))
    except ConditionError:
        return False


def _line(position: Position) -> str:
    """Return the line just executed, shortened."""
    text = "the beginning" if position.line is None else position.line.text
    if (call := _CALL.fullmatch(text)) is not None:
        text = f"{call[1]}(…)"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _change(resolved: ResolvedStop, tick: int, timeline: Timeline) -> str:
    try:
        now = value_at(resolved, timeline, tick)
        if now is None or isinstance(now, np.ndarray):  # the value before it need not be computed
            return "changed"
        last = last_computed(resolved, timeline, tick)
    except ConditionError:
        return "changed"
    before = None if last is None else last[1]
    if before is None or isinstance(before, np.ndarray):
        return "changed"
    return " → ".join(told_apart(before, now))


def told_apart(before: Any, now: Any) -> tuple[str, str]:
    """Return two numbers with the fewest digits that tell them apart."""
    if not isinstance(now, float) or not isinstance(before, float):
        return str(before), str(now)
    for digits in (4, 6, 9, 17):
        kind = "f" if 10.0 ** (1 - digits) <= abs(now) < 1e6 or now == 0 else "g"
        shown = f"{before:.{digits}{kind}}", f"{now:.{digits}{kind}}"
        if shown[0] != shown[1]:
            break
    return shown


# ------------------------------------------------------------------------------
# Creates the lines that log points write at the places that a run has passed.


MOST_LINES = 1000  # per branch


def lines_between(
    stops: Sequence[ResolvedStop], timeline: Timeline, cache: HitCache, after: int, upto: int, monitor: Monitor, most: int
) -> list[LogLine]:
    """Return the last `most` lines that log points write at places after `after`, up to `upto`, in order."""
    passed: list[tuple[int, int, ResolvedStop]] = []
    columns = ScalarCache(timeline)
    for stop in stops:
        counter = HitCounter(stop, timeline, cache.of(timeline, stop.key), columns, matters=True)
        ticks = StopSearch(timeline, [counter], monitor).latest(counter, after, upto, most)
        passed += [(tick, stop.id, stop) for tick in ticks]
    passed.sort(key=lambda each: each[:2])
    lines: list[LogLine] = []
    for tick, id, stop in passed[-most:]:
        moment = timeline.moment(tick)
        if monitor(moment.position.number, moment.record):
            break
        lines.append(LogLine(tick, id, _rendered(stop, timeline, moment)))
    return lines


def merged(old: Sequence[LogLine], new: Sequence[LogLine], most: int) -> tuple[LogLine, ...]:
    """Merge old and new lines in order; for each place and log point the newer line is used. Returns the last `most`."""
    by_place = {(line.tick, line.id): line for line in (*old, *new)}
    return tuple(sorted(by_place.values()))[-most:]


def _rendered(stop: ResolvedStop, timeline: Timeline, moment: Moment) -> str:
    assert stop.log is not None
    previous = timeline.before(moment.position.number) if stop.log.previous else None
    try:
        return stop.log.render(moment.value, partial(value_before, moment, previous))
    except ConditionError as error:
        return f"cannot be written: {error}"
