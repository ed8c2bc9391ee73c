"""Writes one entry of a value, in words and as it is typed, and shows characters of a text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui_gru.engine.data.tokens import Text
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import counted

_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\x7f": "␡", "\xa0": "⍽"}
_CONTROLS = "".join(chr(0x2400 + code) for code in range(0x20))
_MERGING = range(0x1160, 0x1200), range(0xD7B0, 0xD800)  # vowels and finals of Hangul, which combine with the consonant before them
#: Variation selectors and modifiers, which only change the character before them, and fillers.
_HIDDEN = frozenset((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400), 0x3164, 0xFFA0))


def typed_entry(name: str, index: Sequence[int]) -> str:
    """Return one entry as `typed.Reader.entry` reads it, counted from 0: `Wz[2, 1]`; the name alone where the index is empty."""
    return f"{name}{brackets(index)}" if index else name


def brackets(index: Sequence[int]) -> str:
    """Return an index as it is typed: `[2, 1]`."""
    return f"[{', '.join(map(str, index))}]"


def no_entry(name: str, shape: Sequence[int], index: Sequence[int]) -> str:
    """Return the message for an index that an array of this shape does not have."""
    size = " x ".join(map(str, shape))
    if not shape:
        return f"{name} is one number and has no entry {brackets(index)}"
    if not index:
        return f"{name} has the shape {size}; name an entry of it, such as {typed_entry(name, [0] * len(shape))}"
    return f"{name} has the shape {size} and no entry {brackets(index)}; indices are counted from 0"


def spoken_index(program: Program, name: str, index: Sequence[int]) -> str:
    """Return an index in words, counted from 1: `row 2, unit 1`; `“M”, unit 1` with a character. Empty for a scalar."""
    return ", ".join(axis_index_in_words(program, axis, i) for axis, i in zip(program.names[name].axes, index, strict=True))


def spoken(program: Program, name: str, index: Sequence[int]) -> str:
    """Return one entry in words, counted from 1: `h[row 2, unit 1]`."""
    where = spoken_index(program, name, index)
    return f"{program.writer.name(name)}[{where}]" if where else program.writer.name(name)


def along(program: Program, axis: str, i: int) -> tuple[str, int]:
    """Return what an index along an axis counts, and its number among those, 0-based: V+H counts characters, then units."""
    parts = axis.split("+")
    if len(parts) == 1 or i < 0:
        return (counted(axis) if len(parts) == 1 else "column"), i
    before: Counter[str] = Counter()
    for part in parts:
        word, size = counted(part), program.config.compiled.sizes[part]
        if i < size:
            return word, i if word == "character" else before[word] + i
        before[word] += size
        i -= size
    raise IndexError(axis)


def axis_index_in_words(program: Program, axis: str, i: int) -> str:
    """Return one index (0-based) along an axis in words: `row 2`, `“M”`; a negative index as typed."""
    return index_in_words(*along(program, axis, i), program.config.vocabulary)


def index_in_words(axis: str, i: int, vocabulary: Text) -> str:
    """Return one index (0-based) along the axis `row`, `unit` or `character`, in words; a negative index as typed."""
    return character(i, vocabulary) if axis == "character" else f"{axis} {i + 1 if i >= 0 else i}"


def character(i: int, vocabulary: Text) -> str:
    """Return a character by its index (0-based): `“M”`; without a vocabulary `token 12`."""
    return f"“{shown_char(vocabulary[i])}”" if vocabulary else f"token {i}"


@lru_cache(maxsize=8192)
def shown_char(char: str) -> str:
    """Return a visible form of a character, one or two cells wide, independent of its neighbours.

    Spaces, newlines, tabs and other control characters have their own signs; a mark that would combine with the character before
    it is shown on a dotted circle; any other invisible character is `�`. For a longer token, each of its characters.
    """
    if len(char) > 1:
        return "".join(map(shown_char, char))
    code = ord(char)
    if char in _SIGNS:
        return _SIGNS[char]
    if code < len(_CONTROLS):
        return _CONTROLS[code]
    if code in _HIDDEN or not char.isprintable():
        return "\ufffd"
    merges = unicodedata.category(char)[0] == "M" or any(code in merging for merging in _MERGING)
    return f"◌{char}" if merges else char


def printable(char: str) -> str:
    """Return a character or longer token for a line of text: a space unchanged, others as in `shown_char`."""
    return char if char == " " else shown_char(char)


def joined(terms: Sequence[str]) -> list[str]:
    """Return summands with their signs: `a`, `+ b`, `− c`."""
    rest = [f"− {term[1:]}" if term.startswith("−") else f"+ {term}" for term in terms[1:]]
    return [*terms[:1], *rest]
