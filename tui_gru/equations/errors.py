"""A mistake in an equation file: where it is, what it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Span:
    """A place in a file: its line (1-based), and the columns from `start` up to `stop` (0-based)."""

    line: int
    start: int
    stop: int

    def to(self, other: Span | None) -> Span:
        """From the beginning of this place to the end of another on the same line."""
        return self if other is None or other.line != self.line else Span(self.line, self.start, max(self.stop, other.stop))


class EquationError(ValueError):
    """A mistake in an equation file. `str()` is one line, `mine.cell:7:15: what is wrong`; `shown` adds the line and marks the
    place."""

    def __init__(self, message: str, *, source: str = "", span: Span | None = None, text: str = "") -> None:
        self.message, self.source, self.span, self.text = message, source, span, text
        place = f"{source}:{span.line}:{span.start + 1}: " if span is not None else f"{source}: " if source else ""
        super().__init__(place + message)

    def within(self, source: str, lines: list[str]) -> EquationError:
        """The same mistake, with the name of its file and the text of its line."""
        text = lines[self.span.line - 1] if self.span is not None and self.span.line <= len(lines) else ""
        return EquationError(self.message, source=source, span=self.span, text=text)

    @property
    def shown(self) -> str:
        """The message, the line of the file, and tildes under the place, on three lines."""
        if self.span is None or not self.text:
            return str(self)
        marks = " " * self.span.start + "~" * max(self.span.stop - self.span.start, 1)
        return f"{self}\n   {self.text}\n   {marks}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean h_prev?`, or the names there are."""
    names = list(dict.fromkeys(known))
    close = get_close_matches(name, names, n=2)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {' '.join(names) or 'none'}"
