"""Named lines of history, and the undoing of what made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.errors import TuiGruError

MAIN = "main"


@dataclass(frozen=True, eq=False)
class Branch:
    """A timeline and the newest tick that has been reached on it."""

    timeline: Timeline
    newest: int


@dataclass(frozen=True, eq=False)
class BranchChange:
    """One change: the branch it was made on and the branch it is seen on (another where it forked), each before and after it.

    `left` is where one was when it was taken back.
    """

    source: str
    target: str
    before: Branch
    after: Branch
    tick: int
    left: int


class Branches:
    """All branches of a session, the one that is current, and the changes that can be undone and redone."""

    def __init__(self, timeline: Timeline) -> None:
        self._branches = {MAIN: Branch(timeline, 0)}
        self.current = MAIN
        self._done: list[BranchChange] = []
        self._undone: list[BranchChange] = []

    @classmethod
    def restored(
        cls, named: Mapping[str, Branch], current: str, done: Sequence[BranchChange], undone: Sequence[BranchChange]
    ) -> Branches:
        """The branches whose `named`, `current`, `done` and `undone` were these."""
        branches = cls(named[current].timeline)
        branches._branches, branches.current = dict(named), current
        branches._done, branches._undone = list(done), list(undone)
        return branches

    @property
    def named(self) -> Mapping[str, Branch]:
        return self._branches

    @property
    def done(self) -> Sequence[BranchChange]:
        """What can be undone, the latest last."""
        return tuple(self._done)

    @property
    def undone(self) -> Sequence[BranchChange]:
        """What can be redone, the next last."""
        return tuple(self._undone)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._branches)

    @property
    def timeline(self) -> Timeline:
        return self._branches[self.current].timeline

    @property
    def newest(self) -> int:
        return self._branches[self.current].newest

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        return bool(self._undone)

    def reach(self, tick: int) -> None:
        """Note that the current branch has come as far as `tick`."""
        branch = self._branches[self.current]
        if tick > branch.newest:
            self._branches[self.current] = Branch(branch.timeline, tick)

    def change(self, timeline: Timeline, tick: int) -> None:
        """The future after `tick` has been changed: go on with it, on a new branch where the present is not the newest moment."""
        source, before = self.current, self._branches[self.current]
        target = source if tick >= before.newest else self._free_name(source)
        after = Branch(timeline, tick)
        self._branches[target] = after
        self.current = target
        self._done.append(BranchChange(source, target, before, after, tick, tick))
        self._undone.clear()

    def undo(self, tick: int) -> int | None:
        """Take back the last change; the tick to go to, or None if there is nothing to undo. `tick` is where one is now."""
        if not self._done:
            return None
        change = self._done.pop()
        after = self._branches.get(change.target, change.after)
        left = tick if self.current == change.target else change.tick
        self._undone.append(replace(change, after=after, left=left))
        if change.target == change.source:
            self._branches[change.source] = change.before
        else:
            self._branches.pop(change.target, None)
            self._branches.setdefault(change.source, change.before)
        self.current = change.source
        return change.tick

    def redo(self) -> int | None:
        """Make the last undone change again; the tick at which it was taken back, or None if there is nothing to redo."""
        if not self._undone:
            return None
        change = self._undone.pop()
        self._branches[change.target] = change.after
        self.current = change.target
        self._done.append(change)
        return change.left

    def switch(self, name: str) -> None:
        """Make another branch current."""
        if name not in self._branches:
            raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(self._branches)}")
        self.current = name

    def _free_name(self, source: str) -> str:
        root = source.split("~")[0]
        n = 1
        while f"{root}~{n}" in self._branches:
            n += 1
        return f"{root}~{n}"
