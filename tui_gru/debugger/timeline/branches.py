"""Named lines of history, and the undoing of what made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tui_gru.debugger.timeline.journal import JournalEntry
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

MAIN = "main"
LONGEST_NAME = 40


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    """A timeline and the newest tick that has been reached on it."""

    timeline: Timeline
    newest: int


@dataclass(frozen=True, eq=False, slots=True)
class Change:
    """A change made at `tick` of the branch `source` and seen on `target`, which is another where it forked.

    `other` is what `target` was before it, None where it forked; once taken back, it is what `target` was after it, and `left` is
    where one was then.
    """

    source: str
    target: str
    tick: int
    other: Branch | None
    left: int


@dataclass(frozen=True, eq=False)
class Branches:
    """All branches of a session, the one that is current, and the changes that can be undone and redone. Immutable."""

    named: Mapping[str, Branch]
    current: str = MAIN
    done: tuple[Change, ...] = ()
    undone: tuple[Change, ...] = ()

    @classmethod
    def begin(cls, timeline: Timeline) -> Branches:
        """One branch, `main`, at its beginning."""
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
        """What undo would take back."""
        return self.named[self.done[-1].target].timeline.last.action if self.done else None

    @property
    def next_change(self) -> JournalEntry | None:
        """What redo would do again."""
        target = self.undone[-1].other if self.undone else None
        return None if target is None else target.timeline.last.action

    def reached(self, tick: int) -> Branches:
        """The current branch has come as far as `tick`."""
        if tick <= self.newest:
            return self
        return replace(self, named={**self.named, self.current: Branch(self.timeline, tick)})

    def changed(self, timeline: Timeline, tick: int) -> Branches:
        """The future after `tick` is another: on the same branch where that is its newest moment, else on a new one."""
        forks = tick < self.newest
        target = self._free_name() if forks else self.current
        change = Change(self.current, target, tick, None if forks else self.named[target], tick)
        return Branches({**self.named, target: Branch(timeline, tick)}, target, (*self.done, change))

    def undo(self, tick: int) -> tuple[Branches, int] | None:
        """Without the last change, and the tick at which it was made; `tick` is where one is now. None if there is none."""
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
        """With the change that was undone last, and the tick at which one was then. None if there is none."""
        if not self.undone:
            return None
        *undone, change = self.undone
        assert change.other is not None
        named = {**self.named, change.target: change.other}
        done = replace(change, other=self.named.get(change.target))
        return Branches(named, change.target, (*self.done, done), tuple(undone)), change.left

    def switched(self, name: str) -> Branches:
        """Another branch is current."""
        self._check(name)
        return replace(self, current=name)

    def renamed(self, old: str, new: str) -> Branches:
        """A branch has another name, in the changes that can be undone and redone as well."""
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

        def changes(were: tuple[Change, ...]) -> tuple[Change, ...]:
            return tuple(replace(change, source=name(change.source), target=name(change.target)) for change in were)

        named = {name(each): branch for each, branch in self.named.items()}
        return Branches(named, name(self.current), changes(self.done), changes(self.undone))

    def without(self, name: str) -> Branches:
        """A branch is gone, and with it the undoing and redoing of the changes that were made on it or led to it.

        What others share with it stays. The current branch cannot go.
        """
        self._check(name)
        if name == self.current:
            raise TuiGruError(f"you are on {name}, so it cannot be deleted; switch to another branch first")

        def others(changes: tuple[Change, ...]) -> tuple[Change, ...]:
            return tuple(change for change in changes if name not in (change.source, change.target))

        named = {each: branch for each, branch in self.named.items() if each != name}
        left = Branches(named, self.current, others(self.done), others(self.undone))
        return replace(left, done=left.undoable, undone=left.redoable)

    @property
    def undoable(self) -> tuple[Change, ...]:
        """Those of the changes done that can be undone one after the other, the last first: their branches are there then."""
        named: dict[str, Branch] = dict(self.named)
        kept: list[Change] = []
        for change in reversed(self.done):
            back = change.other if change.source == change.target else named.get(change.source)
            if change.target not in named or back is None or change.tick > back.newest:
                continue
            if change.other is None:
                del named[change.target]
            else:
                named[change.target] = change.other
            kept.append(change)
        return tuple(reversed(kept))

    @property
    def redoable(self) -> tuple[Change, ...]:
        """Those of the changes undone that can be redone one after the other, the last first."""
        named: dict[str, Branch] = dict(self.named)
        kept: list[Change] = []
        for change in reversed(self.undone):
            if change.source in named and change.other is not None and change.left <= change.other.newest:
                named[change.target] = change.other
                kept.append(change)
        return tuple(reversed(kept))

    def _check(self, name: str) -> None:
        if arguments.text("a branch", name) not in self.named:
            raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(self.named)}")

    def _free_name(self) -> str:
        root = self.current.split("~")[0]
        n = 1
        while f"{root}~{n}" in self.named:
            n += 1
        return f"{root}~{n}"
