"""Errors in equation files, with the place in the file, what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from unicodedata import combining, east_asian_width

from tui_gru.equations.names import split


@dataclass(frozen=True)
class File:
    """An equation file: its name as messages write it, and its lines."""

    name: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceSpan:
    """A place in a file: a line (1-based), and the columns `start` to `stop` − 1 (0-based)."""

    file: File
    line: int
    start: int
    stop: int

    def to(self, other: SourceSpan | None) -> SourceSpan:
        """Return the place from the start of this one to the end of another on the same line; this place if the other is on another
        line."""
        return self if other is None or other.line != self.line else replace(self, stop=max(self.stop, other.stop))


class EquationError(ValueError):
    """An error in an equation file, at a place in it if one is known.

    `str()` is one line, `mine.cell:7:15: message`; `shown` adds the line of the file and marks the place.
    """

    def __init__(self, message: str, span: SourceSpan | None = None, *, source: str = "") -> None:
        self.message, self.span = message, span
        place = f"{span.file.name}:{span.line}:{span.start + 1}" if span is not None else source
        super().__init__(f"{place}: {message}" if place else message)

    @property
    def shown(self) -> str:
        """Three lines: the message, the line of the file, and tildes under the place."""
        if self.span is None:
            return str(self)
        text = "".join(sign if sign.isprintable() else " " for sign in self.span.file.lines[self.span.line - 1])
        before, within = text[: self.span.start], text[self.span.start : self.span.stop]
        return f"{self}\n   {text}\n   {' ' * _columns(before)}{'~' * max(_columns(within), 1)}"


def _columns(text: str) -> int:
    """Return the width of a text in terminal columns: 0 for a combining accent, 2 for a wide character."""
    return sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)


MOST_NAMES = 20  # that a hint lists


def did_you_mean(name: str, known: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return a hint such as `did you mean h_prev?`; if no name is close, the known names, at most `MOST_NAMES` of them.

    A name without the suffix of a layer is close to the same one with it: h to h_l0. `others` are names that are suggested if they
    are close and none of `known` is.
    """
    names = list(dict.fromkeys(known))
    layered = [known for known in names if split(known)[0] == name][:3]
    close = layered or get_close_matches(name, names, n=3, cutoff=0.5)  # low enough that Wx matches Wz
    if close := close or get_close_matches(name, list(others), n=3, cutoff=0.5):
        return f"did you mean {' or '.join(close)}?"
    more = f" … and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"there are: {' '.join(names[:MOST_NAMES]) or 'none'}{more}"
