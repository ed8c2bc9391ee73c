"""A stretch of training with the same settings throughout: from one change of the future to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np

from tui_gru.debugger.checkpoints.budget import Budget
from tui_gru.debugger.checkpoints.checkpoints import Checkpoints
from tui_gru.debugger.checkpoints.divergence import different, diverged
from tui_gru.debugger.checkpoints.record_cache import LEAST, LEAST_GIVEN, CachedBatch, RecordCache, size_at_hand
from tui_gru.debugger.checkpoints.scalars import COLUMNS, Rows, Scalars
from tui_gru.debugger.program.line_table import program_of
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.timeline.chain import Chains
from tui_gru.debugger.timeline.journal import JournalEntry, Settings, Trainers
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.numbers import same
from tui_gru.engine.threads import ONE_THREAD
from tui_gru.engine.trainer import Trainer
from tui_gru.engine.weights import COUNT_BYTES, Array, Weights

# Sees every batch that is computed on the way, and stops the run by returning True. A record that it is given is only good until
# it has been given the next but one.
Monitor = Callable[[int, BatchRecord], bool]


class Memory:
    """What all segments of a session share. `limit` bounds what they keep in it, in bytes."""

    def __init__(self, config: Config, limit: int) -> None:
        self.program, self.trainers = program_of(config), Trainers(config)
        self.notebook = config.carry == "notebook"
        self.budget = Budget(limit, config.num_batches if self.notebook else 1)
        self.records, self.scalars = (
            RecordCache(self.budget, size_at_hand(config), LEAST if config.given is None else LEAST_GIVEN),
            Scalars(self.budget),
        )
        self.chains = Chains(self.program)
        self.numbers = None if config.given is None else config.given.numbers
        self.segments = 0  # how many there have been


class Segment:
    """Batches from the one on in which `action` was done, just after tick `start`. Batches are counted through all epochs.

    It takes over from the segment `before`, which the first one does not have; `base` is the last before those that took over at
    the same tick. Of its first batch only the action is kept: the record is that of `before`, changed and computed on from there,
    whenever it is asked for. What has been computed never changes: a replay that passes a checkpoint is compared with it.
    """

    __slots__ = (
        "__weakref__",
        "_memory",
        "_unproven",
        "action",
        "base",
        "before",
        "checkpoints",
        "first_batch",
        "machine",
        "number",
        "settings",
        "start",
    )  # fmt: skip

    def __init__(self, memory: Memory, start: int, settings: Settings, action: JournalEntry, before: Segment | None = None) -> None:
        self._memory, self.start, self.settings, self.action, self.before = memory, start, settings, action, before
        self.base: Segment | None = (
            before.base if before is not None and before.base is not None and before.start == start else before
        )
        self.first_batch = position_of(memory.program, start).number
        self.checkpoints = Checkpoints(self.first_batch, memory.budget, memory.scalars)
        self.machine = ""
        self._unproven: set[int] | None = None
        self.number = memory.segments  # no other segment of the session has it
        memory.segments += 1
        memory.budget.changes += 1

    def __del__(self) -> None:
        self._memory.budget.changes -= 1

    @classmethod
    def begin(cls, memory: Memory, settings: Settings, weights: Weights) -> Segment:
        """The first segment of a run, with the weights that it begins with."""
        segment = cls(memory, 0, settings, JournalEntry("begin"))
        segment.checkpoints.keep(0, checkpoint_of(weights, segment.trainer.initial_state()))
        segment.record(0)
        return segment

    def restore(self, numbers: Iterable[Rows], checkpoints: Mapping[int, bytes], machine: str) -> None:
        """Take over what this segment computed in another run of this program, on `machine`: its numbers, and its checkpoints.

        No replay begins at one of these checkpoints until another has passed it.
        """
        for piece in numbers:
            self.checkpoints.add(piece)
        for batch, checkpoint in checkpoints.items():
            self.checkpoints.keep(batch, checkpoint)
        self.machine, self._unproven = machine, set(checkpoints) - {0}

    @property
    def trainer(self) -> Trainer:
        return self._memory.trainers.of(self.settings.letters)

    @property
    def computed(self) -> int:
        """The newest batch that has been run."""
        return self.first_batch + self.checkpoints.length - 1

    @property
    def edited(self) -> tuple[str, ...]:
        """The numbers that have been changed where it begins, at its tick: weights, values and gradients, the last one last."""
        names: list[str] = []
        segment: Segment | None = self
        while segment is not None and segment.start == self.start:
            names.append(segment.action.edited)
            segment = segment.before
        return tuple(dict.fromkeys(name for name in names if name))[::-1]

    def record(self, batch: int, monitor: Monitor | None = None) -> tuple[int, BatchRecord]:
        """The record of `batch`, run or replayed as needed; with its number, which is less if `monitor` stopped the run.

        The batch before it is at hand afterwards, too.
        """
        route, at, found = self._route(batch, 1)
        with ONE_THREAD:
            at, kept = self._follow(route, at, found, batch, self._memory.records.run, monitor)
        return at, kept.record

    def walk(self, first: int, last: int, visit: Monitor) -> bool:
        """Show `visit` the records of the batches `first` … `last` in order, until it returns True. Whether it did."""
        stopped = False

        def see(batch: int, record: BatchRecord) -> bool:
            nonlocal stopped
            stopped = batch >= first and visit(batch, record)
            return stopped

        route, at, found = self._route(first, 0)
        if not (isinstance(found, CachedBatch) and len(route) == 1 and see(at, found.record)):
            with ONE_THREAD:
                self._follow(route, at, found, last, 0, see)
        return stopped

    def replay_start(self, batch: int) -> int:
        """The first batch that is replayed on the way to `batch` when nothing is at hand."""
        if self.trainer.is_given:
            return batch
        segment: Segment = self
        while (checkpoint := segment.checkpoints.before(batch)) is None:
            assert segment.before is not None
            batch, segment = segment.first_batch, segment.before
        return checkpoint[0]

    # From what is nearest to a batch, in this segment or one before it, through all that took over since

    def _route(self, batch: int, margin: int) -> tuple[list[Segment], int, CachedBatch | bytes]:
        """The segments to go through to `batch`, the last of which is this one, and what to begin with in the first of them.

        That is the end of a batch, kept at hand, or the checkpoint before one, if possible `margin` batches before the goal.
        """
        route = [self]
        while (found := route[-1]._nearest(batch, margin)) is None:
            batch, before = route[-1].first_batch, route[-1].before
            assert before is not None
            route.append(before)
        return route[::-1], *found

    def _nearest(self, batch: int, margin: int) -> tuple[int, CachedBatch | bytes] | None:
        """What to go on from within this segment to get to `batch`; None if it is only known how it began."""
        kept = self._memory.records.nearest(self.number, batch)
        checkpoint = self._beginning(batch - margin, batch) if self.trainer.is_given else None
        checkpoint = checkpoint or self._proven(batch - margin) or self._proven(batch)
        return kept if checkpoint is None or (kept is not None and kept[0] >= checkpoint[0]) else checkpoint

    def _beginning(self, wanted: int, batch: int) -> tuple[int, bytes] | None:
        """Where a run on given batches can begin: with any batch behind the first of this segment, as none needs another."""
        first = self.first_batch + (self.before is not None)
        return (max(wanted, first), b"") if batch >= first else None

    def _proven(self, batch: int) -> tuple[int, bytes] | None:
        """The checkpoint at or before `batch` to begin at: the one before it, where it has not been proven yet."""
        checkpoint = self.checkpoints.before(batch)
        unproven = checkpoint is not None and self._unproven and checkpoint[0] in self._unproven
        return self.checkpoints.before(checkpoint[0] - 1) if checkpoint is not None and unproven else checkpoint

    def _follow(
        self, route: Sequence[Segment], at: int, found: CachedBatch | bytes, to: int, keep: int, monitor: Monitor | None
    ) -> tuple[int, CachedBatch]:
        """Go from what `_route` gave to the end of batch `to`, and return that; or as far as `monitor` lets it.

        The last `keep` + 2 batches of each segment stay at hand; the records of those before are used again.
        """
        segment = route[0]
        groups = [list(group) for _, group in groupby(route[1:], key=attrgetter("start"))]
        for i, taking_over in enumerate(groups):
            goal = taking_over[0].first_batch
            if not isinstance(found, CachedBatch) or at < goal:
                at, found = segment._run(at, found, goal, keep, _before(goal, monitor))
                if at < goal:
                    return at, found
            segment = taking_over[-1]
            at, found = goal, segment._taken_over(taking_over, found)
            final = i + 1 == len(groups) or groups[i + 1][0].first_batch > at
            if final and monitor is not None and monitor(at, found.record):
                return at, found
        return (at, found) if isinstance(found, CachedBatch) and at == to else segment._run(at, found, to, keep, monitor)

    def _taken_over(self, taking_over: Sequence[Segment], kept: CachedBatch) -> CachedBatch:
        """The first batch: as it is in the segment before, changed by all that was done at this tick, and computed on from it."""
        from tui_gru.debugger.timeline.edits import change_of

        program, number = self._memory.program, self.first_batch
        here = Moment(program, position_of(program, self.start), kept.record, program.config.vocabulary)
        record, goes_on = kept.record.copy(), program.point_after(here.position.offset)
        record.learning_rate = self.settings.learning_rate
        learns = here.position.offset > program.loss_tick or self.settings.learns(number)
        for segment in taking_over:
            point = change_of(segment.action, here, segment.settings)(record, segment.trainer) or goes_on
            if point != goes_on or segment is self:  # what goes on from here is computed once, after the last change
                self.trainer.resume(record, point, learn=learns, earlier=kept.earlier)
        self._note(number, record)
        taken_over = CachedBatch(record, kept.earlier)
        self._memory.records.keep(self.number, number, taken_over)
        return taken_over

    def _run(self, at: int, start: CachedBatch | bytes, to: int, keep: int, monitor: Monitor | None) -> tuple[int, CachedBatch]:
        """Run on within this segment, from the end of batch `at` or the checkpoint before it, to the end of batch `to`."""
        memory, trainer, settings, checkpoints = self._memory, self.trainer, self.settings, self.checkpoints
        if isinstance(start, CachedBatch):
            batch, weights, state = at + 1, start.record.after, start.record.states(end=True)
            earlier = self._with(start, batch)
        else:
            batch, (weights, state), earlier = at, trainer.given(at) or self._restored(start), ()
        recent: deque[tuple[int, CachedBatch]] = deque(maxlen=keep + 2)
        while True:
            in_epoch = batch % memory.program.num_batches
            if len(recent) > 1 and to - batch > keep:  # far from the goal three records take turns, which stay in the cache
                recent.popleft()
            record = kept = None  # so that the trainer can use them again
            record = trainer.new_record()
            if (given := trainer.given(in_epoch)) is not None:
                weights, state = given
            else:
                state = trainer.carried(in_epoch, state)
            if given is None and checkpoints.is_due(batch):
                checkpoints.keep(batch, checkpoint_of(weights, state))
            elif given is None and (checkpoint := checkpoints.at(batch)) is not None:
                self._prove(batch, checkpoint, weights, state)
            trainer.run(
                record,
                in_epoch,
                weights,
                state,
                learn=settings.learns(batch),
                learning_rate=settings.learning_rate,
                earlier=earlier,
            )
            self._note(batch, record)
            kept = CachedBatch(record, earlier)
            recent.append((batch, kept))
            if (monitor is not None and monitor(batch, record)) or batch == to:
                break
            batch, weights, state = batch + 1, record.after, record.states(end=True)
            earlier = self._with(kept, batch)
        if (checkpoint := checkpoints.at(batch + 1)) is not None:
            state = trainer.carried((batch + 1) % memory.program.num_batches, record.states(end=True))
            self._prove(batch + 1, checkpoint, record.after, state)
        for number, one in recent:
            memory.records.keep(self.number, number, one)
        return batch, kept

    def _with(self, kept: CachedBatch, batch: int) -> tuple[BatchRecord, ...]:
        """Carry `notebook`: the records of the epoch before `batch`, which follows on `kept`, the latest first."""
        goes_on = self._memory.notebook and batch % self._memory.program.num_batches
        return (kept.record, *kept.earlier) if goes_on else ()

    def _restored(self, checkpoint: bytes) -> tuple[Weights, Array]:
        """The weights and the states of a checkpoint, read-only."""
        compiled = self.trainer.compiled
        return Weights.from_bytes(compiled.layout, checkpoint, compiled.dtype)

    def _note(self, batch: int, record: BatchRecord) -> None:
        """Write down the numbers of a batch, or compare them where it has been run before."""
        known = self._memory.numbers
        if known is not None and not self.checkpoints.length:  # those of all batches behind it were known beforehand
            self.checkpoints.add([(record.loss, record.grad_norm, record.max_weight)])
            self.checkpoints.add(known[batch + 1 :])
        if known is not None:
            return
        if batch > self.computed:
            self.checkpoints.add([(record.loss, record.grad_norm, record.max_weight)])
            return
        now = record.loss, record.grad_norm
        for name, is_now, was in zip(COLUMNS, now, self.checkpoints.numbers(batch), strict=False):
            if not same(is_now, was):
                raise diverged(self._epoch_and_batch(batch), f"has the {name} {is_now!r}, but the run had {was!r}", self.machine)

    def _prove(self, batch: int, checkpoint: bytes, weights: Weights, state: Array) -> None:
        """Compare the state with which a replay comes to a batch with the checkpoint there."""
        if checkpoint != checkpoint_of(weights, state):
            now = np.concatenate((weights.flat, state))
            differ = different(np.frombuffer(checkpoint, now.dtype, offset=COUNT_BYTES), now)
            if differ.any():
                what = f"begins with {int(differ.sum())} of {now.size} numbers other than those of the checkpoint there"
                raise diverged(self._epoch_and_batch(batch), what, self.machine)
        if self._unproven is not None:
            self._unproven.discard(batch)

    def _epoch_and_batch(self, batch: int) -> tuple[int, int]:
        return divmod(batch, self._memory.program.num_batches)


def checkpoint_of(weights: Weights, state: Array) -> bytes:
    """The state with which a batch begins, as bytes: the weights with what the update rule keeps, then the hidden states."""
    return weights.tobytes() + state.tobytes()


def _before(goal: int, monitor: Monitor | None) -> Monitor | None:
    """A monitor that does not see batch `goal`, which is not yet what it will be."""
    return None if monitor is None else lambda batch, record: batch < goal and monitor(batch, record)
