"""The appearance: characters and their widths, glyphs and their ASCII form, themes, and corrected SVG pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from tui_gru.debugger.program import shown_char
from tui_gru.engine.config import Text
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.page import symbols
from tui_gru.equations.syntax import MARKED, code_name, did_you_mean
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The glyphs of the screen in Unicode and in ASCII, and the translation of text to ASCII.


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
_FUNCTION_SIGNS = {row.text: name for name, row in FUNCTIONS.items() if not row.text.isascii()}
_OPERATORS = {**_FUNCTION_SIGNS, "Σ": "sum", "·": "*", "ᵀ": ".T", "Δ": "change "}  # beside dW, a DW could be taken for a gradient

#: Other characters of text. Every entry keeps its width, so columns stay aligned.
_TEXT = {
    "→": ">", "←": "<", "↑": "^", "↓": "v", "…": "~", "–": "-", "—": "-", "“": '"', "”": '"', "‘": "'",
    "’": "'", "′": "'", "²": "2", "³": "3", "⁻": "-", "∂": "d", "Δ": "D", "≤": "<", "≥": ">", "≠": "#",
    "≈": "~", "∞": "8", "├": "+", "└": "+", "│": "|", "─": "-", "╌": "_", "╵": "'", "╰": "\\", "▐": "[",
    "▌": "]", "‹": "<", "›": ">", "␣": "_", "⏎": "$", "⇥": ">", "▲": "^", "▼": "v", "▾": "v", "√": "v",
    "✓": "v", "█": "#", "‖": "|", "┃": "|", "━": "=", "✗": "x",
}  # fmt: skip


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
    substitutes = symbols()
    return flattened(_formula().sub(lambda sign: substitutes.get(sign[0]) or _OPERATORS.get(sign[0]) or code_name(sign[0]), text))


@lru_cache(maxsize=1)
def _formula() -> re.Pattern[str]:
    """Return a pattern of names that have another spelling in code, symbols such as ①, and operators."""
    marks = "|".join(re.escape(symbol) for symbol in symbols() if not symbol.isascii())
    functions = "|".join(map(re.escape, _FUNCTION_SIGNS))
    signs = rf"(?:{functions})(?=\(| →)|Σ(?= )|(?<=\S)·(?=\S)|ᵀ|Δ(?=\w)"  # only in formulas: elsewhere they are letters, and a dot
    return re.compile(f"{MARKED}|{marks}|{signs}")


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
    name = (encoding or "").lower().replace("-", "").replace("_", "")
    return UNICODE if name.startswith("utf") else ASCII


# ------------------------------------------------------------------------------
# Characters that a terminal can show: of the user, measured in cells, cut and folded, and of all drawn lines.


TOKEN_CELLS = 8  # the most cells of a token that is longer than a character
# Control characters, surrogates, and characters that change the direction of writing.
_UNSAFE = "[\0-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]"


def written_char(char: str, glyphs: Glyphs) -> str:
    """Return a character of the text in these glyphs, as wide in ASCII as in Unicode. It is never translated as a name.

    A token that is longer than a character is cut to `TOKEN_CELLS` cells.
    """
    written = flattened(shown_char(char)) if glyphs is ASCII else shown_char(char)
    return written if len(char) == 1 else truncated(written, TOKEN_CELLS, glyphs)


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


def truncated(text: str, width: int, glyphs: Glyphs) -> str:
    """Cut a text to at most `width` cells, with an ellipsis at its end if it is longer."""
    if cell_len(text) <= width:
        return text
    beginning, used = "", 0
    for char in text:
        used += cell_len(char)
        if used > width - 1:
            break
        beginning += char
    return beginning + transliterate("…", glyphs) if width > 0 else ""


#: A word, or a counter with its number, and the cells above which the two are kept in one line.
_COUNTED, _ROOMY = re.compile(r"(?:epoch|batch|timestep|character|row|unit|step|t) \d\S*|\S+"), 24


def folded(content: str, width: int, most: int | None = None) -> list[str]:
    """Break a text into lines of at most `width` cells between words; longer words are broken at the end of the line.

    A counter stays with its number (`epoch 1`) where a line has room for several such. No more than `most` lines are returned. The
    time grows with the length of the text, not with its square.
    """
    lines: list[str] = []
    used = 0  # cells of the last line
    for word in _COUNTED.findall(content) if width > _ROOMY else content.split():
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


class TextFilter(LineFilter):
    """A filter that changes texts only. Textual's change styles only, whatever the text is."""


class SafeLines(TextFilter):
    """Replaces unsafe characters in every segment. Panels that show such characters write them as escapes."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isprintable() for segment in segments):
            return segments
        instead = partial(re.sub, _UNSAFE, lambda unsafe: "\ufffd" * cell_len(unsafe[0]))  # of the same width, no or one cell
        return [Segment(instead(text), style, control) for text, style, control in segments]


class PlainLines(TextFilter):
    """Translates text that panels do not draw themselves: scroll bars, Textual's own screens, typed commands."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(flattened(text), style, control) for text, style, control in segments]


# ------------------------------------------------------------------------------
# The themes (blackboard, whiteboard, and the sixteen colours of the terminal), and their palettes: styles by meaning.


#: Colours are quantized to this number of levels, which is odd so that 0 is one of them. Styles and segments can then be
#: cached, and a number that changes in its last digit does not flicker.
LEVELS = 33

RGB = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Palette:
    """The styles of a theme by meaning. Colour is never the only sign: the text has signs and digits.

    `signed` is a scale from −1 to 1 (blue, neutral, orange), `unit` from 0 to 1 (one hue).
    """

    plain: Style
    dim: Style
    strong: Style
    accent: Style  # what is now: the line at work, what it has just computed, its timestep
    line: Style  # the line of the program at the arrow
    target: Style
    warning: Style
    keyword: Style
    blank: Style  # values that are not computed yet
    gate: Style  # the hue of the unit scale as foreground, for bars of probabilities
    negative: Style
    positive: Style
    second: Style  # a second series in a plot
    paths: tuple[Style, ...]  # the paths of the gradient through time
    cursor: Style
    signed_scale: tuple[Style, ...]  # LEVELS styles
    unit_scale: tuple[Style, ...]  # LEVELS styles
    glyphs: Glyphs = field(default=UNICODE)

    def path(self, i: int) -> Style:
        """Return the style of a path of the gradient, from 0."""
        return self.paths[i % len(self.paths)]

    def signed(self, u: float) -> Style:
        """Return the style of u in −1 … 1, clipped; that of a warning if u is not finite."""
        return self.signed_scale[_level((u + 1) / 2)] if math.isfinite(u) else self.warning

    def unit(self, u: float) -> Style:
        """Return the style of u in 0 … 1, clipped; that of a warning if u is not finite."""
        return self.unit_scale[_level(u)] if math.isfinite(u) else self.warning

    def fresh(self, style: Style) -> Style:
        """Return the style of a value just computed: the same background with the accent foreground."""
        return style + self.accent

    @property
    def faint(self) -> Style:
        """The hue of the unit scale as a light foreground; grey if the theme has no backgrounds."""
        tint = self.unit(1).bgcolor
        return self.dim if tint is None else Style(color=tint)

    def quiet(self, style: Style) -> Style:
        """Return the style of values beside the row singled out: dimmed, without background."""
        return self.warning if style is self.warning else self.dim


def _level(part: float) -> int:
    return round(min(max(part, 0.0), 1.0) * (LEVELS - 1))


def rgb(colour: str) -> RGB:
    """Parse a colour `#rrggbb` to red, green and blue."""
    triplet = RichColor.parse(colour).get_truecolor()
    return triplet.red, triplet.green, triplet.blue


def tints(ink: str, *stops: str) -> tuple[Style, ...]:
    """Return LEVELS styles with one foreground, on backgrounds interpolated evenly between the stops (`#rrggbb`)."""
    colours = [rgb(stop) for stop in stops]
    foreground = RichColor.parse(ink)
    styles = []
    for level in range(LEVELS):
        place = level / (LEVELS - 1) * (len(colours) - 1)
        start = min(int(place), len(colours) - 2)
        part = place - start
        mixed = (round(a + (b - a) * part) for a, b in zip(colours[start], colours[start + 1], strict=True))
        styles.append(Style.from_color(foreground, RichColor.from_rgb(*mixed)))
    return tuple(styles)


BLACKBOARD = Theme(
    name="blackboard",
    dark=True,
    primary="#4fc1b0",
    secondary="#8fb8e8",
    accent="#ffd479",
    warning="#ff8f73",
    error="#ff8f73",
    success="#4fc1b0",
    foreground="#d5dde0",
    background="#111920",
    surface="#111920",
    panel="#1a252e",
    variables={
        "border": "#4fc1b0",
        "border-blurred": "#34434e",
        "footer-background": "#16212a",
        "footer-key-foreground": "#7fd8c9",
        "footer-description-foreground": "#8a979e",
        "input-selection-background": "#24609f",
        "scrollbar": "#34434e",
        "scrollbar-background": "#16212a",
        "scrollbar-background-hover": "#16212a",
        "scrollbar-corner-color": "#16212a",
    },
)

WHITEBOARD = Theme(
    name="whiteboard",
    dark=False,
    primary="#0b6b60",
    secondary="#1f5fa8",
    accent="#7a3b00",
    warning="#b3261e",
    error="#b3261e",
    success="#0b6b60",
    foreground="#1d2429",
    background="#fbfaf6",
    surface="#fbfaf6",
    panel="#ecebe4",
    variables={
        "border": "#0b6b60",
        "border-blurred": "#c3c8c6",
        "footer-background": "#ecebe4",
        "footer-key-foreground": "#0b6b60",
        "footer-description-foreground": "#566168",
        "foreground-muted": "#5e6a71",
        "scrollbar": "#b5bbba",
        "scrollbar-background": "#ecebe4",
        "scrollbar-background-hover": "#ecebe4",
        "scrollbar-corner-color": "#ecebe4",
    },
)

#: The themes of this project, the default first. `ansi-dark` and `ansi-light` are themes of Textual.
THEMES = (BLACKBOARD, WHITEBOARD)
OWN_THEMES = (*(theme.name for theme in THEMES), "ansi-dark", "ansi-light")  # the names that this project has colours for


def _steps(*stops: tuple[float, str]) -> tuple[Style, ...]:
    """Return LEVELS styles that change at the given places of the scale, for terminals with sixteen colours."""
    chosen = []
    for level in range(LEVELS):
        place = level / (LEVELS - 1)
        chosen.append(Style.parse(next(style for end, style in stops if place <= end)))
    return tuple(chosen)


# The style of each meaning in each theme. Those of the sixteen colours have no backgrounds: users define these colours, and only
# foregrounds on the default background are sure to be legible. Signs and digits carry the meaning; colour and weight support it.
_INKS = (
    # meaning      blackboard                   whiteboard                   ansi-dark           ansi-light
    ("plain",      "#d5dde0",                   "#1d2429",                   "default",          "default"),
    ("dim",        "#8a979e",                   "#5e6a71",                   "bright_black",     "bright_black"),
    ("strong",     "bold #f2f5f6",              "bold #000000",              "bold",             "bold"),
    ("accent",     "bold #ffd479",              "bold #6b3300",              "bold green",       "bold magenta"),
    ("line",       "bold #ffd479 on #2b2c22",   "bold #6b3300 on #f4e6c8",   "bold green",       "bold magenta"),
    ("target",     "bold #f2f5f6",              "bold #000000",              "bold",             "bold"),
    ("warning",    "bold #ff8f73",              "bold #b3261e",              "bold bright_red",  "bold red"),
    ("keyword",    "#8fb8e8",                   "#1f5fa8",                   "bright_blue",      "blue"),
    ("blank",      "#7c8a92",                   "#667278",                   "bright_black",     "bright_black"),
    ("gate",       "#4fc1b0",                   "#0b7a6d",                   "cyan",             "green"),
    ("negative",   "#79aef0",                   "#1f5fa8",                   "bright_blue",      "blue"),
    ("positive",   "#f0a060",                   "#a65300",                   "yellow",           "red"),
    ("second",     "#b58fe0",                   "#7a3fa0",                   "magenta",          "magenta"),
    ("cursor",     "bold #111920 on #f2f5f6",   "bold #fbfaf6 on #1d2429",   "bold reverse",     "bold reverse"),
)  # fmt: skip
_PATHS = (
    ("#4fc1b0", "#f08fb4", "#b3a0f0", "#a6c96a"), ("#0b7a6d", "#b0305f", "#6a48b8", "#53701a"),
    ("cyan", "bright_magenta", "magenta", "green"), ("cyan", "red", "magenta", "green"),
)  # fmt: skip
_SIGNED = (
    tints("#e8eef0", "#1f5a95", "#1a242d", "#94481a"),
    tints("#1d2429", "#8fbdf0", "#f1f0ea", "#f5b478"),
    _steps((0.2, "bold bright_blue"), (0.45, "bright_blue"), (0.55, "default"), (0.8, "yellow"), (1, "bold yellow")),
    _steps((0.2, "bold blue"), (0.45, "blue"), (0.55, "default"), (0.8, "red"), (1, "bold red")),
)
_UNIT = (
    tints("#e8eef0", "#1a242d", "#1a655b"),
    tints("#1d2429", "#f1f0ea", "#8fd6c8"),
    _steps((0.1, "default"), (0.6, "cyan"), (1, "bold cyan")),
    _steps((0.1, "default"), (0.6, "green"), (1, "bold green")),
)
_DARK, _LIGHT, _ANSI_DARK, _ANSI_LIGHT = (
    Palette(
        **{meaning: Style.parse(inks[i]) for meaning, *inks in _INKS},  # type: ignore[arg-type]
        paths=tuple(map(Style.parse, _PATHS[i])),
        signed_scale=_SIGNED[i],
        unit_scale=_UNIT[i],
    )
    for i in range(4)
)

#: The least contrast of text with what is behind it (WCAG 2.2, level AA), and the colours of a theme of Textual that are text.
LEGIBLE = 4.5
_TEXT_COLOURS = "accent", "secondary", "foreground-muted"

_PALETTES: dict[tuple[str, str], Palette] = {}
#: The palettes of themes by name. Textual merges its themes with ours at each look-up.
_BY_NAME: dict[tuple[str, str], Palette] = {}


def register_themes(app: App[Any]) -> None:
    """Register the themes of this project in the app."""
    for theme in THEMES:
        app.register_theme(theme)


def checked_theme(app: App[Any], name: str) -> str:
    """Return the name if there is such a theme. Raises `TuiGruError` with similar names, or those of this project."""
    if name not in app.available_themes:
        raise TuiGruError(f"there is no theme {name!r}; {did_you_mean(name, OWN_THEMES, app.available_themes)}", option="theme")
    return name


def contrast(one: Color, other: Color) -> float:
    """Return the contrast ratio of two colours, from 1 to 21 (WCAG 2.2, relative luminance)."""

    def luminance(colour: Color) -> float:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def legible(theme: Theme, variables: Mapping[str, str], ink: Color) -> Color:
    """Return a colour for text, mixed with as much white or black as it needs to be legible on the grounds of a theme."""
    grounds = [Color.parse(variables[name]) for name in ("background", "surface")]
    solid, end = grounds[0] + ink, Color.parse("white" if theme.dark else "black")
    mixed = (solid.blend(end, part / 20) for part in range(20))
    return next((colour for colour in mixed if all(contrast(colour, ground) >= LEGIBLE for ground in grounds)), end)


def with_legible_text(theme: Theme, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a theme of Textual with legible colours of text. Rows of another ground, which are the header and
    the keys, have one near to that of the panels."""
    if theme.name in OWN_THEMES:
        return dict(variables)
    texts = {name: legible(theme, variables, Color.parse(variables[name])).hex for name in _TEXT_COLOURS}
    return {**variables, **texts, "panel": variables["surface"], "footer-background": variables["surface"]}


def palette_for(theme: Theme, glyphs: Glyphs = UNICODE) -> Palette:
    """Return the palette of a theme, always the same object. For a theme of Textual, `dark` and `ansi` decide; its inks are made
    legible on the grounds of the theme."""
    key = (theme.name, glyphs.name)
    if key not in _PALETTES:
        by_kind = {(True, False): _DARK, (False, False): _LIGHT, (True, True): _ANSI_DARK, (False, True): _ANSI_LIGHT}
        palette = replace(by_kind[theme.dark, theme.ansi], glyphs=glyphs)
        _PALETTES[key] = palette if theme.name in OWN_THEMES else _made_legible(palette, theme)
    return _PALETTES[key]


def _made_legible(palette: Palette, theme: Theme) -> Palette:
    variables = theme.to_color_system().generate()

    def mixed(style: Style) -> Style:
        if style.color is None or style.bgcolor is not None:
            return style
        return style + Style(color=legible(theme, variables, Color.from_rich_color(style.color)).rich_color)

    inks = {
        attribute.name: mixed(style)
        for attribute in fields(Palette)
        if isinstance(style := getattr(palette, attribute.name), Style)
    }
    return replace(palette, **inks, paths=tuple(map(mixed, palette.paths)))  # type: ignore[arg-type]


def palette_of(app: App[Any]) -> Palette:
    """Return the palette of the current theme of an app, with the app's glyphs if it has them."""
    glyphs = getattr(app, "glyphs", UNICODE)
    key = app.theme, glyphs.name
    if key not in _BY_NAME:
        _BY_NAME[key] = palette_for(app.current_theme, glyphs)
    return _BY_NAME[key]
