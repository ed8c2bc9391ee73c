"""Escaping of unprintable characters in texts from users and files, to make them safe for a terminal."""

from __future__ import annotations


def safe_text(text: str) -> str:
    """Return the text with an escape for every character that is not printable: `\\x1b`, `\\n`, `\\u202e`. Spaces are not
    escaped."""
    return text if text.isprintable() else "".join(char if char.isprintable() else escaped(char) for char in text)


def escaped(char: str) -> str:
    """Return the ASCII escape of a character as Python writes it: `\\r`, `\\u0303`."""
    return char.encode("unicode_escape").decode("ascii")
