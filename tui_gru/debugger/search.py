"""Finds the places where a run stops: the hits of one stop, the first or last hit of several, and why a run stopped."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.expressions import AnyArray, CompiledExpression, ConditionError, UnevenSliceError
from tui_gru.debugger.history import COLUMNS
from tui_gru.debugger.moment import Moment, equal_values, value_before
from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import CHARACTERS, Program, Store
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.stops import (
    UNKNOWN,
    HitCache,
    HitCounts,
    Hits,
    LogLine,
    ResolvedStop,
    Watch,
    last_computed,
    readers,
    value_at,
)
from tui_gru.debugger.timeline import BLOCK, Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import same

# ------------------------------------------------------------------------------
# The columns of a batch: the values of the names that a stop reads, at all places where it is tested, from the complete record.

#: Returns the values of a name in a batch, from its number, its record and the record of the batch before: (places, …), or (1, …)
#: if they are the same at all places.
Column = Callable[[int, BatchRecord, BatchRecord | None], AnyArray]


@dataclass(frozen=True, eq=False)
class BatchColumns:
    """The ticks of a batch at which all values that an expression reads are computed, (places), and the columns of its names."""

    ticks: AnyArray
    now: Mapping[str, Column]
    before: Mapping[str, Column]

    @classmethod
    def of(cls, reads: CompiledExpression, ticks: Sequence[int], like: Moment) -> BatchColumns | None:
        """Create the columns for all batches that learn, or do not learn, like that of `like` and the one before.

        None if a name has a value that is not in the record as a whole, such as a gradient that is still accumulating.
        """
        if not reads.names:  # there is nothing to read at each place
            return None
        program, record = like.program, like.record
        computed = []
        for k in ticks:
            # Which values are computed depends only on the place in the batch. Asked in the second batch, since the first has none
            # before it.
            moment = Moment(program, position_of(program, program.ticks + k), record, like.vocabulary)
            values = [moment.value(name) for name in reads.current]
            values += [value_before(moment, record, name) for name in reads.previous]
            if all(value is not None for value in values):
                computed.append(k)
        now = {name: _column(name, computed, like) for name in reads.current}
        before = {name: _column_before(name, computed, like) for name in reads.previous}
        if None in now.values() or None in before.values():
            return None
        return cls(np.array(computed, int), now, before)  # type: ignore[arg-type]

    def take(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> list[AnyArray]:
        """Return the columns of one batch, (places, …) or (1, …), those of `now` first; copies, since records are used again."""
        return [column(batch, record, previous).copy() for column in (*self.now.values(), *self.before.values())]

    def joined(self, batches: Sequence[Sequence[AnyArray]]) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
        """Return the columns of several batches by name, (batches · places, …), and those for `prev()`."""
        rows, columns = len(batches) * len(self.ticks), [np.concatenate(pieces) for pieces in zip(*batches, strict=True)]
        columns = [column if len(column) == rows else np.repeat(column, len(self.ticks), axis=0) for column in columns]
        return dict(zip(self.now, columns, strict=False)), dict(zip(self.before, columns[len(self.now) :], strict=True))


def _column(name: str, ticks: Sequence[int], like: Moment) -> Column | None:
    """Return the column of the current values of a name at `ticks`; None if they are not in the record as a whole."""
    program, over_time = like.program, _over_time(name, like)
    if over_time is not None:
        rows = _timesteps(ticks, program)
        return lambda batch, record, previous: over_time(record)[rows]
    named = program.names[name]
    match named.kind.store:
        case Store.WEIGHTS:
            updated = program.tick_of(name)  # None in a run without an update
            after = [updated is not None and k >= updated for k in ticks]
            if any(after) and not all(after):
                index = np.array(after, int)
                return lambda batch, record, previous: np.stack((record.before[name], record.after[name]))[index]
            if any(after):
                return lambda batch, record, previous: record.after[name][np.newaxis]
            return lambda batch, record, previous: record.before[name][np.newaxis]
        case Store.GRADIENTS if any(k < program.complete_at(name) for k in ticks):
            return None
        case Store.SETTINGS:
            return lambda batch, record, previous: np.array([record.settings[name]])
        case Store.NOTHING:
            return lambda batch, record, previous: np.array([program.counter(name, batch)])
    if name == "max_weight":  # the update changes it within a batch
        return None
    return lambda batch, record, previous: named.complete(record)[np.newaxis]


def _column_before(name: str, ticks: Sequence[int], like: Moment) -> Column | None:
    """Return the column of the values that `prev()` of a name has at `ticks`."""
    over_time, rows, direction = _over_time(name, like), _timesteps(ticks, like.program), like.program.direction_of(name)
    if over_time is None:
        column = _column(name, [like.program.ticks], like)
        return column and (lambda batch, record, previous: column(batch - 1, _not_none(previous), None))
    if direction < 0:
        return lambda batch, record, previous: np.concatenate((over_time(record)[1:], over_time(_not_none(previous))[:1]))[rows]
    return lambda batch, record, previous: np.concatenate((over_time(_not_none(previous))[-1:], over_time(record)[:-1]))[rows]


def _not_none(previous: BatchRecord | None) -> BatchRecord:
    assert previous is not None
    return previous


def _timesteps(ticks: Sequence[int], program: Program) -> AnyArray | slice:
    """Return the timesteps of `ticks`, as a slice if they are consecutive, which needs no copy."""
    ts = [program.line_at(k)[1] for k in ticks]
    if ts and ts == list(range(ts[0], ts[-1] + 1)):
        return slice(ts[0], ts[-1] + 1)
    return np.array(ts, int)


def _over_time(name: str, like: Moment) -> Callable[[BatchRecord], AnyArray] | None:
    """Return a function that returns the values of a name at all timesteps, (T, …); None if the name has no value per timestep."""
    program, named = like.program, like.program.names[name]
    if name in CHARACTERS:
        letters, source = np.array(tuple(like.vocabulary)), program.tokens_of(name)
        return None if source is None else lambda record: letters[record.ids(source)]
    if name == "t":
        ts = np.arange(1, program.seq_length + 1)
        return lambda record: ts
    if named.timed:
        return lambda record: record.array(name)
    return None


# ------------------------------------------------------------------------------
# The hits of one stop on a timeline.


TOGETHER = 16  # the most batches whose records are tested at once
COUNTED_TOGETHER = 64  # the most batches that are counted at once from scalars while they are computed
MOST_READ = 16  # columns

#: Returns a scalar of the batches `first` … `last` by name, (last + 1 − first), read-only.
ReadScalars = Callable[[str, int, int], Any]


def scalars_of(timeline: Timeline) -> ReadScalars:
    """Return a function that reads the scalars of a timeline: its columns, the counters, and `learned`, 1 if a batch learns.

    It caches what it has read last, for the stops that read the same batches in turn.
    """

    @lru_cache(MOST_READ)
    def read(name: str, first: int, last: int) -> Any:
        if name == "learned":
            return timeline.learned(first, last).astype(np.intp)
        if name in COLUMNS:
            return timeline.column(name, first, last)
        return timeline.program.counter(name, np.arange(first, last + 1))

    return read


class HitCounter:
    """Finds the hits of `stop` on a timeline, and counts them into `hits`. If `stops_runs` is False, they stop no run: a log point.

    Hits are found in one of three ways, which find the same; each is used where the one before it cannot be:
    - `fill`: for a block of batches, from scalars that the timeline has for every batch, without a record. `scalar` is True if
      the stop reads no others;
    - `_at_once`: at all places of several batches, from columns of their records;
    - `_one_by_one`: place by place, in a batch within which a change was made, so that its record does not hold at all places, or
      at a place of which the stop cannot be evaluated.
    """

    def __init__(self, stop: ResolvedStop, timeline: Timeline, hits: HitCounts, read: ReadScalars, *, stops_runs: bool) -> None:
        self.stop, self.hits, self.stops_runs = stop, hits, stops_runs
        self._timeline, self._read, self._ticks = timeline, read, dict(stop.ticks)
        self.scalar = stop.plain
        condition, program = stop.condition, timeline.program
        if condition is not None and condition.names and condition.names <= timeline.whole_columns:
            # A scalar is the same at all places where it is computed, except max_weight, which the update changes.
            self._ticks = {learns: _readable(condition, program, ticks, learns) for learns, ticks in stop.ticks.items()}
            self.scalar = "max_weight" not in condition.current or self._ticks[True] in ((), (program.ticks,))
        self._each = np.array([len(self._ticks[learns]) for learns in (False, True)], np.int32)
        self._columns: dict[bool, BatchColumns | None] = {}  # by whether the batch learns
        self._waiting: list[int] = []  # batches that have been seen and are not tested yet
        self._columns_of_waiting: list[list[AnyArray]] = []  # their columns
        self._waiting_columns: BatchColumns | None = None
        self._together = 1  # how many batches wait for each other: few at first, so that a near hit is found early
        self._seen: tuple[int, BatchRecord | None] = -2, None  # the batch seen last, and its record, or what `prev()` reads of it
        self._bytes, self._most_bytes = 0, timeline.memory.budget.share("records")  # of the columns taken
        self._last: tuple[int, Any] = -2, None  # a batch, and the watched value at its end

    def begin(self) -> None:
        """Prepare for another search."""
        self._together = 1

    # Counting

    def is_counted(self, batch: int) -> bool:
        """Return True if the hits in a batch have been counted."""
        return self.hits.is_counted(batch)

    def fill(self, first: int, last: int) -> None:
        """Count the hits in the computed batches `first` … `last`, except those that have to be tested by their records."""
        for low in range(first, last + 1, BLOCK):
            if self.scalar:
                self._fill(low, min(low + BLOCK - 1, last))

    def _fill(self, first: int, last: int) -> None:
        counted = self.hits.counts(first, last)
        unknown = np.flatnonzero(counted == UNKNOWN) if first < last else range(counted.item() == UNKNOWN)
        if not len(unknown):
            return
        low, high = int(unknown[0]), int(unknown[-1])
        try:
            counts = self._counts(first + low, first + high)
        except ConditionError:
            self.scalar = False
            return
        part = counted[low : high + 1]
        np.copyto(part, counts, where=part == UNKNOWN)

    def _counts(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the number of hits in each of the batches, from their scalars; UNKNOWN for one within which a change was made."""
        counts: NDArray[np.int32] = self._each[self._read("learned", first, last)]
        if self.stop.condition is not None:
            counts *= self._holds(self.stop.condition, first, last)
            if changed := self._timeline.changed_batches(first, last):
                counts[np.array(changed) - first] = UNKNOWN
        return counts

    def _holds(self, condition: CompiledExpression, first: int, last: int) -> NDArray[np.bool_]:
        """Return True for each of the batches in which the condition holds where all values that it reads are computed."""
        begin = max(first - 1, 0) if condition.previous else first
        now = {name: self._read(name, begin, last)[first - begin :] for name in condition.names}
        if not condition.previous:
            return condition.over_columns(now)
        if begin == first:  # the first batch has none before it
            now = {name: column[1:] for name, column in now.items()}
        before = {name: self._read(name, begin, last)[:-1] for name in condition.names}
        holds = condition.over_columns(now, before)
        if "grad_norm" in condition.previous:
            holds = holds & (self._read("learned", begin, last)[:-1] != 0)
        return np.concatenate((np.zeros(last + 1 - first - len(holds), bool), holds))

    def count(self, first: int, last: int) -> bool:
        """Count the hits in the computed batches `first` … `last` from scalars. True if one of them may stop a run."""
        self.fill(first, last)
        if not self.scalar:  # the scalars cannot be evaluated
            self._store([self._alone(batch) for batch in range(first, last + 1) if not self.is_counted(batch)])
        return bool(self.possible_hits(first, last).any())

    def see(self, batch: int, record: BatchRecord) -> bool:
        """Test a batch that has just been computed by its record, now or with those after it. True if one of the batches tested by
        now may stop a run."""
        if self.is_counted(batch):
            return self.test_waiting() or self.may_stop(batch)
        return self._store(self._add(batch, record))

    def test_waiting(self) -> bool:
        """Test the batches that wait. True if one of them may stop a run."""
        return bool(self._waiting) and self._store(self._at_once())

    def _store(self, hits_of_batches: list[Hits]) -> bool:
        for hits in hits_of_batches:
            self.hits.store(hits)
        return any(self.may_stop(hits.batch) for hits in hits_of_batches if hits.ticks or hits.errors)

    # Testing batches by their records

    def _add(self, batch: int, record: BatchRecord) -> list[Hits]:
        """Take the columns of a batch. Returns the hits in the batches that have been tested by now."""
        previous = self._previous(batch, record)
        columns, hits_of_batches = self._columns_for(batch, record, previous), []
        if columns is not self._waiting_columns or len(self._waiting) == self._together or self._bytes > self._most_bytes:
            self._together = min(2 * self._together, TOGETHER)
            hits_of_batches, self._waiting_columns = self._at_once(), columns
        if columns is None:
            hits_of_batches.append(self._one_by_one(batch, record, previous))
        elif columns.ticks.size:
            self._waiting.append(batch)
            self._columns_of_waiting.append(columns.take(batch, record, previous))
            self._bytes += sum(column.nbytes for column in self._columns_of_waiting[-1])
        else:
            self._last = (batch, self._last[1]) if self._last[0] == batch - 1 else self._last
            hits_of_batches.append(Hits(batch))
        return hits_of_batches

    def _previous(self, batch: int, record: BatchRecord) -> BatchRecord | None:
        """Return the record of the batch before, or None if the stop does not read it."""
        if not self.stop.reads.previous:
            return None
        self.prepare(batch)
        previous, self._seen = self._seen[1], (batch, self._read_later(record))
        return previous

    def prepare(self, batch: int) -> None:
        """Read the batch before, unless it was seen last, so that its record need not exist beside that of `batch`."""
        if self.stop.reads.previous and self._seen[0] != batch - 1:
            self._seen = batch - 1, self._read_later(self._timeline.before(batch), of_start=batch == 0)

    def _read_later(self, record: BatchRecord, *, of_start: bool = False) -> BatchRecord:
        """Return what `prev()` reads in the next batch: the record itself, unless memory has room for one only.

        Before the first batch, `of_start`, only the initial weights exist, those before its own record.
        """
        previous = self.stop.reads.previous
        if not self._timeline.memory.one_record:
            return record
        tokens = map(self._timeline.program.tokens_of, previous & set(CHARACTERS))
        return record.part({*previous, *(f"{name} ids" for name in tokens)}, (record.before if of_start else record.after).copy())

    def _columns_for(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> BatchColumns | None:
        """Return the columns to test all places of a batch at once; None if the places must be tested one by one."""
        learns, reads, program = record.learned, self.stop.reads, self._timeline.program
        if self._timeline.changed_in(batch):
            return None
        if reads.previous and (batch == 0 or previous is None or previous.learned != learns):
            return None
        if learns not in self._columns:
            like = Moment(program, position_of(program, 0), record, program.config.vocabulary)
            self._columns[learns] = BatchColumns.of(reads, self.stop.ticks[learns], like)
        return self._columns[learns]

    def _at_once(self) -> list[Hits]:
        """Test the batches that wait. Returns their hits."""
        batches, waiting_columns, columns = self._waiting, self._columns_of_waiting, self._waiting_columns
        self._waiting, self._columns_of_waiting, self._bytes = [], [], 0
        if columns is None or not batches:
            return []
        try:
            hit = self._hit(columns, batches, *columns.joined(waiting_columns))
        except (ConditionError, UnevenSliceError):
            return [self._alone(batch) for batch in batches]
        if not hit.any():
            return [Hits(batch) for batch in batches]
        ticks = np.array(batches)[:, np.newaxis] * self._timeline.program.ticks + columns.ticks
        return [Hits(batch, tuple(ticks[i][hit[i]].tolist())) for i, batch in enumerate(batches)]

    def _hit(
        self, columns: BatchColumns, batches: Sequence[int], now: Mapping[str, AnyArray], before: Mapping[str, AnyArray]
    ) -> AnyArray:
        """Return True for each place of each batch at which the stop is hit, (batches, places)."""
        shape = len(batches), len(columns.ticks)
        if self.stop.condition is not None:
            return np.broadcast_to(self.stop.condition.over_columns(now, before), shape[0] * shape[1]).reshape(shape)
        reads, count = self.stop.reads, shape[0] * shape[1]
        values = reads.evaluate(reads.moments(now, before, count))
        values = np.broadcast_to(values, (count, *values.shape[1:]))
        changed = np.empty(count, bool)
        changed[1:] = _differ(values[1:], values[:-1])
        for i, batch in enumerate(batches):
            if i == 0 or batches[i - 1] != batch - 1:
                last = self._value_before(batch)
                changed[i * shape[1]] = last is not None and not equal_values(last, values[i * shape[1]])
        self._last = batches[-1], values[-1]
        return changed.reshape(shape)

    def _value_before(self, batch: int) -> Any:
        """Return the watched value that was computed last before a batch; None if there is none."""
        if self._last[0] == batch - 1:
            return self._last[1]
        last = last_computed(self.stop, self._timeline, batch * self._timeline.program.ticks + 1)
        return None if last is None else last[1]

    def _alone(self, batch: int) -> Hits:
        self.prepare(batch)
        record = self._timeline.record(batch)
        return self._one_by_one(batch, record, self._previous(batch, record))

    def _one_by_one(self, batch: int, record: BatchRecord, previous: BatchRecord | None) -> Hits:
        """Test the places of a batch one by one."""
        stop, timeline, program = self.stop, self._timeline, self._timeline.program
        last = None if stop.watched is None else self._value_before(batch)
        changed, ticks, errors = timeline.changed_in(batch), [], []
        for k in stop.ticks[record.gradients is not None]:
            tick = batch * program.ticks + k
            # Where a change was made within the batch, the places before it belong to another record.
            unchanged = Moment(program, position_of(program, tick), record, program.config.vocabulary)
            moment = timeline.moment(tick) if changed else unchanged
            before = partial(value_before, moment, previous)
            try:
                if stop.condition is not None:
                    hit = stop.condition.test(moment.in_conditions, before)
                else:
                    value = stop.reads.value(moment.in_conditions, before)
                    hit = value is not None and last is not None and not equal_values(last, value)
                    last = last if value is None else value
            except ConditionError as error:
                errors.append((tick, error.with_traceback(None)))  # a traceback would keep records alive
                last = None
            else:
                if hit:
                    ticks.append(tick)
        if stop.watched is not None:
            self._last = batch, last
        return Hits(batch, tuple(ticks), tuple(errors))

    # What is counted

    def may_stop(self, batch: int) -> bool:
        """Return True if a hit in `batch`, which has been counted, stops the run, or the stop could not be evaluated in it."""
        if not self.stops_runs:
            return False
        if self.hits.failed(batch, batch):
            return True
        count = int(self.hits.counts(batch, batch)[0])
        if count <= 0 or self.stop.count is None:
            return count > 0
        before = self.hits.before(batch)
        return before is None or bool(self.stop.count.stops_between(before, before + count))

    def possible_hits(self, first: int, last: int) -> NDArray[Any]:
        """Return True for each of the batches `first` … `last` that has not been counted, or may stop a run, (last + 1 − first)."""
        if first == last:
            return np.array([not self.is_counted(first) or self.may_stop(first)])
        counts = self.hits.counts(first, last)
        possible: NDArray[Any] = counts == UNKNOWN
        if self.stops_runs:
            hit = counts > 0
            if self.stop.count is not None and (before := self.hits.before(first)) is not None and not possible.any():
                upto = before + np.cumsum(counts, dtype=np.int64)
                hit &= self.stop.count.stops_between(upto - counts, upto)
            possible |= hit
            possible[[batch - first for batch in self.hits.failed(first, last)]] = True
        return possible

    def hits_in(self, batch: int) -> Hits:
        """Return the hits in a batch that has hits."""
        if (counted := self.hits.stored(batch)) is not None:
            return counted
        if self.scalar and (self.stop.plain or not self._timeline.changed_in(batch)):
            start = batch * self._timeline.program.ticks
            return Hits(batch, tuple(start + k for k in self._ticks[self._timeline.learns(batch)]))
        hits = self._alone(batch)
        self.hits.store(hits)
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


def _readable(condition: CompiledExpression, program: Program, ticks: tuple[int, ...], learns: bool) -> tuple[int, ...]:
    """Return the ticks at which the current values of all scalars that a condition reads have been computed."""
    since = {"loss": program.loss_tick, "grad_norm": program.backward_end if learns else program.ticks + 1}
    first = max((since.get(name, 0) for name in condition.current), default=0)
    return tuple(k for k in ticks if k >= first)


def _differ(one: AnyArray, other: AnyArray) -> AnyArray:
    """Return True for each row in which two arrays differ, (rows); NaN equals NaN."""
    differ = ~np.asarray(same(one, other))
    return np.asarray(differ.any(axis=tuple(range(1, differ.ndim))))


# ------------------------------------------------------------------------------
# Finds the first or the last place where one of several stops is hit, in one pass over the batches.


CHUNK = 32  # at least so many batches are replayed together, in the order of time, by a search backwards
SEARCH_BLOCK = 2**14  # batches whose counts are searched at once
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
    """Searches a timeline for the places at which one of `counters` stops a run. `monitor` sees every batch and can interrupt.

    A search goes through the counts, which costs next to nothing a batch, and computes or replays batches only where a stop is
    possible and has not been counted.
    """

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
                upto = min(self._timeline.computed, last)
                candidate = self._candidate(first, upto)
                if candidate is None:
                    first = upto + 1
                    continue
                first = candidate
                if self._are_counted(first):
                    if stop := self._stop_in(first, tick, end, latest=False):
                        return stop
                    first += 1
                    continue
            reached, broken = self._walk(first, last)
            last = reached if broken else last  # a stop up to there still counts
        return SearchEnd(max(tick, min(self._timeline.end_of(last), end)), broken_off=True) if broken else SearchEnd(end)

    def back(self, tick: int, begin: int) -> SearchEnd:
        """Return the last stop before `tick`, from `begin` on.

        If there is none: `begin`, or the place where the search was interrupted.
        """
        first, last = max(begin - 1, 0) // self._N, max(tick - 1, 0) // self._N
        if self._count_before(last + 1):
            return SearchEnd(tick, broken_off=True)
        while (batch := self._candidate(first, last, latest=True)) is not None:
            last = batch
            if self._are_counted(batch):
                if stop := self._stop_in(batch, begin - 1, tick - 1, latest=True):
                    return stop
                last -= 1
            elif self._count_back(first, last):
                return SearchEnd(min(tick, self._timeline.end_of(last)), broken_off=True)
        return SearchEnd(begin)

    def latest(self, counter: HitCounter, after: int, upto: int, most: int) -> list[int]:
        """Return the ticks of the last hits of one counter after `after`, up to `upto`, latest first: `most` or a few more."""
        ticks: list[int] = []
        first, last = after // self._N, max(upto - 1, 0) // self._N
        if self._count_before(last + 1):
            return ticks
        while len(ticks) < most and (batch := self._candidate(first, last, latest=True)) is not None:
            last = batch
            if counter.is_counted(batch):
                ticks += [tick for tick, _ in reversed(counter.stops_in(batch)) if after < tick <= upto]
                last -= 1
            elif self._count_back(first, last):
                break
        return ticks

    def _are_counted(self, batch: int) -> bool:
        return all(counter.is_counted(batch) for counter in self._counters)

    def _candidate(self, first: int, last: int, *, latest: bool = False) -> int | None:
        """Return the first, or the latest, of the batches `first` … `last` in which a stop is hit or possible; None if in none."""
        while first <= last:
            low, high = (max(first, last - SEARCH_BLOCK + 1), last) if latest else (first, min(first + SEARCH_BLOCK - 1, last))
            possible = np.zeros(high + 1 - low, bool)
            for counter in self._counters:
                counter.fill(low, high)
                possible |= counter.possible_hits(low, high)
            batches = np.flatnonzero(possible)
            if batches.size:
                return low + int(batches[-1 if latest else 0])
            first, last = (first, low - 1) if latest else (high + 1, last)
        return None

    def _count_before(self, batch: int) -> bool:
        """Count all hits before `batch` for the stops with a hit count, which need their numbers. True if interrupted."""
        counting = [counter for counter in self._counters if counter.stop.count is not None and counter.hits.before(batch) is None]
        return bool(counting) and StopSearch(self._timeline, counting, self._monitor).count(0, batch - 1)

    def _count_back(self, first: int, last: int) -> bool:
        """Count the hits in the batches up to `last`, as many as are replayed at once. True if interrupted."""
        start = max(first, last - SEARCH_BLOCK + 1, self._timeline.replay_start(max(0, last - CHUNK + 1)))
        return self.count(start, last)

    def count(self, first: int, last: int) -> bool:
        """Count the hits in the batches `first` … `last`, which are computed. True if interrupted."""
        for counter in self._counters:
            counter.fill(first, last)
        while first <= last:
            unknown = np.flatnonzero(np.any([counter.hits.counts(first, last) == UNKNOWN for counter in self._counters], axis=0))
            if not unknown.size:
                break
            first, broken = self._walk(first + int(unknown[0]), last, through=True)
            if broken:
                return True
        return False

    def _walk(self, first: int, last: int, *, through: bool = False) -> tuple[int, bool]:
        """Compute batches from `first` on until one of them may have a stop, or, if `through` is True, up to `last`.

        Returns the last batch reached, up to which all hits are counted, and whether it was interrupted.
        """
        reached, quiet, broken, computed = first, 0, False, self._timeline.computed
        scalar = [counter for counter in self._counters if counter.scalar]
        others = [counter for counter in self._counters if not counter.scalar]
        uncounted, together = first, 1  # the first batch that `scalar` have not counted; how many they count at once

        def count(upto: int) -> bool:
            nonlocal uncounted
            stops = [counter.count(uncounted, upto) for counter in scalar if uncounted <= upto]
            uncounted = upto + 1
            return any(stops)

        def visit(batch: int, record: BatchRecord) -> bool:
            nonlocal reached, quiet, broken, together
            reached, is_counted = batch, all(counter.is_counted(batch) for counter in others)
            # What needs no record is not worth a replay: after a number of such batches, the search goes on in the counts.
            quiet = quiet + 1 if is_counted else 0
            stops = [counter.see(batch, record) for counter in others]
            if self._timeline.changed_in(batch):  # its scalars do not hold at all its places
                stops += [counter.see(batch, record) for counter in scalar if not counter.stop.plain]
            if scalar and batch + 1 - uncounted >= together:
                together = min(2 * together, COUNTED_TOGETHER)
                stops.append(count(batch))
            broken = self._monitor(batch, record)
            return broken or (not through and any(stops)) or (quiet >= QUIET and batch < computed)

        for counter in others:
            counter.prepare(first)
        self._timeline.walk(first, last, visit)
        count(reached)
        for counter in others:
            counter.test_waiting()
        return reached, broken

    def _stop_in(self, batch: int, after: int, upto: int, *, latest: bool) -> SearchEnd | None:
        """Return the first, or the latest, stop in a batch whose hits are all counted."""
        stops: dict[int, list[HitCounter]] = {}
        errors: dict[int, tuple[HitCounter, ConditionError]] = {}
        for counter in self._counters:
            if counter.stops_runs and counter.may_stop(batch):
                for tick, _ in counter.stops_in(batch):
                    stops.setdefault(tick, []).append(counter)
                for tick, error in counter.hits_in(batch).errors:
                    errors.setdefault(tick, (counter, error))
        ticks = [tick for tick in (*stops, *errors) if after < tick <= upto]
        if not ticks:
            return None
        tick = max(ticks) if latest else min(ticks)
        if tick in errors:  # it stops the run even where another stop is hit, or the error would never be seen
            counter, error = errors[tick]
            return SearchEnd(tick, ((counter.stop, None),), error)
        return SearchEnd(tick, tuple((counter.stop, counter.number(tick)) for counter in stops[tick]))


# ------------------------------------------------------------------------------
# The message that says why a run stopped, such as `stopped at h̃ = tanh(…): breakpoint 2, hit 5 · loss < 0.5`.


_CALL = re.compile(r"([^()]*\w)\((.*)\)")  # a formula that is a single function call
LONGEST = 48


def end_message(stop: SearchEnd, timeline: Timeline) -> str:
    """Return the message for the end of a search."""
    reasons = "; ".join(_by(resolved, hit, stop, timeline) for resolved, hit in stop.by)
    if all(isinstance(resolved.stop, Watch) for resolved, _ in stop.by):
        return f"stopped: {reasons}"
    return f"stopped at {_line(timeline.position(stop.tick))}: {reasons}"


def _by(resolved: ResolvedStop, hit: int | None, end: SearchEnd, timeline: Timeline) -> str:
    stop = resolved.stop
    subject = f"{'watch' if isinstance(stop, Watch) else 'breakpoint'} {stop.id}"
    if end.error is not None:
        return f"{subject} cannot be evaluated, {end.error}"
    if isinstance(stop, Watch):
        return f"{subject}, {stop.expression} {_change(resolved, end.tick, timeline)}"
    counted = "" if hit is None else f", hit {hit}"
    elsewhere = "" if _holds(resolved, end.tick, timeline) else " (a hit on the machine that recorded it; here it does not hold)"
    return f"{subject}{counted}{' · ' * bool(stop.condition)}{stop.condition}{elsewhere}"


def _holds(resolved: ResolvedStop, tick: int, timeline: Timeline) -> bool:
    """Return True unless another machine counted a hit there and the condition does not hold with the numbers of this one."""
    if resolved.condition is None or timeline.is_exact(timeline.position(tick).number):
        return True
    try:
        return resolved.condition.test(*readers(resolved.condition, timeline, tick))
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
    return " → ".join(distinguished(before, now))


def distinguished(before: Any, now: Any) -> tuple[str, str]:
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
    stops: Sequence[ResolvedStop], timeline: Timeline, cache: HitCache, after: int, upto: int, monitor: Monitor
) -> list[LogLine]:
    """Return the last `MOST_LINES` lines that log points write at places after `after`, up to `upto`, in order."""
    passed: list[tuple[int, int, ResolvedStop]] = []
    read = scalars_of(timeline)
    for stop in stops:
        counter = HitCounter(stop, timeline, cache.of(timeline, stop.key), read, stops_runs=True)
        ticks = StopSearch(timeline, [counter], monitor).latest(counter, after, upto, MOST_LINES)
        passed += [(tick, stop.stop.id, stop) for tick in ticks]
    passed.sort(key=lambda entry: entry[:2])
    lines: list[LogLine] = []
    for tick, id, stop in passed[-MOST_LINES:]:
        moment = timeline.moment(tick)
        if monitor(moment.position.number, moment.record):
            break
        assert stop.log is not None
        try:
            lines.append(LogLine(tick, id, stop.log.render(*readers(stop.log, timeline, tick))))
        except ConditionError as error:
            lines.append(LogLine(tick, id, f"cannot be written: {error}"))
    return lines


def merged_log(old: Sequence[LogLine], new: Sequence[LogLine]) -> tuple[LogLine, ...]:
    """Merge old and new lines in order; for each place and log point the newer line is used. Returns the last `MOST_LINES`."""
    by_place = {(line.tick, line.id): line for line in (*old, *new)}
    return tuple(sorted(by_place.values()))[-MOST_LINES:]
