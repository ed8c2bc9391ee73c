"""The state of a session that its file keeps: branches, stops, hits, marks, the log; immutable, replaced by each verb."""

from __future__ import annotations

import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tui_gru import errors as arguments
from tui_gru.debugger.branches import Branches, BranchInfo
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.position import Position, StepMemory
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Sample

# ------------------------------------------------------------------------------
# The number of hits of each stop in each batch, and their places. Counted once and stored, because computed batches never change.
#
# On another machine, a condition may hold at other places by the last digits of its numbers. The hits that were counted remain:
# the fifth hit is the same place on every machine.


UNKNOWN = -1
RECENT = 64
MOST = 4  # timelines

HitKey = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Hits:
    """The ticks of a batch at which a stop is hit, in order; and the ticks at which it could not be evaluated, with the errors."""

    batch: int
    ticks: tuple[int, ...] = ()
    errors: tuple[tuple[int, ConditionError], ...] = ()


class HitCounts:
    """The number of hits of one stop in each batch of a timeline, as far as the hits have been counted."""

    def __init__(self) -> None:
        self._counts = np.full(0, UNKNOWN, np.int32)
        self._sums = np.zeros(1, np.int64)  # hits before each batch
        self._summed = 0  # the number of batches, from the first on, that are in the sums
        self._doubtful: set[int] = set()  # batches with a place at which the stop could not be evaluated
        self._recent: dict[int, Hits] = {}
        self._ticks = array("q")  # of the hits in batches that were tested, batch by batch in the order of testing
        self._places = np.full(0, UNKNOWN, np.int64)  # by batch: where its ticks begin in `_ticks`; UNKNOWN if it was not tested
        self.looked = False  # True if a batch had to be tested, so that counting again would take long

    @classmethod
    def of(
        cls,
        counts: NDArray[np.int32],
        doubtful: Iterable[int],
        batches: NDArray[np.int64] | None = None,
        ticks: NDArray[np.int64] | None = None,
    ) -> HitCounts:
        """Create from known counts: the number of hits in each batch, or UNKNOWN. `doubtful` are batches with errors. `batches` and
        `ticks` are those of `places`."""
        known = cls()
        known._counts, known._doubtful, known.looked = counts.copy(), set(doubtful), True
        if batches is not None and ticks is not None:
            known._ticks = array("q", ticks.tobytes())
            known._places = np.full(len(counts), UNKNOWN, np.int64)
            known._places[batches] = np.cumsum(counts[batches], dtype=np.int64) - counts[batches]
        return known

    @property
    def places(self) -> dict[str, NDArray[np.int64]]:
        """The `batches` with hits that were tested, (n), and the `ticks` of these hits, batch by batch."""
        batches = np.flatnonzero(self._places != UNKNOWN)
        every = np.frombuffer(self._ticks, np.int64) if self._ticks else np.empty(0, np.int64)
        parts = [every[at : at + count] for at, count in zip(self._places[batches], self._counts[batches], strict=True)]
        return {"batches": batches.astype(np.int64), "ticks": np.concatenate(parts or [every[:0]])}

    @property
    def known_counts(self) -> NDArray[np.int32]:
        """The number of hits in each batch, up to the last that is known, (n); UNKNOWN for others."""
        known = np.flatnonzero(self._counts != UNKNOWN)
        return self._counts[: known[-1] + 1 if known.size else 0]

    def counts(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the counts of the batches `first` … `last`, (last + 1 − first), UNKNOWN if not counted: a writable view."""
        missing = last + 1 - len(self._counts)
        if missing > 0:
            more = max(missing, len(self._counts) // 4, 64)
            self._counts = np.concatenate((self._counts, np.full(more, UNKNOWN, np.int32)))
        return self._counts[first : last + 1]

    def known(self, batch: int) -> bool:
        return batch < len(self._counts) and bool(self._counts[batch] != UNKNOWN)

    def note(self, hits: Hits) -> None:
        """Store the hits in a batch, unless they have been counted before: on another machine they may be at other places now."""
        self.looked = True
        if not self.known(hits.batch):
            self.counts(hits.batch, hits.batch)[0] = len(hits.ticks)
            self._note_places(hits)
        if hits.errors:
            self._doubtful.add(hits.batch)
        if hits.ticks or hits.errors:
            self._recent[hits.batch] = hits
            while len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]

    def _note_places(self, hits: Hits) -> None:
        if not hits.ticks:
            return
        missing = hits.batch + 1 - len(self._places)
        if missing > 0:
            more = max(missing, len(self._places) // 4, 64)
            self._places = np.concatenate((self._places, np.full(more, UNKNOWN, np.int64)))
        self._places[hits.batch] = len(self._ticks)
        self._ticks.extend(hits.ticks)

    def noted(self, batch: int) -> Hits | None:
        """Return the hits in a batch, as they were counted; None if the batch was not tested, or had an error longer ago."""
        if batch in self._recent or not self.known(batch) or batch in self._doubtful:
            return self._recent.get(batch)
        at = int(self._places[batch]) if batch < len(self._places) else UNKNOWN
        return None if at == UNKNOWN else Hits(batch, tuple(self._ticks[at : at + int(self._counts[batch])]))

    def doubtful(self, first: int, last: int) -> list[int]:
        """Return the batches among `first` … `last` in which the stop could not be evaluated at some place."""
        return [batch for batch in self._doubtful if first <= batch <= last]

    def before(self, batch: int) -> int | None:
        """Return the number of hits before a batch; None if not known."""
        if batch > self._summed:
            counts = self.counts(self._summed, batch - 1)
            unknown = np.flatnonzero(counts == UNKNOWN)
            counts = counts[: unknown[0]] if unknown.size else counts
            upto = self._summed + len(counts)
            if upto >= len(self._sums):
                self._sums = np.concatenate((self._sums, np.zeros(max(upto + 1 - len(self._sums), len(self._sums) // 4), np.int64)))
            self._sums[self._summed + 1 : upto + 1] = self._sums[self._summed] + np.cumsum(counts)
            self._summed = upto
        return int(self._sums[batch]) if batch <= self._summed else None

    def shared(self, batches: int) -> HitCounts:
        """Return the counts for a timeline that shares the first `batches` batches with this one."""
        shared = HitCounts()
        shared._counts, shared._places = self._counts[:batches].copy(), self._places[:batches].copy()
        shared._ticks = array("q", self._ticks)
        shared._doubtful = {batch for batch in self._doubtful if batch < batches}
        shared.looked = self.looked
        return shared


class HitCache:
    """A cache of hit counts, by timeline and key of the stop. Only the timelines used last are kept; others are counted again."""

    def __init__(self) -> None:
        self._of: OrderedDict[Timeline, dict[HitKey, HitCounts]] = OrderedDict()

    def put(self, timeline: Timeline, counts: Mapping[HitKey, HitCounts]) -> None:
        """Store the counts of a timeline."""
        self._of[timeline] = dict(counts)

    def of(self, timeline: Timeline, key: HitKey) -> HitCounts:
        """Return the counts of a stop on a timeline; those of batches shared with a cached timeline are copied from it."""
        if timeline not in self._of:
            self._of[timeline] = self._taken_over(timeline)
            while len(self._of) > MOST:
                self._of.popitem(last=False)
        self._of.move_to_end(timeline)
        return self._of[timeline].setdefault(key, HitCounts())

    def _taken_over(self, timeline: Timeline) -> dict[HitKey, HitCounts]:
        nearest = max(self._of, key=lambda each: _in_common(each, timeline), default=timeline)
        batches = _in_common(nearest, timeline)
        return {key: each.shared(batches) for key, each in self._of.get(nearest, {}).items()} if batches else {}


def _in_common(one: Timeline, other: Timeline) -> int:
    """Return the number of leading batches that two timelines share."""
    same = one.chain.shared(other.chain)
    parted = (each.segments[same].first_batch for each in (one, other) if same < len(each.segments))
    return min(parted, default=max(one.computed, other.computed) + 1) if same else 0


# ------------------------------------------------------------------------------
# Marks: places on branches, each stored under a letter.


_LETTER = re.compile("[a-zA-Z]")


@dataclass(frozen=True)
class Mark:
    """A place on a branch, its letter, and a text about it, which may be empty."""

    letter: str
    branch: str
    tick: int
    text: str = ""


@dataclass(frozen=True)
class Marks:
    """All marks of a session, by letter. Immutable."""

    by_letter: Mapping[str, Mark] = field(default_factory=dict)

    @property
    def sorted(self) -> tuple[Mark, ...]:
        """a to z, then A to Z."""
        return tuple(self.by_letter[letter] for letter in sorted(self.by_letter, key=str.swapcase))

    def get(self, letter: str) -> Mark:
        """Return the mark of a letter. Raises `TuiGruError` if there is none."""
        check_letter(letter)
        if letter not in self.by_letter:
            there = f"there are {' '.join(mark.letter for mark in self.sorted)}" if self.by_letter else "m and a letter sets one"
            raise TuiGruError(f"there is no mark {letter}; {there}")
        return self.by_letter[letter]

    def with_mark(self, mark: Mark) -> Marks:
        check_letter(mark.letter)
        return Marks({**self.by_letter, mark.letter: mark})

    def without(self, letter: str) -> Marks:
        """Return the marks without one letter. Raises `TuiGruError` if there is none."""
        self.get(letter)
        return Marks({each: mark for each, mark in self.by_letter.items() if each != letter})

    def with_branch(self, old: str, new: str | None) -> Marks:
        """Return the marks after branch `old` was renamed to `new`, or deleted if `new` is None."""
        moved = {each: replace(mark, branch=new or "") if mark.branch == old else mark for each, mark in self.by_letter.items()}
        return Marks({each: mark for each, mark in moved.items() if mark.branch})


def check_letter(letter: Any) -> None:
    if not isinstance(letter, str) or not _LETTER.fullmatch(letter):
        raise TuiGruError(f"a mark is a letter, a to z or A to Z, not {arguments.shown(letter)}")


# ------------------------------------------------------------------------------
# Breakpoints and watches as plain data. The folder `breakpoints` finds their hits.


@dataclass(frozen=True)
class Breakpoint:
    """Stops after the line whose target is `line` has been executed, if `condition` holds or is empty.

    Without a line, it is hit wherever a value that the condition reads is computed and the condition holds. `hits` is the text of
    a `HitCount`, `log` the template of a `LogPoint`; with a template, it writes to the log instead of stopping.
    """

    id: int
    line: str = ""
    condition: str = ""
    hits: str = ""
    log: str = ""
    enabled: bool = True


@dataclass(frozen=True)
class Watch:
    """An expression whose value is shown; with `stops`, runs stop when it is computed and its value has changed."""

    id: int
    expression: str
    stops: bool = False
    enabled: bool = True


Stop = Breakpoint | Watch
S = TypeVar("S", bound=Stop)


@dataclass(frozen=True)
class Stops:
    """All breakpoints and watches of a session, each kind in order of creation. Immutable.

    `last_id` is the highest id assigned so far; ids of deleted stops are not reused.
    """

    breakpoints: tuple[Breakpoint, ...] = ()
    watches: tuple[Watch, ...] = ()
    last_id: int = 0

    @property
    def all(self) -> tuple[Stop, ...]:
        """Breakpoints and watches in order of creation."""
        both: list[Stop] = [*self.breakpoints, *self.watches]
        return tuple(sorted(both, key=lambda stop: stop.id))

    def get(self, id: int) -> Stop:
        """Return the stop with an id. Raises `TuiGruError` if there is none."""
        id = arguments.whole("the number of a breakpoint or watch", id)
        for stop in self.all:
            if stop.id == id:
                return stop
        ids = ", ".join(str(stop.id) for stop in self.all)
        there = f"there are {ids}" if ids else "there is none at all"
        raise TuiGruError(f"there is no breakpoint or watch {id!r}; {there}")

    def with_stop(self, stop: Stop) -> Stops:
        """Add a stop, or replace the one with the same id."""
        if isinstance(stop, Breakpoint):
            return replace(self, breakpoints=_with_stop(self.breakpoints, stop), last_id=max(self.last_id, stop.id))
        return replace(self, watches=_with_stop(self.watches, stop), last_id=max(self.last_id, stop.id))

    def without(self, id: int) -> Stops:
        """Remove the stop with an id. Raises `TuiGruError` if there is none."""
        self.get(id)
        return replace(
            self,
            breakpoints=tuple(each for each in self.breakpoints if each.id != id),
            watches=tuple(each for each in self.watches if each.id != id),
        )

    @property
    def active(self) -> tuple[Stop, ...]:
        """The stops that stop a run or write to the log: enabled breakpoints, and enabled watches with `stops`."""
        return tuple(stop for stop in self.all if stop.enabled and (isinstance(stop, Breakpoint) or stop.stops))


@dataclass(frozen=True, eq=False)
class Watched:
    """A watch at one moment: its `value`, None if not computed yet, and its value `before` that was computed.

    `error` is the message if it cannot be evaluated; otherwise empty.
    """

    watch: Watch
    value: Any = None
    before: Any = None
    error: str = ""


class LogLine(NamedTuple):
    """A line that breakpoint `id` wrote to the log at `tick`."""

    tick: int
    id: int
    text: str


def changed(stop: S, changes: Mapping[str, Any]) -> S:
    """Return a stop with other fields. Raises `TuiGruError` if a field does not exist, has another type, or is the id."""
    can = {each.name: type(getattr(stop, each.name)) for each in fields(stop) if each.name != "id"}
    what = type(stop).__name__.lower()
    for name, value in changes.items():
        if name not in can:
            raise TuiGruError(f"a {what} has no {name!r} to change; it has {', '.join(can)}")
        if not isinstance(value, can[name]):
            kind = "a text" if can[name] is str else "True or False"
            raise TuiGruError(f"{name} of a {what} is {kind}, not {arguments.shown(value)}")
    return replace(stop, **changes)


def _with_stop(stops: tuple[S, ...], stop: S) -> tuple[S, ...]:
    if all(each.id != stop.id for each in stops):
        return (*stops, stop)
    return tuple([stop if each.id == stop.id else each for each in stops])


# ------------------------------------------------------------------------------
# The complete state of a session that is saved in its file and restored from it.


BranchTick = tuple[str, int]  # a branch, by name, and a tick
BACK = "'"  # in the place of the letter of a mark: the place before the last jump


@dataclass(frozen=True, eq=False)
class State:
    """A session between two verbs. Immutable; each verb creates a new state.

    The run: `config`, `epochs` (None: no end), `branches`. The position on the current branch: `tick`, and `stride`, the memory
    of the steps that led there. `left` is the place before the last jump, `compared` the two branches being compared, if any.
    `hits` has the ticks of each branch at which runs have stopped, the latest stop last, and `log` the lines that log points have
    written on it, in the order of time. `kept` has the JSON values of the front end, by name. `hit_counts` has the hits of
    counted breakpoints on the current timeline; it is filled in when the state is saved, because counting them again takes long.
    """

    config: Config
    epochs: int | None
    branches: Branches
    tick: int = 0
    stride: StepMemory = field(default_factory=lambda: StepMemory.begin("", 0))
    stop_on_nan: bool = False
    samples: tuple[Sample, ...] = ()
    stops: Stops = field(default_factory=Stops)
    marks: Marks = field(default_factory=Marks)
    left: BranchTick | None = None
    last_condition: str = ""
    compared: tuple[str, ...] = ()
    hits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    log: Mapping[str, tuple[LogLine, ...]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    hit_counts: Mapping[HitKey, HitCounts] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<state at tick {self.tick} on {self.branch} of {self.config!r}>"

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.branches.timeline

    @property
    def branch(self) -> str:
        """The name of the current branch."""
        return self.branches.current

    @property
    def others(self) -> tuple[str, ...]:
        """The names of the other branches. Raises `TuiGruError` if there is none."""
        others = tuple(name for name in self.branches.names if name != self.branch)
        if not others:
            raise TuiGruError("there is only this branch; a change made in the past forks another")
        return others

    @property
    def comparing(self) -> str | None:
        """The branch that the current one is compared with; None if there is no comparison or that branch no longer exists."""
        others = [name for name in self.compared[::-1] if name != self.branch and name in self.branches.names]
        return others[0] if others else None

    def relative(self, forks: Sequence[BranchInfo]) -> str:
        """Return the source of the current branch, else the newest branch that forked from it, else the newest other branch.

        `forks` describes all branches. Raises `TuiGruError` if there is no other branch.
        """
        others = self.others
        source = next(fork.source for fork in forks if fork.name == self.branch)
        left = [fork.name for fork in forks if fork.source == self.branch]
        return source or (left or others)[-1]

    def destination(self, letter: str) -> BranchTick:
        """Return the place of a mark, or, for `'`, the place before the last jump.

        Raises `TuiGruError` if there is no such place, or its branch no longer exists.
        """
        if arguments.text("a mark", letter) != BACK:
            mark = self.marks.get(letter)
            where, what = (mark.branch, mark.tick), f"mark {letter}"
        elif self.left is None:
            raise TuiGruError("there is no place to jump back to yet; a jump, a search or go sets one")
        else:
            where, what = self.left, "the place before the last jump"
        if where[0] not in self.branches.named:
            raise TuiGruError(f"{what} is on the branch {where[0]}, which has been undone; redo may bring it back")
        return where

    def next_mark(self, forwards: bool) -> Mark:
        """Return the next mark, or the one before: in time, then by branch. Raises `TuiGruError` if there is none."""
        names = self.branches.names
        marks = {(names.index(mark.branch), mark.tick): mark for mark in self.marks.sorted if mark.branch in names}
        here = names.index(self.branch), self.tick
        beyond = [place for place in marks if (place > here if forwards else place < here)]
        if not beyond:
            if not marks:
                raise TuiGruError("there are no marks yet; m and a letter sets one")
            no = "this is the last mark" if forwards else "this is the first mark"
            raise TuiGruError(no if here in marks else f"there is no mark {'further on' if forwards else 'before this place'}")
        return marks[min(beyond) if forwards else max(beyond)]

    def replaced(self, **changes: Any) -> State:
        """Return the state with other values of these fields: like `dataclasses.replace`, but faster, since every step calls it."""
        fields = self.__dict__
        state = object.__new__(State)
        state.__dict__.update(fields)
        state.__dict__.update(changes)
        if len(state.__dict__) > len(fields):
            raise TypeError(f"a state has no {', '.join(changes.keys() - fields.keys())}")
        return state


MOST_SAMPLES, LEAST_SAMPLES = 64, 2**16  # how many at most, and the bytes that they may use even if the budget is smaller
DRAW_BYTES = 320  # memory of a sampled character, in bytes, without its distribution


def newest_samples(samples: tuple[Sample, ...], memory: int) -> tuple[Sample, ...]:
    """Return the newest samples that fit into `memory` bytes: at least one, at most `MOST_SAMPLES`."""
    kept, used = 0, 0
    for sample in reversed(samples[-MOST_SAMPLES:]):
        used += sum(DRAW_BYTES + draw.y_hat.nbytes for draw in sample.draws)
        if kept and used > max(memory, LEAST_SAMPLES):
            break
        kept += 1
    return samples[-kept:]


# ------------------------------------------------------------------------------
# The outcome of a verb of a session: the position, what stopped the run, and the message.


StopCause = Literal["breakpoint", "condition", "not finite", "growth", "check"]


@dataclass(frozen=True)
class Notice:
    """A one-line message: an answer to the user, or a `warning` that something is wrong."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class StopEvent:
    """What stopped a run just after `tick`.

    `cause` is a breakpoint or a watch; the condition of a search; a number that is not finite; one that grew a thousandfold; or a
    batch whose numbers differ from PyTorch's. `notice` says which, in words; a search for a condition says nothing.
    """

    tick: int
    cause: StopCause
    notice: Notice | None = None


@dataclass(frozen=True)
class Outcome:
    """The position of a session after a verb, what stopped the run there (None: it ended or was interrupted), and the message."""

    position: Position
    stopped_by: StopEvent | None = None
    notice: Notice | None = None


def joined(*notices: Notice | None) -> Notice | None:
    """Join notices into one, which is a warning if any of them is; None if all are empty."""
    there = [notice for notice in notices if notice is not None and notice.text]
    if len(there) < 2:
        return there[0] if there else None
    return Notice("; ".join(notice.text for notice in there), any(notice.warning for notice in there))


# ------------------------------------------------------------------------------
# The data that a state stores by branch name: the ticks at which runs have stopped, and the lines in the log.
#
# A new branch copies the data of the branch that it forked from, up to the fork. Renaming or deleting a branch renames or deletes
# its data.


MOST_HITS = 256

T = TypeVar("T")


def hits_here(state: State) -> tuple[int, ...]:
    """Return the ticks of the current branch at which runs have stopped."""
    return tuple(tick for tick in state.hits.get(state.branch, ()) if tick <= state.branches.newest)


def log_here(state: State) -> tuple[LogLine, ...]:
    """Return the log lines of the current branch."""
    return tuple(line for line in state.log.get(state.branch, ()) if line.tick <= state.branches.newest)


def with_hit(state: State, tick: int) -> dict[str, Any]:
    """Return the fields of a state that change when a run stops at `tick` of the current branch."""
    others = [each for each in state.hits.get(state.branch, ()) if each != tick]
    return {"hits": _with_branch(state.hits, state.branch, (*others, tick)[-MOST_HITS:])}


def with_log(state: State, lines: tuple[LogLine, ...]) -> dict[str, Any]:
    """Return the fields of a state that change when the log of the current branch is replaced by `lines`."""
    return {"log": _with_branch(state.log, state.branch, lines)}


def taken_over(state: State, source: str, target: str, upto: int) -> dict[str, Any]:
    """Return the fields of a state that change when the data of `target` is replaced by that of `source` up to a tick."""
    return {
        "hits": _with_branch(state.hits, target, tuple(tick for tick in state.hits.get(source, ()) if tick <= upto)),
        "log": _with_branch(state.log, target, tuple(line for line in state.log.get(source, ()) if line.tick <= upto)),
    }


def moved(state: State, old: str, new: str | None) -> dict[str, Any]:
    """Return the fields of a state that change when a branch is renamed, or deleted if `new` is None: hits, log, marks, last place,
    and, for a new name, the compared branches."""
    changes: dict[str, Any] = {}
    for name, by_branch in (("hits", state.hits), ("log", state.log)):
        without: Mapping[str, Any] = _with_branch(by_branch, old, ())
        changes[name] = without if new is None else _with_branch(without, new, by_branch.get(old, ()))
    if any(mark.branch == old for mark in state.marks.sorted):
        changes["marks"] = state.marks.with_branch(old, new)
    if state.left is not None and state.left[0] == old:
        changes["left"] = None if new is None else (new, state.left[1])
    if new is not None:
        changes["compared"] = tuple(new if name == old else name for name in state.compared)
    return changes


def _with_branch(by_branch: Mapping[str, tuple[T, ...]], branch: str, items: tuple[T, ...]) -> Mapping[str, tuple[T, ...]]:
    """Replace the items of a branch; a branch without items has no entry."""
    if items == by_branch.get(branch, ()):
        return by_branch
    return {name: each for name, each in {**by_branch, branch: items}.items() if each}
