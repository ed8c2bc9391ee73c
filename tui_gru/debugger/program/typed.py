"""Parses the arguments of a typed command, from left to right: numbers, entries such as `Wz[0,1]`, timesteps, characters, words."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection

from tui_gru.engine.errors import TuiGruError

LARGEST = 10**15  # largest whole number; no run reaches this tick

_SPACE = re.compile(r"\s*")
_WHOLE = re.compile(r"[+\-−]?[0-9]+")
_NUMBER = re.compile(r"[+\-−]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+\-−]?[0-9]+)?|[+\-−]?(?:inf|nan)")
_NAME = re.compile(r"[^\s\[\]=,]+")
_WORD = re.compile(r"\S+")
_SHOWN = 20  # characters of the input shown in a message


class TypedError(TuiGruError):
    """Typed input that cannot be parsed: `reason` is one line, `column` (1-based) its place in the text."""

    def __init__(self, reason: str, column: int) -> None:
        super().__init__(f"column {column}: {reason}")
        self.reason = reason
        self.column = column

    def moved(self, columns: int) -> TypedError:
        """Return the same error in a longer text, with `columns` more characters in front."""
        return type(self)(self.reason, self.column + columns)


class Reader:
    """Parses a text piece by piece. `usage` is an example of the complete text, for messages.

    Every parsing method raises `TypedError` with the column if the next piece is something else.
    """

    def __init__(self, text: str, usage: str) -> None:
        self._text, self._usage, self._at = text, usage, 0
        self._skip_space()

    @property
    def left(self) -> str:
        """The rest of the text."""
        return self._text[self._at :]

    def take(self, sign: str) -> bool:
        """Read `sign`, in upper or lower case, if it comes next. Returns whether it did."""
        if self._text[self._at : self._at + len(sign)].lower() != sign:
            return False
        self._at += len(sign)
        self._skip_space()
        return True

    @property
    def next_word(self) -> str:
        """The text up to the next space; empty at the end."""
        match = _WORD.match(self._text, self._at)
        return match[0] if match else ""

    def word(self) -> str:
        """Read the text up to the next space."""
        return self._read(_WORD) or ""

    def next_whole(self) -> bool:
        """Return True if a whole number comes next."""
        return _WHOLE.match(self._text, self._at) is not None

    def whole(self, what: str, *, least: int = -LARGEST, most: int = LARGEST) -> int:
        """Read a whole number from `least` to `most`; `what` names it in messages."""
        start = self._at
        digits = self._read(_WHOLE)
        if digits is None:
            raise self.error(f"{what} is a whole number, not {self._shown}")
        if (fraction := _NUMBER.match(self._text, start)) is not None and len(fraction[0]) > len(digits):  # such as 1e9
            self._at = start
            raise self.error(f"{what} is a whole number, not {shortened(fraction[0])}")
        number = whole_number(digits)
        if number is None or not least <= number <= most:
            bounds = f"at least {least}" if number is not None and number < least else f"at most {most:,}"
            raise TypedError(f"{what} is {bounds}, not {digits[:_SHOWN]}", start + 1)
        return number

    def number(self, what: str, *, before: str = "") -> float:
        """Read a number that is followed by the sign `before`; `what` names it in messages."""
        start, number = self._at, self._read(_NUMBER)
        if number is None or not self.take(before) or not (self._at == len(self._text) or self._text[self._at - 1].isspace()):
            self._at = start
            raise self.error(f"{what} takes a number, not {self._shown}")
        return float(number.replace("−", "-"))

    def entry(self) -> tuple[str, tuple[int, ...]]:
        """Read a name and the index in brackets after it; the index is empty if there is none."""
        name = self._read(_NAME)
        if name is None:
            raise self.error("the name of a value comes first")
        if not self.take("["):
            return name, ()
        index = [self._index()]
        while self.take(","):
            index.append(self._index())
        if not self.take("]"):
            raise self.error(f"an index is whole numbers separated by commas and ends with ], not {self._shown}")
        return name, tuple(index)

    def timestep(self, seq_length: int) -> int | None:
        """Read `t 2`, counted from 1, as a 0-based timestep; None at the end of the text."""
        if not self.left:
            return None
        if not self.take("t"):
            raise self.error(f"{self._shown} is not understood here")
        return self.whole("a timestep", least=1, most=seq_length) - 1

    def character(self, tokens: Collection[str] = ()) -> str:
        """Read a character or one of `tokens`, plain or in quotes; a space needs quotes: `' '`, `'\\n'`."""
        text, self._at = self.left, len(self._text)
        if len(text) == 1 or text in tokens:
            return text
        if len(text) > 2 and text[0] in "'\"" and text[-1] == text[0]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns about escapes such as `\q`
                try:
                    value = ast.literal_eval(text)
                except (ValueError, SyntaxError, RecursionError, MemoryError):  # an invalid escape, or no string
                    value = ""
            if isinstance(value, str) and (len(value) == 1 or value in tokens):
                return value
        self._at -= len(text)
        if tokens:
            raise self.error(f"a token is typed as it is, or in quotes, and {self._shown} is not in the vocabulary")
        raise self.error(f"a character is typed as a, or as ' ' in quotes, not {self._shown}")

    def end(self) -> None:
        """Raise `TypedError` unless the text has been read to its end."""
        if self.left:
            raise self.error(f"{self._shown} is not understood here")

    def error(self, reason: str) -> TypedError:
        """Return an error at the current place."""
        return TypedError(f"{reason}; write it as {self._usage}", self._at + 1)

    def _index(self) -> int:
        return self.whole("an index")

    def _read(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        self._skip_space()
        return match[0]

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    @property
    def _shown(self) -> str:
        return shortened(self.left) if self.left else "nothing"


def whole_number(text: str) -> int | None:
    """Return the whole number that a text represents, from −`LARGEST` to `LARGEST`; None for any other text."""
    if not _WHOLE.fullmatch(text):
        return None
    digits = text.lstrip("+-−").lstrip("0")
    if len(digits) > len(str(LARGEST)) or int(digits or 0) > LARGEST:
        return None
    return int(digits or 0) * (-1 if text[0] in "-−" else 1)


def is_number(text: str) -> bool:
    """Return True if a text is a number that `Reader.number` reads."""
    return _NUMBER.fullmatch(text) is not None


def quoted(char: str) -> str:
    """Return a character in the form that `Reader.character` reads."""
    return char if char.isprintable() and not char.isspace() else repr(char)


def shortened(text: str) -> str:
    """Return the input in a message, shortened."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
