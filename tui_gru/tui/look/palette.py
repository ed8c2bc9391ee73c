"""The palette of drawings: the styles of a theme by meaning, and the glyphs of the terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rich.color import Color
from rich.style import Style

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
