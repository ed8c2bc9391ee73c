"""The branches of a session, with undo and redo of changes; and the tree that they form."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import NamedTuple

from tui_gru import errors as arguments
from tui_gru.debugger.edits import JournalEntry
from tui_gru.debugger.timeline import HistorySegment, Timeline
from tui_gru.errors import TuiGruError

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
        if not arguments.text("the name of a branch", new).isprintable() or new.split() != [new] or len(new) > LONGEST_NAME:
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

        named = {name(each): branch for each, branch in self.named.items()}
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

        named = {each: branch for each, branch in self.named.items() if each != name}
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
        if arguments.text("a branch", name) not in self.named:
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
            known = dict(zip(self._branches, zip(self._origins, self._forks, strict=True), strict=True))
            if names != self._names:
                known = {}
            forks = []
            for i, branch in enumerate(present):
                origin, fork = known.get(branch, (None, None))
                forks.append(fork if fork is not None and origin == origins[i] else _fork(names, i, origins[i], branch))
            self._forks, self._names, self._branches, self._lasts, self._origins = tuple(forks), names, present, lasts, origins
        return self._forks


def _fork(names: Sequence[str], i: int, origin: BranchOrigin, branch: Branch) -> BranchInfo:
    source, tick = origin
    return BranchInfo(names[i], names[source] if source >= 0 else None, tick, branch.newest, _last_loss(branch))


def _origins(lasts: Sequence[HistorySegment]) -> list[BranchOrigin]:
    """Return, for the last segment of each branch, the earlier branch that it shares most with; (−1, 0) if there is none."""
    seen: dict[HistorySegment, list[BranchOrigin]] = {}  # by segment: (branch, last shared tick), ascending in both
    origins: list[BranchOrigin] = []
    for i, last in enumerate(lasts):
        segment: HistorySegment | None = last
        until = sys.maxsize  # the tick up to which this branch follows the segment
        while segment is not None and segment not in seen:
            seen[segment] = [(i, until)]
            until = segment.start
            segment = segment.base
        if segment is None:
            origins.append((0 if i else -1, 0))
            continue
        others = seen[segment]
        k, tick = others[min(bisect_left(others, until, key=_TICK), len(others) - 1)]
        origins.append((k, min(tick, until)))
        if until > others[-1][1]:
            others.append((i, until))
    return origins


def _last_loss(branch: Branch) -> float | None:
    batch = branch.timeline.program.last_loss(branch.newest)
    return None if batch < 0 else branch.timeline.loss(batch)
