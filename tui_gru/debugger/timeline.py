"""A timeline, which is a chain of segments; and branches, which are named timelines, with undo and redo of changes."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from tui_gru import arguments
from tui_gru.debugger.edits import JournalEntry, TrainingSettings, changeable, changed_between, values_at
from tui_gru.debugger.history import COLUMNS, CachedBatch, MachineReport, ScalarRows
from tui_gru.debugger.moment import Moment, equal_values
from tui_gru.debugger.position import Position, StepIndex, position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.segment import Chain, HistorySegment, Memory, Monitor
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.weights import Weights
from tui_gru.errors import RecordingError, TuiGruError

# ------------------------------------------------------------------------------
# A timeline: a chain of segments, each of which takes over from the one before at a change; and references into it.


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

    def completed(self, at: Position) -> int:
        """Return the number of batches that are complete at a position, counted through all epochs."""
        return at.number + (at.tick > 0 and at.tick >= self.end_of(at.number))

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

    def remember(self, batch: int, record: BatchRecord) -> None:
        """Cache the complete record of a batch again, so that a replay to a later batch begins with it."""
        if not self.memory.one_record and not self.memory.notebook:
            self.memory.records.keep(self._owner(batch).number, batch, CachedBatch(record))

    def previous(self, batch: int) -> BatchRecord | None:
        """Return the record of the batch before, or what its last step reads of it (`BatchRecord.part`); None for the
        first batch, or if it cannot be read from its recording."""
        if not batch:
            return None
        records, stretch = self.memory.records, self._owner(batch - 1).number
        if (part := records.left(stretch, batch - 1)) is not None:
            return part
        try:
            record = self.record(batch - 1)
        except RecordingError:
            return None
        if not self.memory.one_record:
            return record
        return record.part(self.memory.of_last_step, record.after.copy())

    def prefetch(self, batch: int) -> None:
        """Begin to compute the batch after `batch` in a thread, if the user has stepped to `batch` in a recording."""
        self._owner(batch).prefetch(batch)

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
        return frozenset({*(COLUMNS if self.memory.numbers is None else ("loss",)), "epoch", "batch", "step"})

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
        segment = self.last  # not by the chain: the tree asks for one loss of each branch, and few chains are cached
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
        mine, theirs = values_at(self.moment(anchor.tick)), values_at(anchor.timeline.moment(anchor.tick))
        return all(equal_values(mine[name], theirs[name]) for name in changeable(self.program))

    def changed(self, at: Position, settings: TrainingSettings, action: JournalEntry) -> Timeline:
        """Return the timeline with the change `action` at a position and new settings after it. Its past is unchanged."""
        segment = HistorySegment(self.memory, at.tick, settings, action, self.segment_at(at.tick))
        segment.record(segment.first_batch)
        return Timeline(segment, self.memory)

    def going_on_with(self, config: Config, batch: int) -> Timeline:
        """Return the timeline of `config`, another run on imported batches of the same model. The batches before `batch` are shared
        with this one, as it began."""
        memory, settings = Memory(config, self.memory.budget.limit), self.beginning.settings
        memory.segments = self.memory.segments  # each has a number of its own
        if not batch:
            first = config.source.batch(0)
            assert first is not None
            return Timeline.begin(settings, first.weights, memory)
        segment = HistorySegment(memory, batch * self.program.ticks, settings, JournalEntry("begin"), self.beginning)
        segment.record(segment.first_batch)
        return Timeline(segment, memory)

    def changed_at(self, tick: int) -> frozenset[str]:
        """Return the names changed at a tick: parameters, values, gradients, settings of the update rule.

        The line before it used the old ones.
        """
        segment = self.chain.beginning_at(tick)
        if tick == 0 or segment is None:
            return frozenset()
        if segment.changed is None:
            segment.changed = changed_between(values_at(self.moment_before(tick)), values_at(self.moment(tick)))
        return segment.changed

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

    Numbers are read on access, so that passing it on is free for long runs. Those of the batches `unknown` are NaN because they are
    not known.
    """

    def __init__(self, timeline: Timeline, name: str, count: int) -> None:
        self._timeline, self._name, self._count = timeline, name, count
        self.unknown = timeline.program.config.source.unknown(name)

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


# ------------------------------------------------------------------------------
# The branches of a session, with undo and redo of changes; and the tree that they form.


MAIN = "main"
LONGEST_NAME = 40


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    """A timeline and the newest tick reached on it."""

    timeline: Timeline
    newest: int


@dataclass(frozen=True, eq=False, slots=True)
class BranchChange:
    """A change made at `tick` of the branch `source`, with its result on the branch `target`, a new one if the change forked.

    `other` is the branch `target` as it was before the change, None if the change forked. After undo, `other` is `target` as it was
    after the change, and `left` is the tick of the position at which undo was called.
    """

    source: str
    target: str
    tick: int
    other: Branch | None
    left: int


@dataclass(frozen=True, eq=False)
class Branches:
    """All branches of a session, the name of the current one, and the changes that can be undone and redone. Immutable."""

    named: Mapping[str, Branch]
    current: str = MAIN
    done: tuple[BranchChange, ...] = ()
    undone: tuple[BranchChange, ...] = ()

    @classmethod
    def begin(cls, timeline: Timeline) -> Branches:
        """Create a single branch, `main`, at its beginning."""
        return cls({MAIN: Branch(timeline, 0)})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.named)

    @property
    def timeline(self) -> Timeline:
        return self.named[self.current].timeline

    @property
    def newest(self) -> int:
        return self.named[self.current].newest

    @property
    def last_change(self) -> JournalEntry | None:
        """The change that undo would revert; None if there is none."""
        return self.named[self.done[-1].target].timeline.last.action if self.done else None

    @property
    def next_change(self) -> JournalEntry | None:
        """The change that redo would apply again; None if there is none."""
        target = self.undone[-1].other if self.undone else None
        return None if target is None else target.timeline.last.action

    def reached(self, tick: int) -> Branches:
        """Return the branches after the current one has reached `tick`."""
        if tick <= self.newest:
            return self
        return replace(self, named={**self.named, self.current: Branch(self.timeline, tick)})

    def changed(self, timeline: Timeline, tick: int) -> Branches:
        """Return the branches after a change at `tick`, with the new timeline.

        A change before the newest tick of its branch forks a new branch.
        """
        forks = tick < self.newest
        target = self._free_name() if forks else self.current
        change = BranchChange(self.current, target, tick, None if forks else self.named[target], tick)
        return Branches({**self.named, target: Branch(timeline, tick)}, target, (*self.done, change))

    def with_branch(self, name: str, branch: Branch) -> Branches:
        """Return the branches with another one, which is the current one then. Its name gets a number if there is one of this
        name."""
        name = "".join(filter(str.isprintable, name))[: LONGEST_NAME - 4] or "trial"
        n, free = 1, name
        while free in self.named:
            n += 1
            free = f"{name}~{n}"
        return replace(self, named={**self.named, free: branch}, current=free)

    def undo(self, tick: int) -> tuple[Branches, int] | None:
        """Return the branches without the last change, and the tick of that change; None if there is none.

        `tick` is the current position.
        """
        if not self.done:
            return None
        *done, change = self.done
        undone = replace(change, other=self.named[change.target], left=tick if self.current == change.target else change.tick)
        named = dict(self.named)
        if change.other is None:
            del named[change.target]
        else:
            named[change.target] = change.other
        return Branches(named, change.source, tuple(done), (*self.undone, undone)), change.tick

    def redo(self) -> tuple[Branches, int] | None:
        """Return the branches with the last undone change, and the tick at which undo was called; None if there is none."""
        if not self.undone:
            return None
        *undone, change = self.undone
        assert change.other is not None
        named = {**self.named, change.target: change.other}
        done = replace(change, other=self.named.get(change.target))
        return Branches(named, change.target, (*self.done, done), tuple(undone)), change.left

    def switched(self, name: str) -> Branches:
        """Return the branches with another current one. Raises `TuiGruError` for an unknown name."""
        self._check(name)
        return replace(self, current=name)

    def renamed(self, old: str, new: str) -> Branches:
        """Return the branches with one renamed, also in undo and redo.

        Raises `TuiGruError` for an unknown, invalid or taken name.
        """
        self._check(old)
        if not arguments.string("the name of a branch", new).isprintable() or new.split() != [new] or len(new) > LONGEST_NAME:
            raise TuiGruError(f"a name of a branch is one word of at most {LONGEST_NAME} characters, not {new!r}")
        if new == old:
            return self
        if new in self.named:
            raise TuiGruError(f"there is a branch {new!r} already; choose another name")
        if any(new == change.target for change in self.undone):
            raise TuiGruError(f"{new!r} is the name of a branch that redo would bring back; choose another name")

        def name(was: str) -> str:
            return new if was == old else was

        def changes(were: tuple[BranchChange, ...]) -> tuple[BranchChange, ...]:
            return tuple(replace(change, source=name(change.source), target=name(change.target)) for change in were)

        named = {name(old_name): branch for old_name, branch in self.named.items()}
        return Branches(named, name(self.current), changes(self.done), changes(self.undone))

    def without(self, name: str) -> Branches:
        """Return the branches without one, and without undo and redo of the changes made on it or that created it.

        Data shared with other branches stays. Raises `TuiGruError` for an unknown name and for the current branch.
        """
        self._check(name)
        if name == self.current:
            raise TuiGruError(f"you are on {name}, so it cannot be deleted; switch to another branch first")

        def others(changes: tuple[BranchChange, ...]) -> tuple[BranchChange, ...]:
            return tuple(change for change in changes if name not in (change.source, change.target))

        named = {other: branch for other, branch in self.named.items() if other != name}
        left = Branches(named, self.current, others(self.done), others(self.undone))
        return replace(left, done=left.undoable, undone=left.redoable)

    @property
    def undoable(self) -> tuple[BranchChange, ...]:
        """The applied changes that undo can revert, one after the other from the last: the branches they need exist."""
        named: dict[str, Branch] = dict(self.named)
        remaining: list[BranchChange] = []
        for change in reversed(self.done):
            back = change.other if change.source == change.target else named.get(change.source)
            if change.target not in named or back is None or change.tick > back.newest:
                continue
            if change.other is None:
                del named[change.target]
            else:
                named[change.target] = change.other
            remaining.append(change)
        return tuple(reversed(remaining))

    @property
    def redoable(self) -> tuple[BranchChange, ...]:
        """The undone changes that redo can apply, one after the other from the last."""
        named: dict[str, Branch] = dict(self.named)
        remaining: list[BranchChange] = []
        for change in reversed(self.undone):
            if change.source in named and change.other is not None and change.left <= change.other.newest:
                named[change.target] = change.other
                remaining.append(change)
        return tuple(reversed(remaining))

    def _check(self, name: str) -> None:
        if arguments.string("a branch", name) not in self.named:
            raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(self.named)}")

    def _free_name(self) -> str:
        root = self.current.split("~")[0]
        n = 1
        while f"{root}~{n}" in self.named:
            n += 1
        return f"{root}~{n}"


BranchOrigin = tuple[int, int]  # the index of an older branch, and the tick up to which a branch equals it
_TICK = itemgetter(1)


class BranchInfo(NamedTuple):
    """A branch that forked from `source` at `tick`, has reached the tick `newest`, and has the last loss `loss`.

    Up to `tick` it shares the past of `source`. The root branch has the source None and the tick 0. `loss` is None if none has been
    computed.
    """

    name: str
    source: str | None
    tick: int
    newest: int
    loss: float | None


class BranchTree:
    """Computes the branch tree. Caches it: only branches that changed are computed again."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._branches: tuple[Branch, ...] = ()
        self._lasts: list[HistorySegment] = []
        self._origins: list[BranchOrigin] = []
        self._forks: tuple[BranchInfo, ...] = ()

    def of(self, branches: Branches) -> tuple[BranchInfo, ...]:
        """Return the information on every branch, in the order of `branches.names`; a branch comes after its source."""
        names, present = branches.names, tuple(branches.named.values())
        if (names, present) != (self._names, self._branches):
            lasts = [branch.timeline.last for branch in present]
            origins = self._origins if lasts == self._lasts else _origins(lasts)
            origins_and_forks = dict(zip(self._branches, zip(self._origins, self._forks, strict=True), strict=True))
            if names != self._names:
                origins_and_forks = {}
            forks = []
            for i, branch in enumerate(present):
                origin, fork = origins_and_forks.get(branch, (None, None))
                forks.append(fork if fork is not None and origin == origins[i] else _fork(names, i, origins[i], branch))
            self._forks, self._names, self._branches, self._lasts, self._origins = tuple(forks), names, present, lasts, origins
        return self._forks


def _fork(names: Sequence[str], i: int, origin: BranchOrigin, branch: Branch) -> BranchInfo:
    source, tick = origin
    return BranchInfo(names[i], names[source] if source >= 0 else None, tick, branch.newest, _last_loss(branch))


def _origins(lasts: Sequence[HistorySegment]) -> list[BranchOrigin]:
    """Return, for the last segment of each branch, the earlier branch that it shares most with; (−1, 0) if there is none."""
    followers: dict[HistorySegment, list[BranchOrigin]] = {}  # by segment: (branch, last shared tick), ascending in both
    origins: list[BranchOrigin] = []
    for i, last in enumerate(lasts):
        segment: HistorySegment | None = last
        until = sys.maxsize  # the tick up to which this branch follows the segment
        while segment is not None and segment not in followers:
            followers[segment] = [(i, until)]
            until = segment.start
            segment = segment.base
        if segment is None:
            origins.append((0 if i else -1, 0))
            continue
        # A branch is added only if it follows the segment for longer than all before it. So both parts ascend, and the first
        # branch that shares all that this one has of the segment is found by bisection; if none does, the last shares most.
        others = followers[segment]
        k, tick = others[min(bisect_left(others, until, key=_TICK), len(others) - 1)]
        origins.append((k, min(tick, until)))
        if until > others[-1][1]:
            others.append((i, until))
    return origins


def _last_loss(branch: Branch) -> float | None:
    program = branch.timeline.program
    batch = program.last_loss(branch.newest)
    return None if batch < 0 or batch in program.config.source.unknown_losses else branch.timeline.loss(batch)
