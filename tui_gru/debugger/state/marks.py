"""Marks: places on branches, each stored under a letter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

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
