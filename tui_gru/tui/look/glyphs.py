"""The glyphs of the screen in Unicode and in ASCII, and the translation of text to ASCII."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len

from tui_gru.engine.model import symbols
from tui_gru.equations.names import MARKED, code_name


class Glyphs(NamedTuple):
    """A set of glyphs, each one cell wide; the defaults are those in Unicode."""

    name: str = "unicode"
    arrow: str = "▶"
    breakpoint: str = "●"
    breakpoint_sometimes: str = "◐"
    breakpoint_off: str = "○"
    log_point: str = "◆"
    log_point_off: str = "◇"
    times: str = "⊙"
    by: str = "×"
    blank: str = "·"
    minus: str = "−"
    ellipsis: str = "⋯"
    vertical_ellipsis: str = "⋮"
    diagonal_ellipsis: str = "⋱"
    #: Tall brackets as (top, middle, bottom).
    left_bracket: tuple[str, str, str] = ("⎛", "⎜", "⎝")
    right_bracket: tuple[str, str, str] = ("⎞", "⎟", "⎠")
    target: str = "▸"
    target_end: str = "◂"
    #: Bars from nothing to a full cell, in equal parts.
    bar: tuple[str, ...] = (" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█")
    #: Columns from nothing to a full cell, in equal parts.
    column: tuple[str, ...] = (" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█")
    #: True if plots may use braille patterns, eight dots per cell.
    braille: bool = True
    axis_vertical: str = "│"
    axis_horizontal: str = "─"
    axis_corner: str = "└"
    tick_vertical: str = "┤"
    tick_horizontal: str = "┴"
    here: str = "▲"
    not_finite: str = "✗"


UNICODE = Glyphs()
ASCII = Glyphs(
    name="ascii",
    arrow=">",
    breakpoint="*",
    breakpoint_sometimes="%",
    breakpoint_off="o",
    log_point="+",
    log_point_off="-",
    times="*",
    by="x",
    blank=".",
    minus="-",
    ellipsis="~",
    vertical_ellipsis=":",
    diagonal_ellipsis="\\",
    left_bracket=("(", "|", "("),
    right_bracket=(")", "|", ")"),
    target=">",
    target_end="<",
    bar=(" ", "#"),
    column=(" ", ".", "-", "=", "#"),
    braille=False,
    axis_vertical="|",
    axis_horizontal="-",
    axis_corner="+",
    tick_vertical="+",
    tick_horizontal="+",
    here="^",
    not_finite="x",
)

#: Operators of formulas as typed in code. These, and names, have another width in ASCII.
_OPERATORS = {"σ": "sigmoid", "Σ": "sum", "·": "*", "ᵀ": ".T"}

#: Other characters of text. Every entry keeps its width, so columns stay aligned.
_TEXT = {
    "→": ">",
    "←": "<",
    "↑": "^",
    "↓": "v",
    "…": "~",
    "–": "-",
    "—": "-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "′": "'",
    "²": "2",
    "³": "3",
    "⁻": "-",
    "∂": "d",
    "Δ": "D",
    "≤": "<",
    "≥": ">",
    "≠": "#",
    "≈": "~",
    "∞": "8",
    "├": "+",
    "└": "+",
    "│": "|",
    "─": "-",
    "╌": "_",
    "╵": "'",
    "╰": "\\",
    "▐": "[",
    "▌": "]",
    "‹": "<",
    "›": ">",
    "␣": "_",
    "⏎": "$",
    "⇥": ">",
    "▲": "^",
    "▼": "v",
    "▾": "v",
    "√": "v",
    "✓": "v",
    "█": "#",
    "‖": "|",
    "┃": "|",
    "━": "=",
    "✗": "x",
}


def _translation(glyphs: Glyphs) -> dict[int, str]:
    table = dict.fromkeys(range(0x2500, 0x2580), "+") | dict.fromkeys(range(0x2580, 0x25A0), "#")  # boxes, and blocks
    table |= {ord(sign): plain for sign, plain in _TEXT.items()}
    for name, sign in UNICODE._asdict().items():
        plain = getattr(glyphs, name)
        if name in ("name", "bar", "column"):
            continue
        pairs = zip(sign, plain, strict=True) if isinstance(sign, tuple) else [(sign, plain)]
        table.update({ord(old): new for old, new in pairs if isinstance(old, str) and len(old) == 1})
    return table


_TO_ASCII = _translation(ASCII)


def transliterate(text: str, glyphs: Glyphs) -> str:
    """Return a text written with `glyphs`: unchanged in Unicode; in ASCII with names as in code and substitutes for other signs.

    Names and operators change their width (h̃ to `h_tilde`), so transliterate first and measure afterwards. Characters without a
    substitute are replaced by `?`, or `??` if they are two cells wide, so that the columns of a user's text stay aligned.
    """
    if glyphs is not ASCII or text.isascii():
        return text
    return flattened(_formula().sub(lambda match: _as_code(match[0]), text))


@lru_cache(maxsize=1)
def _formula() -> re.Pattern[str]:
    """Return a pattern of names that have another spelling in code, symbols such as ①, and operators."""
    marks = "|".join(re.escape(symbol) for symbol in symbols() if not symbol.isascii())
    signs = r"σ(?=\(| →)|Σ(?= )|(?<=\S)·(?=\S)|ᵀ"  # only in formulas: elsewhere they are letters, and a dot
    return re.compile(f"{MARKED}|{marks}|{signs}")


def _as_code(sign: str) -> str:
    return symbols().get(sign) or _OPERATORS.get(sign) or code_name(sign)


def operator(sign: str, glyphs: Glyphs) -> str:
    """Return a single sign of a formula: in ASCII, σ is `sigmoid`."""
    return _OPERATORS.get(sign) or transliterate(sign, glyphs) if glyphs is ASCII else sign


def flattened(text: str) -> str:
    """Return the text in ASCII with the same width."""
    if text.isascii():
        return text
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text.translate(_TO_ASCII))


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return the glyphs for a terminal with this encoding: ASCII unless it is a Unicode encoding."""
    known = (encoding or "").lower().replace("-", "").replace("_", "")
    return UNICODE if known.startswith("utf") else ASCII
