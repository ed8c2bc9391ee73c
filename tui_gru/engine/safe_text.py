"""Escaping of unprintable characters in texts from users and files, to make them safe for a terminal."""

from __future__ import annotations

import re

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
