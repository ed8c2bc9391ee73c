"""The errors of the project, each one line that says what was wrong and what to do; checks of arguments and of the names of files;
and text that is safe to print."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, TypeVar

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
    escaped = safe_text(str(text)[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


# ------------------------------------------------------------------------------
# Checks of arguments. Each function returns the value in its plain type, or raises a `TuiGruError` that names the argument.


LARGEST = 2**63 - 1  # the largest signed integer of 8 bytes
_SHOWN = 60  # characters of a value that a message quotes

FilePath = str | os.PathLike[str]
Wanted = TypeVar("Wanted")


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None, option: str | None = None) -> int:
    """Return the value as an int from `least` to `most`; None means no bound. True and False are refused."""
    try:
        found = None if isinstance(value, bool) else int(value.__index__())
    except Exception:  # the __index__ of another type may raise anything
        found = None
    if found is None:
        raise TuiGruError(f"{name} must be a whole number, not {shown(value)}", option=option)
    if (least is not None and found < least) or (most is not None and found > most):
        upto = "2^63-1" if most == LARGEST else str(most)
        bounds = f"from {least} to {upto}" if most is not None else "0 or more" if least == 0 else f"at least {least}"
        raise TuiGruError(f"{name} must be {bounds}, not {shown(found)}", option=option)
    return found


def number(name: str, value: Any, *, option: str | None = None) -> float:
    """Return the value as a float; a number too large for a float becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except Exception:  # the __float__ of another type may raise anything
        raise TuiGruError(f"{name} must be a number, not {shown(value)}", option=option) from None


def text(name: str, value: Any, *, option: str | None = None) -> str:
    """Return the value if it is a string."""
    if not isinstance(value, str):
        raise TuiGruError(f"{name} must be a text, not {shown(value)}", option=option)
    return value


def truth(name: str, value: Any, *, option: str | None = None) -> bool:
    """Return True, False, a NumPy boolean, 0 or 1 as a Python bool."""
    try:
        plain = value.item() if hasattr(value, "item") else value
    except ValueError:  # an array of several entries
        plain = None
    if not isinstance(plain, int) or plain not in (0, 1):
        raise TuiGruError(f"{name} must be True or False, not {shown(value)}", option=option)
    return bool(plain)


def several(name: str, values: Any) -> tuple[int, ...]:
    """Return whole numbers from a sequence or an array of them."""
    try:
        each = tuple(values)
    except TypeError:
        raise TuiGruError(f"{name} must be a list of whole numbers, not {shown(values)}") from None
    return tuple(whole(f"each of {name}", value) for value in each)


def expected(name: str, value: Any, kind: type[Wanted], what: str) -> Wanted:
    """Return the value if it is one of a class; `what` says in words where such a value comes from."""
    if not isinstance(value, kind):
        raise TuiGruError(f"{name} must be {what}, not {shown(value)}")
    return value


def callback(name: str, value: Any) -> None:
    """Raise `TuiGruError` unless the value is None or can be called."""
    if value is not None and not callable(value):
        raise TuiGruError(f"{name} must be a function that is called with what has been done, or None, not {shown(value)}")


def shown(value: Any) -> str:
    """Return the `repr` of a value for a message, shortened; if `repr` fails, the name of its type."""
    try:
        written = repr(value)
    except Exception:  # an int of over 4,300 digits raises; the __repr__ of another type may raise anything
        written = f"a {type(value).__name__}"
    written = " ".join(written.split())
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


# ------------------------------------------------------------------------------
# The only folder whose files a debugger in a browser reads, writes and lists, since a web page types their names.


SERVED_FOLDER = "TUI_GRU_SERVED_FOLDER"  # the environment variable by which `tui-gru serve` names the folder that a page may use
_folder: Path | None = None  # None in a terminal and in a library, which may use every file of the user


def confine(folder: str | os.PathLike[str] | None) -> None:
    """Confine this process to a folder; None ends that."""
    global _folder
    _folder = None if folder is None else Path(os.path.realpath(folder))


def own_folder() -> Path | None:
    """Return the folder that this process is confined to; None if it is not confined."""
    return _folder


def permitted(path: str | os.PathLike[str]) -> Path:
    """Return a path as it was typed, with `~` expanded; in a confined process the absolute path without links.

    There, a relative path is relative to the folder. Raises `TuiGruError` if the path, or the target of a link in it, is outside of
    the folder, or is hidden, as the settings of other programs are.
    """
    expanded = Path(os.path.expanduser(os.fsdecode(path)))
    if _folder is None:
        return expanded
    try:
        real = Path(os.path.realpath(_folder / expanded))
    except ValueError:  # a zero byte
        raise TuiGruError(f"{shown(str(path))} is not a valid file name; type, for example, here.txt") from None
    if not real.is_relative_to(_folder):
        raise TuiGruError(f"{shown(str(path))} is outside of {_folder}, the only folder that a page may use; name a file in it")
    if any(part.startswith(".") for part in real.relative_to(_folder).parts):
        raise TuiGruError(f"{shown(str(path))} is a hidden file, which a page may not use; choose a name without a leading dot")
    return real


def is_permitted(path: str | os.PathLike[str]) -> bool:
    """Return True if `permitted` allows a path."""
    try:
        permitted(path)
    except TuiGruError:
        return False
    return True
