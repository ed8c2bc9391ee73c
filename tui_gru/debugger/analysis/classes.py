"""Classes of characters: named ones, such as digits, and any set that a user types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.program.naming import shown_char
from tui_gru.engine.data.tokens import Text
from tui_gru.engine.errors import TuiGruError

Mask = NDArray[np.bool_]

_QUOTES = "\"'`“”‘’«»„‚"
_OPENING, _CLOSING = "([{", ")]}"
_LEAST = 4  # letters from which on the input can be a mistyped name instead of a set
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class CharacterClass:
    """A class with its name and description; `mask(text)` is True for each of n characters that is in it, (n)."""

    name: str
    words: str
    mask: Callable[[Text], Mask]


def _each(belongs: Callable[[str], bool]) -> Callable[[Text], Mask]:
    """Return the mask of a class that depends only on the character itself; a longer token is in it if all its characters are."""

    def mask(text: Text) -> Mask:
        if not isinstance(text, str):
            known = {token: all(map(belongs, token)) for token in frozenset(text)}
            return np.array([known[token] for token in text], bool)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        every, where = np.unique(codes, return_inverse=True)
        found: Mask = np.array([belongs(chr(code)) for code in every.tolist()], bool)[where]
        return found

    return mask


def _within(before: Callable[[Text], Mask], own: Callable[[Text], Mask]) -> Callable[[Text], Mask]:
    """Return the mask of characters of one class whose predecessor is in another."""

    def mask(text: Text) -> Mask:
        found: Mask = own(text) & np.concatenate([[False], before(text)])[: len(text)]
        return found

    return mask


_is_letter = _each(str.isalpha)
_is_blank = _each(str.isspace)


def _starting(text: Text) -> Mask:
    """Return the mask of the first characters of words: not blank, and after a blank or at the start of the text."""
    found: Mask = ~_is_blank(text) & np.concatenate([[True], _is_blank(text)])[: len(text)]
    return found


def _indenting(text: Text) -> Mask:
    """Return the mask of spaces and tabs with nothing before them on their line."""
    found = np.zeros(len(text), bool)
    at = 0
    for line in text.split("\n") if isinstance(text, str) else ():
        found[at : at + len(line) - len(line.lstrip(" \t"))] = True
        at += len(line) + 1
    return found


def _quoted(text: Text) -> Mask:
    """Return the mask of characters between double quotes. An empty line closes them, so a missing quote affects one paragraph."""
    found = np.zeros(len(text), bool)
    inside = False
    for i, char in enumerate(text):
        if char in '"“”':
            inside = char == "“" or (char == '"' and not inside)
        elif char == "\n" and text[i + 1 : i + 2] == "\n":
            inside = False
        else:
            found[i] = inside
    return found


def _bracketed(text: Text) -> Mask:
    """Return the mask of characters between brackets of any kind, which end at an empty line."""
    found = np.zeros(len(text), bool)
    depth = 0
    for i, char in enumerate(text):
        if char in _OPENING:
            found[i], depth = depth > 0, depth + 1
            continue
        if char in _CLOSING:
            depth = max(depth - 1, 0)
        elif char == "\n" and text[i + 1 : i + 2] == "\n":
            depth = 0
        found[i] = depth > 0
    return found


#: In the order in which they are listed.
CLASSES = {
    each.name: each
    for each in (
        CharacterClass("spaces", "spaces", _each(" ".__eq__)),
        CharacterClass("newlines", "ends of lines", _each("\n".__eq__)),
        CharacterClass("letters", "letters", _is_letter),
        CharacterClass("capitals", "capital letters", _each(str.isupper)),
        CharacterClass("vowels", "vowels", _each(lambda char: char.lower() in "aeiou")),
        CharacterClass("digits", "digits", _each(str.isdigit)),
        CharacterClass("quotes", "quotation marks", _each(lambda char: char in _QUOTES)),
        CharacterClass("brackets", "brackets", _each(lambda char: char in _OPENING + _CLOSING)),
        CharacterClass("punctuation", "punctuation marks", _each(lambda char: category(char)[0] == "P")),
        CharacterClass("first-letters", "characters that begin a word", _starting),
        CharacterClass("in-words", "letters after a letter", _within(_is_letter, _is_letter)),
        CharacterClass("indentation", "blanks that begin a line", _indenting),
        CharacterClass("in-quotes", "characters between double quotes", _quoted),
        CharacterClass("in-brackets", "characters between brackets", _bracketed),
    )
}


def class_of(typed: str) -> CharacterClass:
    r"""Return a class as a user types it: a name, or the characters themselves; `[digits]` is a set of six letters.

    In a set, `\n` and `\t` are a newline and a tab, and a backslash before any other character is that character. Raises
    `TuiGruError` for an empty text, and for text that looks like a mistyped name.
    """
    name = typed.strip().lower().replace("_", "-").replace(" ", "-")
    if (known := CLASSES.get(name) or CLASSES.get(f"{name}s")) is not None:
        return known
    bracketed = len(typed) > 2 and typed[0] == "[" and typed[-1] == "]"
    if not bracketed and len(name) >= _LEAST and name.replace("-", "").isalpha():
        close = get_close_matches(name, CLASSES, n=2, cutoff=0.7)
        if close:
            raise TuiGruError(
                f"there is no class {name!r}; did you mean {' or '.join(close)}? write [{typed}] for the set of these characters"
            )
    chars = _unescaped(typed[1:-1] if bracketed else typed)
    if not chars:
        raise TuiGruError(f"type the name of a class, or characters; the classes are {', '.join(CLASSES)}")
    chosen = frozenset(chars)
    return CharacterClass(f"[{''.join(map(shown_char, dict.fromkeys(chars)))}]", "these characters", _each(chosen.__contains__))


def _unescaped(typed: str) -> str:
    found, signs = "", iter(typed)
    for sign in signs:
        following = next(signs, "\\") if sign == "\\" else ""
        found += _ESCAPES.get(following, following) if following else sign
    return found
