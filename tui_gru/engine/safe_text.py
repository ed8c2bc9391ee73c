"""Makes text from users and files safe for a terminal."""

from __future__ import annotations


def safe_text(text: str) -> str:
    """The text with an escape for every character that is not printable: `\\x1b`, `\\n`, `\\u202e`. Spaces stay."""
    return text if text.isprintable() else "".join(char if char.isprintable() else escaped(char) for char in text)


def escaped(char: str) -> str:
    """The character as Python writes it in ASCII: `\\r`, `\\u0303`."""
    return char.encode("unicode_escape").decode("ascii")
