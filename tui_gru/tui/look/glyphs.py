"""The signs the screen is written with, in Unicode and in plain ASCII for terminals that know no more."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len

from tui_gru.engine.model import symbols
from tui_gru.equations.names import MARKED, code_name

#: The candidate state's name: h and a combining tilde, two code points in one cell. There is no single code point for
#: it, so it must never be split: not by slicing a string, nor by ending a Segment between the two.
H_TILDE = "h\u0303"


class Glyphs(NamedTuple):
    """One rendition of every sign, each one cell wide."""

    name: str
    arrow: str
    breakpoint: str
    breakpoint_sometimes: str
    breakpoint_off: str
    log_point: str
    log_point_off: str
    times: str
    by: str
    blank: str
    minus: str
    ellipsis: str
    vertical_ellipsis: str
    diagonal_ellipsis: str
    #: Tall brackets as (top, middle, bottom), and the pair that holds a single row.
    left_bracket: tuple[str, str, str]
    right_bracket: tuple[str, str, str]
    target: str
    target_end: str
    #: Bars from nothing to a full cell, in equal parts.
    bar: tuple[str, ...]
    #: Columns from nothing to a full cell, for sparklines.
    column: tuple[str, ...]
    #: Whether plots may use braille patterns, eight dots to a cell.
    braille: bool
    axis_vertical: str
    axis_horizontal: str
    axis_corner: str
    tick_vertical: str
    tick_horizontal: str
    here: str
    not_finite: str


UNICODE = Glyphs(
    name="unicode",
    arrow="▶",
    breakpoint="●",
    breakpoint_sometimes="◐",
    breakpoint_off="○",
    log_point="◆",
    log_point_off="◇",
    times="⊙",
    by="×",
    blank="·",
    minus="−",
    ellipsis="⋯",
    vertical_ellipsis="⋮",
    diagonal_ellipsis="⋱",
    left_bracket=("⎛", "⎜", "⎝"),
    right_bracket=("⎞", "⎟", "⎠"),
    target="▸",
    target_end="◂",
    bar=(" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"),
    column=(" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"),
    braille=True,
    axis_vertical="│",
    axis_horizontal="─",
    axis_corner="└",
    tick_vertical="┤",
    tick_horizontal="┴",
    here="▲",
    not_finite="✗",
)

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

#: Operators of formulas as they are typed. Of these, and of names, the width is another in ASCII.
_OPERATORS = {"σ": "sigmoid", "Σ": "sum", "·": "*", "ᵀ": ".T"}

#: What running text may hold beyond the signs above. Every entry keeps its width, so columns stay aligned.
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
    """The text in the signs of `glyphs`: itself in Unicode; in ASCII names as in code, other signs by their stand-ins.

    Names and operators change their width (h̃ to `h_tilde`), so transliterate first and measure afterwards. What has no stand-in
    gives `?`, a character two cells wide `??`, so that a user's own text keeps its columns.
    """
    if glyphs is not ASCII or text.isascii():
        return text
    return flattened(_formula().sub(lambda match: _as_code(match[0]), text))


@lru_cache(maxsize=1)
def _formula() -> re.Pattern[str]:
    """Names that code writes with letters alone, symbols such as ①, and operators."""
    marks = "|".join(re.escape(symbol) for symbol in symbols() if not symbol.isascii())
    signs = r"σ(?=\(| →)|Σ(?= )|(?<=\S)·(?=\S)|ᵀ"  # in formulas alone: elsewhere they are letters, and a dot
    return re.compile(f"{MARKED.pattern}|{marks}|{signs}")


def _as_code(sign: str) -> str:
    return symbols().get(sign) or _OPERATORS.get(sign) or code_name(sign)


def operator(sign: str, glyphs: Glyphs) -> str:
    """A sign of a formula that stands by itself: σ is `sigmoid` in ASCII."""
    return _OPERATORS.get(sign) or transliterate(sign, glyphs) if glyphs is ASCII else sign


def flattened(text: str) -> str:
    """The text in ASCII, as wide as it was."""
    if text.isascii():
        return text
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text.translate(_TO_ASCII))


def glyphs_for(encoding: str | None) -> Glyphs:
    """The rendition a terminal with this encoding can show: ASCII unless it is one of Unicode's own."""
    known = (encoding or "").lower().replace("-", "").replace("_", "")
    return UNICODE if known.startswith("utf") else ASCII
