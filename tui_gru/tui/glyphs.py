"""The signs the screen is written with, in Unicode and in plain ASCII for terminals that know no more."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len

#: The candidate state's name: h and a combining tilde, two code points in one cell. There is no single code point for
#: it, so it must never be split: not by slicing a string, nor by ending a Segment between the two.
H_TILDE = "h\u0303"


class Glyphs(NamedTuple):
    """One rendition of every sign, each one cell wide; only `h_tilde` and `y_hat` take two in ASCII."""

    name: str
    h_tilde: str
    y_hat: str
    arrow: str
    breakpoint: str
    breakpoint_sometimes: str
    breakpoint_off: str
    log_point: str
    log_point_off: str
    times: str
    by: str
    total: str
    sigmoid: str
    transposed: str
    blank: str
    minus: str
    ellipsis: str
    vertical_ellipsis: str
    diagonal_ellipsis: str
    terms: tuple[str, str, str]
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
    h_tilde=H_TILDE,
    y_hat="ŷ",
    arrow="▶",
    breakpoint="●",
    breakpoint_sometimes="◐",
    breakpoint_off="○",
    log_point="◆",
    log_point_off="◇",
    times="⊙",
    by="×",
    total="Σ",
    sigmoid="σ",
    transposed="ᵀ",
    blank="·",
    minus="−",
    ellipsis="⋯",
    vertical_ellipsis="⋮",
    diagonal_ellipsis="⋱",
    terms=("①", "②", "③"),
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
    h_tilde="h~",
    y_hat="y^",
    arrow=">",
    breakpoint="*",
    breakpoint_sometimes="%",
    breakpoint_off="o",
    log_point="+",
    log_point_off="-",
    times="*",
    by="x",
    total="S",
    sigmoid="s",
    transposed="T",
    blank=".",
    minus="-",
    ellipsis="~",
    vertical_ellipsis=":",
    diagonal_ellipsis="\\",
    terms=("1", "2", "3"),
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
    "ₜ": "t",
    "₋": "-",
    "₁": "1",
    "η": "n",
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
    table = {ord(sign): plain for sign, plain in _TEXT.items()}
    for name, sign in UNICODE._asdict().items():
        plain = getattr(glyphs, name)
        if name in ("name", "h_tilde", "bar", "column"):
            continue
        pairs = zip(sign, plain, strict=True) if isinstance(sign, tuple) else [(sign, plain)]
        table.update({ord(old): new for old, new in pairs if isinstance(old, str) and len(old) == 1})
    return table


_TO_ASCII = _translation(ASCII)


def transliterate(text: str, glyphs: Glyphs) -> str:
    """The text in the signs of `glyphs`: itself in Unicode; in ASCII every known sign by its stand-in, others by `?`.

    Only h̃ and ŷ change their width (to `h~` and `y^`), so transliterate first and measure afterwards.
    A character two cells wide gives `??`, so that a user's own text keeps its columns.
    """
    if glyphs is not ASCII or text.isascii():
        return text
    plain = text.replace(H_TILDE, ASCII.h_tilde).translate(_TO_ASCII)
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in plain)


def glyphs_for(encoding: str | None) -> Glyphs:
    """The rendition a terminal with this encoding can show: ASCII unless it is one of Unicode's own."""
    known = (encoding or "").lower().replace("-", "").replace("_", "")
    return UNICODE if known.startswith("utf") else ASCII
