"""The errors of the project, each one line that says what was wrong and what to do; and text that is safe to print."""

from __future__ import annotations

import re
from typing import Any

# ------------------------------------------------------------------------------
# Escaping of unprintable characters in texts from users and files, to make them safe for a terminal.


_LONG_WORD = re.compile(r"\S{301,}")


def safe_text(text: str) -> str:
    """Return the text with an escape for every character that is not printable: `\\x1b`, `\\n`, `\\u202e`. Spaces are not
    escaped."""
    return text if text.isprintable() else "".join(char if char.isprintable() else escaped(char) for char in text)


def cut_long_words(text: str) -> str:
    """Return the text with the middle of every word of more than 300 characters replaced by `…`: a message that quotes what was
    given, a path for example, stays one line that can be read."""
    return _LONG_WORD.sub(lambda word: f"{word[0][:150]}…{word[0][-50:]}", text)


def escaped(char: str) -> str:
    """Return the ASCII escape of a character as Python writes it: `\\r`, `\\u0303`."""
    return char.encode("unicode_escape").decode("ascii")


# ------------------------------------------------------------------------------
# The error class for invalid input.


class TuiGruError(ValueError):
    """Invalid input. The message is one line that says what was wrong, where, and what to do, without characters that cannot be
    shown; very long words in it are cut.

    `option` is the config field that the message is about (`"learning_rate"`), so that a user interface can name its own option.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(cut_long_words(safe_text(message)))
        self.option = option


# ------------------------------------------------------------------------------
# Errors for models, modules and recordings that cannot be read. Each message is one line that says what is wrong, where, and what
# to do.


class ModelFileError(TuiGruError):
    """A model file, or a GRU in it, cannot be read."""


class CaptureError(TuiGruError):
    """A module of a script cannot be captured, or its recording cannot be written."""


class RecordingError(TuiGruError):
    """A recording, or a part of one, cannot be read."""


def printable(text: object, limit: int = 120) -> str:
    """Return a text from a file for a message or a name, with escapes such as `\\x1b` for characters that move the cursor or hide
    text."""
    safe = safe_text(str(text)[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


_SHOWN = 60  # characters of a value that a message quotes


def shown(value: Any) -> str:
    """Return the `repr` of a value for a message, shortened; if `repr` fails, the name of its type."""
    try:
        written = repr(value)
    except Exception:  # an int of over 4,300 digits raises; the __repr__ of another type may raise anything
        written = f"a {type(value).__name__}"
    written = " ".join(written.split())
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"
