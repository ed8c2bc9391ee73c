"""Characters that a terminal can show: of the user, measured in cells, cut and folded, and of all drawn lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui_gru.debugger.program.naming import shown_char
from tui_gru.engine.data.tokens import Text
from tui_gru.tui.look.glyphs import ASCII, Glyphs, flattened, transliterate

TOKEN_CELLS = 8  # the most cells of a token that is longer than a character
# Control characters, surrogates, and characters that change the direction of writing.
_UNSAFE = "[\0-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]"


def written_char(char: str, glyphs: Glyphs) -> str:
    """Return a character of the text in these glyphs, as wide in ASCII as in Unicode. It is never translated as a name.

    A token that is longer than a character is cut to `TOKEN_CELLS` cells.
    """
    written = flattened(shown_char(char)) if glyphs is ASCII else shown_char(char)
    return written if len(char) == 1 else cut(written, TOKEN_CELLS, glyphs)


def one_cell(char: str, glyphs: Glyphs) -> str:
    """Return a character, or the first one of a longer token, in one cell; `?` if it is wider."""
    written = written_char(char[:1], glyphs)
    return written if cell_len(written) == 1 else "?"


def visible_text(chars: Iterable[str], glyphs: Glyphs) -> str:
    """Join characters, or tokens with blanks between them if any is longer than a character."""
    tokens = list(chars)
    return (" " if any(len(token) > 1 for token in tokens) else "").join(written_char(token, glyphs) for token in tokens)


def in_context(text: Text, at: int, before: int, after: int, glyphs: Glyphs) -> tuple[str, str, str]:
    """Return a character with `before` characters before and `after` after it; of tokens a third as many, joined by blanks."""
    if not isinstance(text, str):
        before, after = before // 3, after // 3
    blank = "" if isinstance(text, str) else " "
    around = text[max(at - before, 0) : at], text[at + 1 : at + 1 + after]
    left, right = (blank.join(written_char(char, glyphs) for char in part) for part in around)
    return left + blank, written_char(text[at], glyphs), blank + right


@lru_cache(maxsize=32)
def widest(chars: Text) -> int:
    """Return the width of the widest of these characters, or of these tokens cut to `TOKEN_CELLS`, in cells."""
    cells = max((cell_len(shown_char(char)) for char in chars), default=1)
    return cells if isinstance(chars, str) else min(cells, TOKEN_CELLS)


def cut(text: str, width: int, glyphs: Glyphs) -> str:
    """Cut a text to at most `width` cells, with an ellipsis at its end if it is longer."""
    if cell_len(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += cell_len(char)
        if used > width - 1:
            break
        kept += char
    return kept + transliterate("…", glyphs) if width > 0 else ""


def folded(content: str, width: int, most: int | None = None) -> list[str]:
    """Break a text into lines of at most `width` cells between words; longer words are broken at the end of the line.

    No more than `most` lines are returned. The time grows with the length of the text, not with its square.
    """
    lines: list[str] = []
    used = 0  # cells of the last line
    for word in content.split():
        cells = cell_len(word)
        if lines and used + 1 + cells <= width:
            lines[-1] += f" {word}"
            used += 1 + cells
            continue
        for part in _broken(word, width) if cells > width > 1 else [word]:
            if len(lines) == most:
                return lines
            lines.append(part)
        used = cell_len(lines[-1])
    return lines


def _broken(word: str, width: int) -> Iterator[str]:
    """Yield the parts of a word that are at most `width` cells wide, or a single character."""
    begins = used = 0
    for i, char in enumerate(word):
        cells = cell_len(char)
        if used + cells > width and i > begins:
            yield word[begins:i]
            begins, used = i, 0
        used += cells
    yield word[begins:]


def fitting(hints: Sequence[str], width: int) -> str:
    """Join as many hints as fit into a border, at least the first."""
    shown = list(hints)
    while len(shown) > 1 and cell_len(" · ".join(shown)) > width:
        shown.pop()
    return " · ".join(shown)


class SafeLines(LineFilter):
    """Replaces unsafe characters in every segment. Panels that show such characters write them as escapes."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [Segment(re.sub(_UNSAFE, _instead, text), style, control) for text, style, control in segments]


def _instead(unsafe: re.Match[str]) -> str:
    """Return a replacement of the same width, no or one cell."""
    return "\ufffd" * cell_len(unsafe[0])


class PlainLines(LineFilter):
    """Translates text that panels do not draw themselves: scroll bars, Textual's own screens, typed commands."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(flattened(text), style, control) for text, style, control in segments]
