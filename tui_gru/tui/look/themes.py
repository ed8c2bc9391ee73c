"""The themes (blackboard, whiteboard, and the sixteen colours of the terminal), and their palettes: styles by meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from rich.color import Color
from rich.style import Style
from textual.app import App
from textual.theme import Theme

from tui_gru.engine.errors import TuiGruError
from tui_gru.equations.errors import did_you_mean
from tui_gru.tui.look.glyphs import UNICODE, Glyphs

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
    accent: Style  # the value just computed, the current line, the current column
    line: Style  # the line of the program at the arrow
    target: Style
    warning: Style
    keyword: Style
    blank: Style  # values that are not computed yet
    gate: Style  # the hue of the unit scale as foreground, for bars of probabilities
    negative: Style
    positive: Style
    second: Style  # a second series in a plot
    cursor: Style
    signed_scale: tuple[Style, ...]  # LEVELS styles
    unit_scale: tuple[Style, ...]  # LEVELS styles
    glyphs: Glyphs = field(default=UNICODE)

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
    triplet = Color.parse(colour).get_truecolor()
    return triplet.red, triplet.green, triplet.blue


def tints(ink: str, *stops: str) -> tuple[Style, ...]:
    """Return LEVELS styles with one foreground, on backgrounds interpolated evenly between the stops (`#rrggbb`)."""
    colours = [rgb(stop) for stop in stops]
    foreground = Color.parse(ink)
    styles = []
    for level in range(LEVELS):
        place = level / (LEVELS - 1) * (len(colours) - 1)
        start = min(int(place), len(colours) - 2)
        part = place - start
        mixed = (round(a + (b - a) * part) for a, b in zip(colours[start], colours[start + 1], strict=True))
        styles.append(Style.from_color(foreground, Color.from_rgb(*mixed)))
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
        "scrollbar": "#b5bbba",
        "scrollbar-background": "#ecebe4",
        "scrollbar-background-hover": "#ecebe4",
        "scrollbar-corner-color": "#ecebe4",
    },
)

#: The themes of this project, the default first. `ansi-dark` and `ansi-light` are themes of Textual.
THEMES = (BLACKBOARD, WHITEBOARD)
OWN_THEMES = (*(theme.name for theme in THEMES), "ansi-dark", "ansi-light")  # the names that this project has colours for

_DARK = Palette(
    plain=Style.parse("#d5dde0"),
    dim=Style.parse("#8a979e"),
    strong=Style.parse("bold #f2f5f6"),
    accent=Style.parse("bold #ffd479"),
    line=Style.parse("bold #ffd479 on #2b2c22"),
    target=Style.parse("bold #ffd479"),
    warning=Style.parse("bold #ff8f73"),
    keyword=Style.parse("#8fb8e8"),
    blank=Style.parse("#7c8a92"),
    gate=Style.parse("#4fc1b0"),
    negative=Style.parse("#79aef0"),
    positive=Style.parse("#f0a060"),
    second=Style.parse("#b58fe0"),
    cursor=Style.parse("bold #111920 on #ffd479"),
    signed_scale=tints("#e8eef0", "#1f5a95", "#1a242d", "#94481a"),
    unit_scale=tints("#e8eef0", "#1a242d", "#1a655b"),
)

_LIGHT = Palette(
    plain=Style.parse("#1d2429"),
    dim=Style.parse("#5e6a71"),
    strong=Style.parse("bold #000000"),
    accent=Style.parse("bold #6b3300"),
    line=Style.parse("bold #6b3300 on #f4e6c8"),
    target=Style.parse("bold #7a3b00"),
    warning=Style.parse("bold #b3261e"),
    keyword=Style.parse("#1f5fa8"),
    blank=Style.parse("#667278"),
    gate=Style.parse("#0b7a6d"),
    negative=Style.parse("#1f5fa8"),
    positive=Style.parse("#a65300"),
    second=Style.parse("#7a3fa0"),
    cursor=Style.parse("bold #ffffff on #7a3b00"),
    signed_scale=tints("#1d2429", "#8fbdf0", "#f1f0ea", "#f5b478"),
    unit_scale=tints("#1d2429", "#f1f0ea", "#8fd6c8"),
)


def _steps(*stops: tuple[float, str]) -> tuple[Style, ...]:
    """Return LEVELS styles that change at the given places of the scale, for terminals with sixteen colours."""
    chosen = []
    for level in range(LEVELS):
        place = level / (LEVELS - 1)
        chosen.append(Style.parse(next(style for end, style in stops if place <= end)))
    return tuple(chosen)


# No backgrounds: users define the sixteen colours of their terminals, and only foregrounds on the default background are sure
# to be legible. Signs and digits carry the meaning; colour and weight support it.
_ANSI_DARK = Palette(
    plain=Style.parse("default"),
    dim=Style.parse("bright_black"),
    strong=Style.parse("bold"),
    accent=Style.parse("bold green"),
    line=Style.parse("bold green"),
    target=Style.parse("bold green"),
    warning=Style.parse("bold bright_red"),
    keyword=Style.parse("bright_blue"),
    blank=Style.parse("bright_black"),
    gate=Style.parse("cyan"),
    negative=Style.parse("bright_blue"),
    positive=Style.parse("yellow"),
    second=Style.parse("magenta"),
    cursor=Style.parse("bold reverse"),
    signed_scale=_steps((0.2, "bold bright_blue"), (0.45, "bright_blue"), (0.55, "default"), (0.8, "yellow"), (1, "bold yellow")),
    unit_scale=_steps((0.1, "default"), (0.6, "cyan"), (1, "bold cyan")),
)

_ANSI_LIGHT = replace(
    _ANSI_DARK,
    accent=Style.parse("bold magenta"),
    line=Style.parse("bold magenta"),
    target=Style.parse("bold magenta"),
    warning=Style.parse("bold red"),
    keyword=Style.parse("blue"),
    gate=Style.parse("green"),
    negative=Style.parse("blue"),
    positive=Style.parse("red"),
    signed_scale=_steps((0.2, "bold blue"), (0.45, "blue"), (0.55, "default"), (0.8, "red"), (1, "bold red")),
    unit_scale=_steps((0.1, "default"), (0.6, "green"), (1, "bold green")),
)

_PALETTES: dict[tuple[bool, bool, str], Palette] = {}
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


def palette_for(theme: Theme, glyphs: Glyphs = UNICODE) -> Palette:
    """Return the palette of a theme, always the same object. For a theme of Textual, `dark` and `ansi` decide."""
    key = (theme.dark, theme.ansi, glyphs.name)
    if key not in _PALETTES:
        by_kind = {(True, False): _DARK, (False, False): _LIGHT, (True, True): _ANSI_DARK, (False, True): _ANSI_LIGHT}
        _PALETTES[key] = replace(by_kind[theme.dark, theme.ansi], glyphs=glyphs)
    return _PALETTES[key]


def palette_of(app: App[Any]) -> Palette:
    """Return the palette of the current theme of an app, with the app's glyphs if it has them."""
    glyphs = getattr(app, "glyphs", UNICODE)
    key = app.theme, glyphs.name
    if key not in _BY_NAME:
        _BY_NAME[key] = palette_for(app.current_theme, glyphs)
    return _BY_NAME[key]
