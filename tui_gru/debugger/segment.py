"""A stretch of training between two changes: the computation of any of its batches from a cached one or a checkpoint."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np

from tui_gru.debugger.edits import JournalEntry, Trainers, TrainingSettings, change_of, changed_between, values_at
from tui_gru.debugger.history import (
    LEAST,
    BitForBit,
    Budget,
    BySize,
    CachedBatch,
    Checkpoints,
    Machine,
    Reached,
    RecordCache,
    ScalarRows,
    Scalars,
    largest_relative,
)
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import StepIndex, position_of
from tui_gru.debugger.program import Program, program_of
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.source import Ability
from tui_gru.engine.training import Prefetch, Trainer
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Weights
from tui_gru.equations.syntax import Name
from tui_gru.errors import RecordingError

# ------------------------------------------------------------------------------
# Segments in order, with lookups: the segment in force at a tick, and the batches that learn.


MOST = 4  # chains that are cached


@dataclass(frozen=True, eq=False, slots=True)
class Chain:
    """A segment and the segments before it, without those that another segment replaced at the same tick.

    `runs` lists (first batch, learns). Whether a batch learns is decided when its loss has been computed.
    """

    program: Program
    segments: tuple[HistorySegment, ...] = ()
    starts: tuple[int, ...] = ()
    first_batches: tuple[int, ...] = ()
    runs: tuple[tuple[int, bool], ...] = ()
    _indices: dict[str, StepIndex] = field(default_factory=dict)

    def then(self, more: Iterable[HistorySegment]) -> Chain:
        """Return the chain with more segments, each of which takes over from the one before it."""
        segments, starts, firsts, runs = list(self.segments), list(self.starts), list(self.first_batches), list(self.runs)
        for segment in more:
            if starts and starts[-1] == segment.start:
                del segments[-1], starts[-1], firsts[-1]
            segments.append(segment)
            starts.append(segment.start)
            firsts.append(segment.first_batch)
            _add(runs, segment, self.program)
        return Chain(self.program, tuple(segments), tuple(starts), tuple(firsts), tuple(runs))

    def at(self, tick: int) -> HistorySegment:
        """Return the segment in force at a tick: the last one that began at or before it."""
        return self.segments[bisect_right(self.starts, tick) - 1]

    def beginning_at(self, tick: int) -> HistorySegment | None:
        """Return the segment that begins at a tick; None if there is none."""
        i = bisect_left(self.starts, tick)
        return self.segments[i] if i < len(self.starts) and self.starts[i] == tick else None

    def owner(self, batch: int) -> int:
        """Return the index of the last segment in force in a batch."""
        return bisect_right(self.first_batches, batch) - 1

    def step_index(self, level: str) -> StepIndex:
        """Return the step index of one level."""
        if level not in self._indices:
            self._indices[level] = StepIndex(self.program, level, self.runs)
        return self._indices[level]

    def shared(self, other: Chain) -> int:
        """Return the number of leading segments that two chains share."""
        mine, theirs = self.segments, other.segments
        return bisect_left(range(min(len(mine), len(theirs))), True, key=lambda i: mine[i] is not theirs[i])


def _add(runs: list[tuple[int, bool]], segment: HistorySegment, program: Program) -> None:
    """Add which batches learn from the start of a segment on."""
    # A segment that begins after the loss of a batch is too late to decide for it. `settings.once` can make the first batch learn
    # although learning is off; therefore two entries.
    batch = max(0, -(-(segment.start - program.loss_tick) // program.ticks))
    while runs and runs[-1][0] >= batch:
        runs.pop()
    starts = {batch, batch + 1}
    for ended in program.config.source.without_gradients:
        starts |= {first for first in (ended, ended + 1) if first > batch}
    for first in sorted(starts):
        if not runs or runs[-1][1] != segment.learns(first):
            runs.append((first, segment.learns(first)))


class Chains:
    """A cache of the chains used last. Others are built again from their last segments."""

    def __init__(self, program: Program) -> None:
        self._none, self._lock = Chain(program), threading.Lock()  # the screen reads losses during a run
        self._cached: OrderedDict[HistorySegment, Chain] = OrderedDict()

    def of(self, last: HistorySegment) -> Chain:
        """Return the chain that ends with a segment."""
        with self._lock:
            if last not in self._cached:
                self._build(last)
            self._cached.move_to_end(last)
            return self._cached[last]

    def _build(self, last: HistorySegment) -> None:
        missing: list[HistorySegment] = []
        segment: HistorySegment | None = last
        while segment is not None and segment not in self._cached:
            missing.append(segment)
            segment = segment.before
        chain = self._none if segment is None else self._cached[segment]
        self._cached[last] = chain.then(reversed(missing))
        while len(self._cached) > MOST:
            self._cached.popitem(last=False)


# ------------------------------------------------------------------------------
# A stretch of training with constant settings, from one change to the next.


# Called with every batch that is computed on the way; returning True stops the run. A record passed to it is valid until the second
# call after that.
Monitor = Callable[[int, BatchRecord], bool]


MOST_BYTES = 2**53  # no machine has more; a session file holds no larger number
PREFETCHED_SHARE = 32  # a batch is computed ahead if this many of its records fit into the machine's memory
WEIGHTS_IN_USE = 6  # copies of the weights beside large records: at the start of batches, of last steps, before a change
TWINS, MOST_TWIN_BYTES = 3, 2**26  # replays that measure the effect of rounding; the most bytes of records that each may compute
LEAST_IMPORTED = 2  # in a run on imported batches, which computes no batch on the way to another
LEAST_LARGE = 3  # the one shown, the same before a change, and the one before it; 1, the one shown, if the limit has no room for it
IN_USE = 14  # records in use besides the cached ones, at most: by what is shown, and while batches are computed and changed
IN_USE_LARGE = 5  # the same if a batch begins with a copy of the weights, and so does not hold the record of the batch before
FEWEST_IN_USE = 2  # the record that is shown, and the one that is computed meanwhile: what every step takes
MOST_IN_USE = 4  # besides, those of the branch that is compared, or the batch that a condition with prev() reads
RECORD, VIEW = 22_000, 160  # measured bytes of a record besides its numbers, and of each view that it creates for a pass


def size_at_hand(config: Config) -> int:
    """Return the memory of one cached batch, in bytes, including overhead, which dominates for small models."""
    return config.record_bytes + RECORD + VIEW * config.compiled.views


# The machine that computed the batches from each first batch on; None is this one.
Machines = tuple[tuple[int, Machine | None], ...]


class Memory:
    """The data that all segments of a session share. `limit` bounds its memory, in bytes.

    If records are `large`, each batch begins with a copy of the weights, so that it does not hold the record of the batch before
    it, and fewer are cached. If the limit has no room for those either, there is `one_record` besides the one shown: each batch is
    computed in the record of the one before, of which only the last step is kept, and a change is made in place.
    """

    def __init__(self, config: Config, limit: int) -> None:
        self.program, self.trainers = program_of(config), Trainers(config)
        self.notebook = config.carry == "notebook"
        self.budget = Budget(min(limit, MOST_BYTES), config.num_batches if self.notebook else 1)
        self.records, self.scalars = RecordCache(self.budget, size_at_hand(config)), Scalars(self.budget)
        self.bound(limit)
        updates = (line for line in self.program.update if line.target in self.program.parameters)
        steps = (line.formula.walk() for line in updates if line.formula is not None)
        self.of_last_step = frozenset(node.name for step in steps for node in step if isinstance(node, Name))
        if self.one_record:
            self.trainers.reserve_record()
        self.chains = Chains(self.program)
        self.numbers = config.source.numbers
        self.prefetched = Prefetch[BatchRecord]()  # the next batch of a recording
        self.prefetches = not config.source.can(Ability.TRAIN) and config.record_bytes <= machine_memory() // PREFETCHED_SHARE
        self.segments = 0  # the number of segments created
        self.bit_for_bit = BitForBit(config.num_batches, restored=False)
        self.restored, self.by_size = BitForBit(config.num_batches, restored=True), BySize(config.num_batches, config.dtype)
        self.machines: tuple[Machine, ...] = ()  # of the file that the session was read from; then this one, if it is another
        self.here: Machine | None = None  # this machine, once a file has been read
        self.unchanged: tuple[tuple[int, int], Mapping[str, Any]] | None = None  # the place of a change, and the values before it

    def bound(self, limit: int) -> None:
        """Set another limit, and apply it immediately."""
        config, limit = self.program.config, min(limit, MOST_BYTES)
        size, trains = size_at_hand(config), config.source.can(Ability.TRAIN)
        # Beyond this, the records that are usually in use would leave too little for the checkpoints.
        self.large = trains and not self.notebook and (LEAST + IN_USE) * size > limit * 5 // 8
        cached = LEAST_LARGE if self.large else LEAST if trains else LEAST_IMPORTED
        in_use = (IN_USE_LARGE if self.large or not trains else IN_USE) + (config.num_batches if self.notebook else 0)
        self.budget.bound(limit, (cached + in_use) * size)
        self.one_record = (self.large or not trains) and not self.budget.is_enough
        if self.one_record:
            # The record that is shown first was there before the limit began to count; weights are copied besides. As many more are
            # counted as the limit has room for, or all if it cannot hold.
            cached, self.large = 1, True
            weights = WEIGHTS_IN_USE * config.compiled.layout.size * np.dtype(config.dtype).itemsize
            for in_use in (*range(MOST_IN_USE, FEWEST_IN_USE - 1, -1), MOST_IN_USE):
                self.budget.bound(limit, (in_use - 1) * size + weights, tight=True)
                if self.budget.is_enough:
                    break
        self.records.least = cached
        # As many as a step needs, so that records are recycled; what a change or a search needs besides ends with it.
        recycled = cached + 2 if self.large else self.records.most + in_use
        self.trainers.keep_records(FEWEST_IN_USE if self.one_record else recycled)


class HistorySegment:
    """The batches from the change `action` on, which was made just after tick `start`. Batches are counted through all epochs.

    A segment takes over from the segment `before` (None for the first one). `base` is the last segment before those that took
    over at the same tick. The first batch is not stored: its record is recomputed on demand from the record of `before`, with the
    change applied. Results never change: a replay that passes a checkpoint is compared with it.

    On the machine that computed all of it (`own`), a replay is compared bit for bit. Where another machine computed batches, its
    checkpoints are the truth: a replay begins anew at each that it passes, so that the numbers of a batch depend on the checkpoint
    before it only, not on the way to it. `machines` lists who computed which batches; it is empty if this machine computed all.
    """

    __slots__ = (
        "__weakref__",
        "_begins_own",
        "_comparison",
        "_memory",
        "_unverified",
        "action",
        "base",
        "before",
        "changed",
        "checkpoints",
        "first_batch",
        "machines",
        "number",
        "own",
        "settings",
        "start",
    )  # fmt: skip

    def __init__(
        self, memory: Memory, start: int, settings: TrainingSettings, action: JournalEntry, before: HistorySegment | None = None
    ) -> None:
        self._memory, self.start, self.settings, self.action, self.before = memory, start, settings, action, before
        self.base: HistorySegment | None = (
            before.base if before is not None and before.base is not None and before.start == start else before
        )
        self.first_batch = position_of(memory.program, start).number
        self.changed: frozenset[str] | None = None  # the names that all changes at its start changed; None if not known yet
        self.checkpoints = Checkpoints(self.first_batch, memory.budget, memory.scalars)
        self.machines: Machines = ()
        self._begins_own = before is None or before.is_own(before.first_batch, self.first_batch)
        self.own, self._comparison = self._begins_own, memory.bit_for_bit
        self._unverified: set[int] | None = None
        self.number = memory.segments  # unique in the session
        memory.segments += 1
        memory.budget.changes += 1

    def __del__(self) -> None:
        self._memory.budget.changes -= 1

    def learns(self, batch: int) -> bool:
        """Return True if a batch, counted through all epochs, ends with backward and update."""
        return self.settings.learns(batch) and batch not in self._memory.program.config.source.without_gradients

    @classmethod
    def begin(cls, memory: Memory, settings: TrainingSettings, weights: Weights) -> HistorySegment:
        """Return the first segment of a run, with its initial weights."""
        segment = cls(memory, 0, settings, JournalEntry("begin"))
        segment.checkpoints.keep(0, checkpoint_of(weights, segment.trainer.initial_state()))
        segment.record(0)
        return segment

    def restore(self, numbers: Iterable[ScalarRows], checkpoints: Mapping[int, bytes]) -> None:
        """Restore the scalars and checkpoints that this segment computed in an earlier process; `computed_by` tells where.

        On this machine, a replay begins at one of these checkpoints only after an earlier replay has passed it and found it equal.
        """
        for piece in numbers:
            self.checkpoints.add_all(piece)
        self.checkpoints.keep_all(checkpoints)

    def computed_by(self, machines: Machines) -> None:
        """Set the machines that computed the restored batches."""
        self.machines = machines if any(machine is not None for _, machine in machines) else ()
        self.own, self._comparison = self._begins_own and not self.machines, self._memory.restored
        self._unverified = set(filter(self._proves, self.checkpoints.batches_after(0)))
        self.checkpoints.fix(frozenset() if self.own else self._fixed())

    def _fixed(self) -> frozenset[int]:
        """Return the checkpoints that a replay on this machine depends on: another machine computed a batch before the next one, or
        after the one before. Without them, batches would have other last digits."""
        batches = self.checkpoints.batches_after(-1)
        begins = (self.first_batch, *batches)
        return frozenset(
            batch for before, batch in zip(begins, batches, strict=False) if not self.is_own(before, batch)
        ) | frozenset(batch for batch, after in pairwise((*batches, self.computed)) if not self.is_own(batch, after))

    def is_own(self, first: int, last: int) -> bool:
        """Return True if this machine computed the batches `first` … `last`, and, if `first` is the first one, all before them."""
        if self.own or (first > self.first_batch and not self.machines):
            return True
        begin = bisect_right(self.machines, first, key=itemgetter(0)) - 1
        others = (at <= last and machine is not None for at, machine in self.machines[max(begin, 0) :])
        return (first > self.first_batch or self._begins_own) and not any(others)

    def is_exact(self, batch: int) -> bool:
        """Return True if a replay has the bits of the run: this machine computed all batches since the checkpoint before it."""
        if self.own:
            return True
        checkpoint = self.checkpoints.batch_before(batch)
        return self.is_own(self.first_batch if checkpoint is None else checkpoint, batch)

    def _proves(self, checkpoint: int) -> bool:
        """Return True if a replay must reach the start of a batch that has a checkpoint bit for bit."""
        return self.own or (checkpoint > self.first_batch and self.is_exact(checkpoint - 1) and self.is_own(checkpoint, checkpoint))

    @property
    def _base_number(self) -> int:
        return -1 if self.base is None else self.base.number

    @property
    def trainer(self) -> Trainer:
        return self._memory.trainers.of(self.settings.letters)

    @property
    def computed(self) -> int:
        """The newest computed batch."""
        return self.first_batch + self.checkpoints.length - 1

    @property
    def edited(self) -> tuple[str, ...]:
        """The names of weights, values and gradients that were edited at its start tick, in the order of the edits."""
        names: list[str] = []
        segment: HistorySegment | None = self
        while segment is not None and segment.start == self.start:
            if segment.action.kind == "edit" and segment.action.name not in ("text", *self.settings.rule):
                names.append(segment.action.name)
            segment = segment.before
        return tuple(dict.fromkeys(names))[::-1]

    def record(self, batch: int, monitor: Monitor | None = None) -> tuple[int, BatchRecord]:
        """Return the number and record of `batch`, computed or replayed as needed; of an earlier batch if `monitor` stops the run.

        The batch before it is cached as well, if it can be.
        """
        memory, trains = self._memory, self.trainer.trains
        new = not trains and not memory.records.has(self.number, batch)
        if new and memory.one_record and batch > self.first_batch and memory.records.left(self.number, batch - 1) is None:
            self._read_before(batch)
        route, at, *start = self._route(batch, int(trains))
        with NUMPY_SETTINGS:
            at, cached = self._follow(route, at, start, batch, memory.records.run, monitor)
        if new and not memory.one_record and at == batch and self._beginning(batch - 1, batch - 1) is not None:
            self._read_before(batch)  # afterwards, since it may be one that cannot be read
        return at, cached.record

    def _read_before(self, batch: int) -> None:
        """Compute the imported batch before `batch`, if it can be read; its record, or else its update, is cached."""
        memory = self._memory
        with suppress(RecordingError), NUMPY_SETTINGS:
            route, at, *start = self._route(batch - 1, 0)
            _, cached = self._follow(route, at, start, batch - 1, memory.records.run, None)
            if memory.one_record:
                self._leave(batch - 1, cached.record, cached.record.after.copy())

    def prefetch(self, batch: int) -> None:
        """Begin to compute the batch after `batch` of a recording in a thread.

        Does nothing if the record is large, or unless `batch` and the one before it are cached, as after a step forward.
        """
        memory, next_ = self._memory, batch + 1
        has = [memory.records.has(self.number, at) for at in (batch - 1, batch, next_)]
        steps_forward = has == [True, True, False] and next_ < memory.program.num_batches
        if steps_forward and memory.prefetches and not memory.one_record and memory.prefetched.is_free_for(next_):
            memory.prefetched.begin(next_, self._computation(next_))

    def _computed(self, batch: int) -> BatchRecord:
        """Return the record of an imported batch, as it was imported."""
        record = self._memory.prefetched.take(batch)
        return self._computation(batch)() if record is None else record

    def _computation(self, batch: int) -> Callable[[], BatchRecord]:
        """Return a function that computes an imported batch. It may be called in a thread."""
        record, number = self.trainer.new_record(), batch % self._memory.program.num_batches
        return partial(self.trainer.run_imported, record, number, learn=self.learns(batch))

    def walk(self, first: int, last: int, visit: Monitor) -> bool:
        """Call `visit` with the records of the batches `first` … `last` in order until it returns True. Returns whether it did."""
        stopped = False

        def see(batch: int, record: BatchRecord) -> bool:
            nonlocal stopped
            stopped = batch >= first and visit(batch, record)
            return stopped

        route, at, *start = self._route(first, 0)
        if not (isinstance(start[0], CachedBatch) and len(route) == 1 and see(at, start[0].record)):
            with NUMPY_SETTINGS:
                self._follow(route, at, start, last, 0, see)
        return stopped

    def replay_start(self, batch: int) -> int:
        """Return the first batch that is replayed on the way to `batch` if nothing is cached."""
        if not self.trainer.trains:
            return batch
        segment: HistorySegment = self
        while (checkpoint := segment.checkpoints.before(batch)) is None:
            assert segment.before is not None
            batch, segment = segment.first_batch, segment.before
        return checkpoint[0]

    # Replay, from the nearest stored state in this segment or one before it, through all segments since
    #
    # A segment begins within or after a batch that the segment before it has computed, its `first_batch`. So the way to a batch of
    # this segment goes along the segment before it to the end of that batch, takes the batch over with the change applied, and goes
    # on from there. Segments that begin at the same tick are several changes at one place: they take over together, because each
    # alone would compute the rest of the batch anew.

    def _route(self, batch: int, margin: int) -> tuple[list[HistorySegment], int, CachedBatch | bytes]:
        """Return the segments to replay up to `batch`, this one last, and the batch and state to begin with in the first of them.

        The state is a cached batch, or the checkpoint at the start of a batch, if possible `margin` batches before the goal.
        """
        route = [self]
        while (nearest := route[-1]._nearest(batch, margin)) is None:
            batch, before = route[-1].first_batch, route[-1].before
            assert before is not None
            route.append(before)
        return route[::-1], *nearest

    def _nearest(self, batch: int, margin: int) -> tuple[int, CachedBatch | bytes] | None:
        """Return the stored state of this segment nearest to `batch`; None if there is none."""
        cached = self._memory.records.nearest(self.number, batch)
        checkpoint = None if self.trainer.trains else self._beginning(batch - margin, batch)
        checkpoint = checkpoint or self._verified(batch - margin)
        if not (margin and self._memory.one_record and self.before is not None):  # else the batch before is passed on the way
            checkpoint = checkpoint or self._verified(batch)
        return cached if checkpoint is None or (cached is not None and cached[0] >= checkpoint[0]) else checkpoint

    def _beginning(self, goal: int, batch: int) -> tuple[int, bytes] | None:
        """Return the start of a replay on independent batches: any batch after the first of this segment."""
        first = self.first_batch + (self.before is not None)
        return (max(goal, first), b"") if batch >= first else None

    def _verified(self, batch: int) -> tuple[int, bytes] | None:
        """Return the last checkpoint at or before `batch`; the one before that if it has not been verified yet."""
        checkpoint = self.checkpoints.before(batch)
        unproven = checkpoint is not None and self._unverified and checkpoint[0] in self._unverified
        return self.checkpoints.before(checkpoint[0] - 1) if checkpoint is not None and unproven else checkpoint

    def _follow(
        self,
        route: Sequence[HistorySegment],
        at: int,
        begins: list[CachedBatch | bytes],
        to: int,
        keep: int,
        monitor: Monitor | None,
    ) -> tuple[int, CachedBatch]:
        """Replay from the result of `_route` to the end of batch `to`, or until `monitor` stops it. Returns the last batch.

        The state to begin with is taken out of `begins`, since a caller that held it would hold a record. The last `keep` + 2
        batches of each segment are cached; earlier records are reused.
        """
        segment = route[0]
        groups = [list(group) for _, group in groupby(route[1:], key=attrgetter("start"))]
        for i, taking_over in enumerate(groups):
            goal, in_place = taking_over[0].first_batch, False
            result = begins[0]
            if not isinstance(result, CachedBatch) or at < goal:
                del result
                at, result = segment._run(at, begins, goal, keep, _before(goal, monitor))
                if at < goal:
                    return at, result
                if self._memory.one_record:
                    self._memory.records.drop(segment.number, at)  # nobody else has it
                    in_place = True
            segment = taking_over[-1]
            at, result = goal, segment._taken_over(taking_over, result, in_place=in_place)
            begins[:] = [result]
            final = i + 1 == len(groups) or groups[i + 1][0].first_batch > at
            if final and monitor is not None and monitor(at, result.record):
                return at, result
            del result
        if isinstance(begins[0], CachedBatch) and at == to:
            return at, begins[0]
        return segment._run(at, begins, to, keep, monitor)

    def _taken_over(self, taking_over: Sequence[HistorySegment], cached: CachedBatch, *, in_place: bool) -> CachedBatch:
        """Return the first batch: that of the segment before, with all changes at this tick applied, and the rest computed.

        With `in_place`, the record of the segment before is changed, not a copy of it.
        """
        program, number = self._memory.program, self.first_batch
        moment = Moment(program, position_of(program, self.start), cached.record, program.config.vocabulary)
        if self.changed is None and taking_over[0].before is self.base:
            self._memory.unchanged = (self._base_number, self.start), values_at(moment)
        if self._memory.large:
            self._memory.records.make_room()
        record = cached.record if in_place else cached.record.copy(self.trainer.new_record())
        rest = program.point_after(moment.position.offset)
        record.settings = self.settings.rule
        learns = moment.position.offset > program.loss_tick or self.learns(number)
        for segment in taking_over:
            point = change_of(segment.action, moment, segment.settings)(record, segment.trainer) or rest
            if point != rest or segment is self:  # the rest is computed once, after the last change
                self.trainer.resume(record, point, learn=learns, earlier=cached.earlier)
        unchanged = self._memory.unchanged
        if self.changed is None and unchanged is not None and unchanged[0] == (self._base_number, self.start):
            self.changed = changed_between(unchanged[1], values_at(replace(moment, record=record)))
        self._note(number, record)
        self._compare_end(number, record)
        taken_over = CachedBatch(record, cached.earlier)
        self._memory.records.keep(self.number, number, taken_over)
        return taken_over

    def _run(
        self, at: int, begins: list[CachedBatch | bytes], to: int, keep: int, monitor: Monitor | None
    ) -> tuple[int, CachedBatch]:
        """Compute batches of this segment, from the end of batch `at` or the checkpoint at its start, to the end of batch `to`."""
        memory, trainer, checkpoints = self._memory, self.trainer, self.checkpoints
        # The batch before the last one, which a monitor may still read; where memory is short, it holds what it reads later.
        behind: deque[BatchRecord] = deque(maxlen=1 if monitor is not None and not memory.one_record else 0)
        start = begins.pop()
        if isinstance(start, CachedBatch):
            behind.append(start.record)
            batch, weights, state = at + 1, self._weights_after(start.record), start.record.states(end=True)
            if memory.one_record:
                self._leave(at, start.record, weights)
            earlier = self._earlier(batch, start.record, start.earlier)
        else:
            batch, (weights, state), earlier = at, trainer.own_beginning(at) or self._restored(start), ()
        del start
        recent: deque[tuple[int, BatchRecord, Sequence[BatchRecord]]] = deque(maxlen=1 if memory.one_record else keep + 2)
        while True:
            if memory.one_record and recent:
                self._leave(*recent.pop()[:2], weights)
            elif len(recent) > 1 and to - batch > keep:  # far from the goal three records alternate, which stay in the cache
                behind.append(recent.popleft()[1])
                if memory.large:
                    memory.records.clear()  # it is left behind
            record = None  # so that the trainer can reuse it
            if memory.large:
                memory.records.make_room()
            if not trainer.trains:
                record = self._computed(batch)
            else:
                in_epoch = batch % memory.program.num_batches
                record, state = trainer.new_record(), trainer.carried(in_epoch, state)
                fixed = self._begins_anew(batch)
                if fixed or checkpoints.is_due(batch):
                    checkpoints.keep(batch, checkpoint_of(weights, state), fixed=fixed)
                elif not self.own and (checkpoint := checkpoints.at(batch)) is not None:
                    # Where another machine computed batches, its checkpoint is the truth.
                    weights, state = self._restored(checkpoint)
                learn, settings = self.learns(batch), self.settings.rule
                trainer.run(record, in_epoch, weights, state, learn=learn, settings=settings, earlier=earlier)
            self._note(batch, record)
            self._compare_end(batch, record)
            recent.append((batch, record, earlier))
            if (monitor is not None and monitor(batch, record)) or batch == to:
                break
            batch, weights, state = batch + 1, self._weights_after(record), record.states(end=True)
            if memory.notebook:
                earlier = self._earlier(batch, record, earlier)
        for number, one, before in recent:
            cached = CachedBatch(one, before)
            memory.records.keep(self.number, number, cached)
        return batch, cached

    def _begins_anew(self, batch: int) -> bool:
        """Return True if a batch needs a checkpoint because this machine goes on from one that another machine computed.

        The batches from there on have this machine's numbers, which do not depend on a replay of those before.
        """
        is_new = not self.own and self.first_batch < batch == self.computed + 1
        replay_can_begin = (
            not self._memory.notebook or batch % self._memory.program.num_batches == 0
        )  # else a replay begins at an epoch
        return is_new and replay_can_begin and not self.is_exact(batch - 1)

    def _weights_after(self, record: BatchRecord) -> Weights:
        """Return the weights for the batch after a record. A view would hold all of a large record in memory."""
        return record.after.copy() if self._memory.large else record.after

    def _leave(self, batch: int, record: BatchRecord, after: Weights) -> None:
        """Keep of a batch only what the next one needs, before its record is used again."""
        self._memory.records.leave(self.number, batch, record.part(self._memory.of_last_step, after))

    def _earlier(self, batch: int, before: BatchRecord, earlier: Sequence[BatchRecord]) -> Sequence[BatchRecord]:
        """Return the records of the epoch before `batch`, latest first, with carry `notebook`; `before` is that of the batch before
        it, `earlier` those before that."""
        continues = self._memory.notebook and batch % self._memory.program.num_batches
        return (before, *earlier) if continues else ()

    def _restored(self, checkpoint: bytes) -> tuple[Weights, Array]:
        """Return the weights and the states of a checkpoint, read-only."""
        compiled = self.trainer.compiled
        return Weights.from_bytes(compiled.layout, checkpoint, compiled.dtype)

    def _note(self, batch: int, record: BatchRecord) -> None:
        """Store the scalars of a batch; if it was computed before, compare them instead."""
        recorded, checkpoints = self._memory.numbers, self.checkpoints
        if recorded is not None:
            self._show_recorded_norm(batch, record)
            if checkpoints.length:  # the scalars of all batches are known already
                return
        if batch >= self.first_batch + checkpoints.length:
            if self.machines and self.machines[-1][1] is not None:
                self.machines += ((batch, None),)
            checkpoints.add((record.loss, record.grad_norm, record.max_weight))
            if recorded is not None:
                checkpoints.add_all(recorded[batch + 1 :])
            return
        comparison: BitForBit | BySize = self._comparison if self.is_exact(batch) else self._memory.by_size
        comparison.numbers(batch, record, checkpoints.numbers(batch))

    def _show_recorded_norm(self, batch: int, record: BatchRecord) -> None:
        """Give the record of a recorded step the norm of p.grad, as all columns have it: that of the derived gradient may have
        another size, where the script clips or scales. A step with an edited number has its own."""
        source, recorded = self._memory.program.config.source, self._memory.numbers
        is_edited = self.action.kind != "begin" and self.base is not None and batch == self.first_batch
        if recorded is not None and record.learned and not is_edited and batch not in source.unknown_norms:
            record.replace_numbers(record.loss, float(recorded[batch, 1]), record.max_weight)

    def _compare_end(self, batch: int, record: BatchRecord) -> None:
        """Compare the state that a replay reaches at the end of a batch with the checkpoint there, if there is one."""
        checkpoint = self.checkpoints.at(batch + 1)
        if checkpoint is None:
            return
        state = self.trainer.carried((batch + 1) % self._memory.program.num_batches, record.states(end=True))
        proves = self._proves(batch + 1)
        if not proves or checkpoint != checkpoint_of(record.after, state):
            by_size = self._memory.by_size
            comparison: BitForBit | BySize = self._comparison if proves else by_size
            comparison.checkpoint(batch + 1, record, Reached(*self._restored(checkpoint)), Reached(record.after, state))
            if by_size.to_explain:
                by_size.explain(self._effect_of_rounding(batch + 1, record))
        if self._unverified is not None and proves:
            self._unverified.discard(batch + 1)

    def _effect_of_rounding(self, to: int, record: BatchRecord) -> float:
        """Return the largest difference at the start of batch `to` that changed last digits of the checkpoint before it cause.

        Each number is changed or not, at random. NaN if there is no such checkpoint, or if it would take long.
        """
        earlier: Sequence[BatchRecord] = ()
        if (checkpoint := self.checkpoints.before(to - 1)) is not None:
            begin, (weights, state) = checkpoint[0], self._restored(checkpoint[1])
        elif self._memory.records.has(self.number, self.first_batch):
            begin, cached = self.first_batch, self._memory.records.nearest(self.number, self.first_batch)
            assert cached is not None
            weights, state, earlier = cached[1].record.before, cached[1].record.states(end=False), cached[1].earlier
        else:
            return math.nan
        if (to - begin) * self._memory.program.config.record_bytes > MOST_TWIN_BYTES:
            return math.nan
        plain, effects = self._simulated(begin, to, weights, state, earlier), []
        for seed in range(TWINS):
            random = np.random.default_rng(seed)
            twin = Weights(weights.layout, _rounded(weights.flat, random), weights.updates)
            effects.append(largest_relative(plain, self._simulated(begin, to, twin, _rounded(state, random), earlier), record))
        return max(effects)

    def _simulated(self, batch: int, to: int, weights: Weights, state: Array, earlier: Sequence[BatchRecord]) -> Reached:
        """Return the start of batch `to` if `batch` begins with these numbers. Nothing is compared or stored."""
        trainer, num_batches = self.trainer, self._memory.program.num_batches
        while batch < to:
            record, learn, settings = trainer.new_record(), self.learns(batch), self.settings.rule
            trainer.run(record, batch % num_batches, weights, state, learn=learn, settings=settings, earlier=earlier)
            batch, weights = batch + 1, record.after
            state, earlier = trainer.carried(batch % num_batches, record.states(end=True)), self._earlier(batch, record, earlier)
        return Reached(Weights(weights.layout, weights.flat.copy(), weights.updates), state)


def _rounded(numbers: Array, random: np.random.Generator) -> Array:
    """Return a copy in which each number is changed by one unit in the last place, up or down, or not at all."""
    direction = random.choice([-1, 0, 1], numbers.size).astype(numbers.dtype)
    with np.errstate(all="ignore"):
        return np.where(direction == 0, numbers, np.nextafter(numbers, np.copysign(np.inf, direction).astype(numbers.dtype)))


def checkpoint_of(weights: Weights, state: Array) -> bytes:
    """Return the state at the start of a batch as bytes: the weights with the states of the update rule, then the hidden states."""
    return weights.tobytes(state.data)


def _before(goal: int, monitor: Monitor | None) -> Monitor | None:
    """Return a monitor that does not see batch `goal`, which is changed later."""
    return None if monitor is None else lambda batch, record: batch < goal and monitor(batch, record)
