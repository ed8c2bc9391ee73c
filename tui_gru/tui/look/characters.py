"""Texts on the screen by the cells that they take: a user's characters, what is cut, what is folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len

from tui_gru.debugger.program.naming import shown_char
from tui_gru.engine.data.tokens import Text
from tui_gru.tui.look.glyphs import ASCII, Glyphs, flattened, transliterate

TOKEN_CELLS = 8  # of a token that is longer than a character, where it is one of many


def written_char(char: str, glyphs: Glyphs) -> str:
    """A user's character in these glyphs, as wide in ASCII as in Unicode: it is no name, even if it looks like one.

    A token that is longer than a character is cut to `TOKEN_CELLS` cells.
    """
    written = flattened(shown_char(char)) if glyphs is ASCII else shown_char(char)
    return written if len(char) == 1 else cut(written, TOKEN_CELLS, glyphs)


def one_cell(char: str, glyphs: Glyphs) -> str:
    """A user's character in one cell; the first one of a longer token; `?` for what is wider."""
    written = written_char(char[:1], glyphs)
    return written if cell_len(written) == 1 else "?"


def visible_text(chars: Iterable[str], glyphs: Glyphs) -> str:
    """All of them in a row, tokens that are longer than a character with a blank between them."""
    tokens = list(chars)
    return (" " if any(len(token) > 1 for token in tokens) else "").join(written_char(token, glyphs) for token in tokens)


def in_context(text: Text, at: int, before: int, after: int, glyphs: Glyphs) -> tuple[str, str, str]:
    """A character with so many before it and after it; of longer tokens a third as many, with blanks between them."""
    if not isinstance(text, str):
        before, after = before // 3, after // 3
    blank = "" if isinstance(text, str) else " "
    around = text[max(at - before, 0) : at], text[at + 1 : at + 1 + after]
    left, right = (blank.join(written_char(char, glyphs) for char in part) for part in around)
    return left + blank, written_char(text[at], glyphs), blank + right


@lru_cache(maxsize=32)
def widest(chars: Text) -> int:
    """The cells that the widest of these characters takes as a sign, or of these tokens, cut to `TOKEN_CELLS`."""
    cells = max((cell_len(shown_char(char)) for char in chars), default=1)
    return cells if isinstance(chars, str) else min(cells, TOKEN_CELLS)


def cut(text: str, width: int, glyphs: Glyphs) -> str:
    """The text in at most `width` cells; what is cut ends in an ellipsis."""
    if cell_len(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += cell_len(char)
        if used > width - 1:
            break
        kept += char
    return kept + transliterate("…", glyphs) if width > 0 else ""


def folded(content: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, broken between words; a word that is longer, where the line ends."""
    lines: list[str] = []
    for word in content.split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
            continue
        while cell_len(word) > width > 1:
            part, word = split(word, width)
            lines.append(part)
        lines.append(word)
    return lines


def split(text: str, width: int) -> tuple[str, str]:
    """What fits into `width` cells, and the rest."""
    used = 0
    for i, char in enumerate(text):
        used += cell_len(char)
        if used > width:
            return text[: max(i, 1)], text[max(i, 1) :]
    return text, ""


def fitting(hints: Sequence[str], width: int) -> str:
    """As many hints as fit into a border, the first in any case."""
    shown = list(hints)
    while len(shown) > 1 and cell_len(" · ".join(shown)) > width:
        shown.pop()
    return " · ".join(shown)
