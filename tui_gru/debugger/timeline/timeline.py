"""A timeline: a chain of segments, each of which takes over from the one before at a change; and references into it."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.divergence import MachineReport
from tui_gru.debugger.checkpoints.scalars import COLUMNS, ScalarRows
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.position import Position, position_of
from tui_gru.debugger.program.steps import StepIndex
from tui_gru.debugger.timeline.chain import Chain
from tui_gru.debugger.timeline.changes import changeable
from tui_gru.debugger.timeline.journal import JournalEntry, TrainingSettings
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import HistorySegment, Memory, Monitor
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Weights
from tui_gru.interop.errors import RecordingError

BLOCK = 2**16  # batches


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Timeline:
    """An immutable chain of segments, identified by the last one. A change at a position gives a new timeline with the same
    past."""

    last: HistorySegment
    memory: Memory

    @classmethod
    def begin(cls, settings: TrainingSettings, weights: Weights, memory: Memory) -> Timeline:
        """Create a new run, before its first line."""
        return cls(HistorySegment.begin(memory, settings, weights), memory)

    @property
    def program(self) -> Program:
        return self.memory.program

    @property
    def beginning(self) -> HistorySegment:
        """The first segment of the run, before any change."""
        segment = self.last
        while segment.before is not None:
            segment = segment.before
        return segment

    @property
    def chain(self) -> Chain:
        """Its segments in order, with lookups."""
        return self.memory.chains.of(self.last)

    @property
    def segments(self) -> tuple[HistorySegment, ...]:
        return self.chain.segments

    def segment_at(self, tick: int) -> HistorySegment:
        """Return the segment in force at a tick: the last one that began at or before it."""
        return self.chain.at(tick)

    def step_index(self, level: str) -> StepIndex:
        """Return the step index of one level along this timeline."""
        return self.chain.step_index(level)

    def position(self, tick: int) -> Position:
        return position_of(self.program, tick)

    def moment(self, tick: int, monitor: Monitor | None = None) -> Moment:
        """Return the moment at a tick; computes or replays batches as needed.

        The moment is earlier if `monitor` stopped the run.
        """
        segment, position = self.segment_at(tick), self.position(tick)
        batch, record = segment.record(position.number, monitor)
        if batch != position.number:
            position = self.position(self.end_of(batch))
        return Moment(self.program, position, record, self.program.config.vocabulary)

    def moment_before(self, tick: int) -> Moment:
        """Return the moment at a tick as it was before any change at that tick."""
        segment = self.chain.beginning_at(tick)
        if segment is None:
            return self.moment(tick)
        position = self.position(tick)
        return Moment(self.program, position, (segment.base or segment).record(position.number)[1], self.program.config.vocabulary)

    def place(self, tick: int) -> int:
        """Return the last tick at or before `tick` whose line is executed; lines of batches that do not learn are skipped."""
        places = self.step_index("op")
        return places.tick(places.count(tick))

    def end_of(self, batch: int) -> int:
        """Return the last tick of a batch: after its update, or after its loss if it does not learn."""
        return self.place((batch + 1) * self.program.ticks)

    def learns(self, batch: int) -> bool:
        """Return True if a batch ends with backward and update."""
        return bool(self.learned(batch, batch)[0])

    def learned(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return True for each of the batches `first` … `last` that ends with backward and update, (last + 1 − first)."""
        learned = np.zeros(max(last + 1 - first, 0), bool)
        for batch, learns in self.chain.runs:
            learned[max(batch - first, 0) :] = learns
        return learned

    def learned_before(self, batch: int) -> int | None:
        """Return the last batch before `batch` that ends with backward and update; None if none does."""
        upto = batch
        for first, learns in reversed(self.chain.runs):
            if learns and first < upto:
                return upto - 1
            upto = min(upto, first)
        return None

    def record(self, batch: int, monitor: Monitor | None = None) -> BatchRecord:
        """Return the complete record of a batch, counted through all epochs; of an earlier batch if `monitor` stopped the run."""
        return self._owner(batch).record(batch, monitor)[1]

    def previous(self, batch: int) -> BatchRecord | None:
        """Return the complete record of the batch before; None for the first batch, or if it cannot be read from its recording."""
        try:
            return self.record(batch - 1) if batch else None
        except RecordingError:
            return None

    def work_ahead(self, batch: int) -> None:
        """Begin to compute the batch after `batch` in a thread, if the user has stepped to `batch` in a recording."""
        self._owner(batch).work_ahead(batch)

    def before(self, batch: int) -> BatchRecord:
        """Return the complete record of the batch before. For the first batch: of that batch itself, before any change."""
        return self.record(batch - 1) if batch else self.segments[0].record(0)[1]

    def walk(self, first: int, last: int | None, visit: Monitor) -> bool:
        """Call `visit` with the complete records of the batches `first` … `last` (None: no end) until it returns True."""
        last = sys.maxsize if last is None else last
        chain = self.chain
        while first <= last:
            i = chain.owner(first)
            upto = min(last, chain.first_batches[i + 1] - 1) if i + 1 < len(chain.segments) else last
            if chain.segments[i].walk(first, upto, visit):
                return True
            first = upto + 1
        return False

    def is_exact(self, batch: int) -> bool:
        """Return True if a batch is computed bit for bit as it was recorded, which it is on the machine that recorded it."""
        return self._owner(batch).is_exact(batch)

    def replay_start(self, batch: int) -> int:
        """Return the first batch that is replayed on the way to `batch` if nothing is cached."""
        return self._owner(batch).replay_start(batch)

    @property
    def computed(self) -> int:
        """The newest computed batch."""
        return self.last.computed

    @property
    def report(self) -> MachineReport | None:
        """What to say of numbers that another machine recorded; None if this machine computes all of them bit for bit."""
        by_size = self.memory.by_size
        foreign = len(self.memory.machines) > 1 and not self.last.own and (self.memory.numbers is None or by_size.largest > 0)
        return by_size.report() if foreign else None

    def changed_in(self, batch: int) -> bool:
        """Return True if a change was made within a batch, so that its complete record is not valid at all its places."""
        return bool(self.changed_batches(batch, batch))

    def changed_batches(self, first: int, last: int) -> Sequence[int]:
        """Return the batches among `first` … `last` within which a change was made, in order, possibly with repetitions."""
        chain = self.chain
        begin = max(bisect_left(chain.first_batches, first), 1)  # without the first segment, which begins the run
        return chain.first_batches[begin : bisect_right(chain.first_batches, last)]

    def _owner(self, batch: int) -> HistorySegment:
        """Return the last segment in force in a batch."""
        chain = self.chain
        return chain.segments[chain.owner(batch)]

    @property
    def whole_columns(self) -> frozenset[str]:
        """The names that can be read as a column of many batches."""
        return frozenset({*(COLUMNS if self.memory.numbers is None else ("loss",)), "epoch", "batch"})

    def column(self, name: str, first: int, last: int) -> ScalarRows:
        """Return loss, grad_norm or max_weight of the computed batches among `first` … `last`, (n)."""
        chain, parts = self.chain, []
        i = chain.owner(max(first, 0))
        while first <= last and i < len(chain.segments):
            after = chain.first_batches[i + 1] if i + 1 < len(chain.segments) else sys.maxsize
            upto = min(last, after - 1, chain.segments[i].computed)
            if first <= upto:
                parts.append(chain.segments[i].checkpoints.column(name, first, upto))
            first, i = max(first, upto + 1), i + 1
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])

    def blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Return the computed batches among `first` … `last`, in pieces (first, last) whose columns fit into memory."""
        last = min(last, self.computed)
        return ((low, min(low + BLOCK - 1, last)) for low in range(first, last + 1, BLOCK))

    def loss(self, batch: int) -> float:
        """Return the loss of a computed batch."""
        segment = self.last
        while segment.first_batch > batch and segment.before is not None:
            segment = segment.before
        return segment.checkpoints.numbers(batch)[COLUMNS.index("loss")]

    def parted(self, other: Timeline) -> int:
        """Return the tick up to which this timeline and another are equal."""
        mine, theirs = self.chain, other.chain
        shared = mine.shared(theirs)
        return min((chain.starts[shared] for chain in (mine, theirs) if shared < len(chain.starts)), default=sys.maxsize)

    def still_has(self, anchor: Anchor) -> bool:
        """Return True if this timeline has the moment of an anchor as well, with the same numbers."""
        parted = self.parted(anchor.timeline)
        if parted != anchor.tick:
            return parted > anchor.tick
        here, there = self.moment(anchor.tick), anchor.timeline.moment(anchor.tick)
        return all(_same(here.value(name), there.value(name)) for name in changeable(self.program))

    def changed(self, at: Position, settings: TrainingSettings, action: JournalEntry) -> Timeline:
        """Return the timeline with the change `action` at a position and new settings after it. Its past is unchanged."""
        segment = HistorySegment(self.memory, at.tick, settings, action, self.segment_at(at.tick))
        segment.record(segment.first_batch)
        return Timeline(segment, self.memory)

    def changed_at(self, tick: int) -> frozenset[str]:
        """Return the names changed at a tick: parameters, values, gradients, settings of the update rule.

        The line before it used the old ones.
        """
        if tick == 0 or self.chain.beginning_at(tick) is None:
            return frozenset()
        here, before = self.moment(tick), self.moment_before(tick)
        names = (*changeable(self.program), *self.program.names_of(ValueKind.SETTING))
        return frozenset(name for name in names if _differ(before.value(name), here.value(name)))

    def setting(self, name: str, batches: NDArray[np.intp]) -> ScalarRows:
        """Return a setting of the update rule at the end of each of these batches."""
        chain = self.chain
        values = np.array([segment.settings.rule[name] for segment in chain.segments])
        return values[np.searchsorted(chain.first_batches, batches, "right") - 1]

    def earlier(self, batch: int, monitor: Monitor | None = None) -> tuple[BatchRecord, ...]:
        """Return the records of the epoch's batches before `batch`, latest first, for carry `notebook`; otherwise empty.

        `monitor` sees batches that are replayed, and may raise an error.
        """
        if not self.program.earlier:
            return ()
        begin = batch - batch % self.program.num_batches
        return tuple(self.record(b, monitor) for b in range(begin, batch))[::-1]


@dataclass(frozen=True, eq=False)
class Anchor:
    """The moment after `tick` on a timeline, kept to ask later whether it is unchanged (`Timeline.still_has`)."""

    timeline: Timeline
    tick: int


class ScalarSeries:
    """`name` (loss, grad_norm or max_weight) of the first `count` batches, all of which are computed. Slices are arrays.

    Numbers are read on access, so that passing it on is free for long runs.
    """

    def __init__(self, timeline: Timeline, name: str, count: int) -> None:
        self._timeline, self._name, self._count = timeline, name, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> ScalarRows: ...
    def __getitem__(self, index: int | slice) -> float | ScalarRows:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._count)
            if step != 1:
                return np.asarray(self)[index]
            return self._timeline.column(self._name, start, stop - 1)
        at = range(self._count)[index]
        return float(self._timeline.column(self._name, at, at)[0])

    def __iter__(self) -> Iterator[float]:
        return iter(self[:].tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ScalarRows:
        return self[:] if dtype is None else self[:].astype(dtype)


def _differ(one: Any, other: Any) -> bool:
    """Return True if two values differ; None is a value that has not been computed."""
    return one is not other and not np.array_equal(one, other)


def _same(one: Any, other: Any) -> bool:
    """Return True if two values are equal; NaN equals NaN, and None (not computed) equals None."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=True)
