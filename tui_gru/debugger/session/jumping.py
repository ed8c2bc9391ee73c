"""The part of a session that goes to places it has a name for: branches, marks, the last condition, and where one came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.surviving import LAST_CONDITION, LEFT, recorded
from tui_gru.debugger.session.travelling import Progress, Travelling
from tui_gru.debugger.state.marks import Mark, Marks
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.trouble import Trouble, joined
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

MARKS = "marked"  # the name under which they are kept with the session
BACK = "'"


class Jumping(Travelling):
    """Remembers marks, what was last searched for, and where one was before the last jump."""

    def _begin(self, state: State) -> None:
        super()._begin(state)
        self._marks: Marks = self._restored(MARKS, Marks.from_data, Marks())
        self._last_condition: str = self._restored(LAST_CONDITION, _text, "")
        self._left: tuple[str, int] | None = self._restored(LEFT, _place, None)

    def _restored(self, name: str, read: Any, default: Any) -> Any:
        """What was kept under a name, if it can be read; where it cannot, `notice` says so."""
        kept = self.kept(name)
        if kept is None:
            return default
        try:
            return read(kept)
        except (TypeError, ValueError, AttributeError, RecursionError):
            said = f"what was kept as {name} cannot be read and is left out"
            self.notice = joined(self.notice, Trouble(said))
            return default

    # Marks

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, a to z and then A to Z."""
        return self._marks.sorted

    def mark(self, letter: str) -> Mark:
        """Keep this place under a letter, a to z or A to Z."""
        mark = Mark(letter, self._branches.current, self.position.tick)
        self._keep_marks(self._marks.with_mark(mark))
        return mark

    def delete_mark(self, letter: str) -> None:
        """Forget a mark. Raises `TuiGruError` where there is none."""
        self._keep_marks(self._marks.without(letter))

    def jump(self, letter: str, *, progress: Progress | None = None) -> Position:
        """Go to a mark, on whatever branch it is; with `'`, to where one was before the last jump, seek, search or switch."""
        if arguments.text("a mark", letter) != BACK:
            mark = self._marks.get(letter)
            where, what = (mark.branch, mark.tick), f"mark {letter}"
        elif self._left is None:
            raise TuiGruError("there is no place to jump back to yet; a jump, a search or go leaves one")
        else:
            where, what = self._left, "the place before the last jump"
        if where[0] not in self._branches.named:
            raise TuiGruError(f"{what} is on the branch {where[0]}, which has been undone; redo may bring it back")
        return self._jump(*where, progress)

    @recorded
    def _jump(self, branch: str, tick: int, progress: Progress | None) -> Position:
        with self._leaving(), self._under_way():
            if branch != self._branches.current:
                self._switch(branch, tick)
            return self._go(tick, progress)

    def _keep_marks(self, marks: Marks) -> None:
        self._marks = marks
        self.keep(MARKS, marks.to_data())

    def _move_marks(self, old: str, new: str | None) -> None:
        """A branch has another name, or, where that is None, is gone."""
        if any(mark.branch == old for mark in self.marks):
            self._keep_marks(self._marks.with_branch(old, new))
        if self._left is not None and self._left[0] == old:
            self._leave(None if new is None else (new, self._left[1]))

    def _leave(self, place: tuple[str, int] | None) -> None:
        self._left = place
        self.keep(LEFT, place)

    # Where one came from

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """What may lead elsewhere: where one was before it, one can go back to."""
        here = self._branches.current, self.position.tick
        try:
            yield
        finally:
            if (self._branches.current, self.position.tick) != here:
                self._leave(here)

    @recorded
    def seek(self, place: str | Position | int, *, progress: Progress | None = None, along: bool = False) -> Position:
        """As `Travelling.seek`; `along` goes on with the jump before it, so that one jumps back to where that began."""
        with nullcontext() if along else self._leaving():
            return super().seek(place, progress=progress)

    @recorded
    def switch(self, name: str) -> Position:
        """Go to another branch, to the same place in time, or its newest if it has not come so far."""
        with self._leaving():
            self._switch(name, self.position.tick)
        return self.position

    def _switch(self, name: str, tick: int) -> None:
        branches = self._branches.switched(name)
        self._stand(branches, branches.timeline.place(min(tick, branches.newest)))

    # Searching again

    @property
    def last_condition(self) -> str:
        """What was last searched for, in either direction; empty if nothing was."""
        return self._last_condition

    @recorded
    def run_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        return self._ask(condition, True, progress)

    @recorded
    def run_back_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        return self._ask(condition, False, progress)

    @recorded
    def next_match(self, forwards: bool = True, progress: Progress | None = None) -> bool:
        """Search again for what was last searched for. True if it stopped there."""
        if not self._last_condition:
            raise TuiGruError("no condition has been asked for yet; t asks for one")
        return self._ask(self._last_condition, forwards, progress)

    def _ask(self, condition: str, forwards: bool, progress: Progress | None) -> bool:
        self._compiled(condition)  # one that is none is not remembered
        if condition != self._last_condition:
            self._last_condition = condition
            self.keep(LAST_CONDITION, condition)
        with self._leaving():
            search = super().run_until if forwards else super().run_back_until
            return search(condition, progress=progress)


def _place(data: Any) -> tuple[str, int]:
    if not isinstance(data, list) or [type(each) for each in data] != [str, int] or data[1] < 0:
        raise ValueError("this is no place")
    return data[0], data[1]


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError("this is no condition")
    return data
