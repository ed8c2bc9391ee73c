"""What drawings are made with: the colours of a theme by their meaning, and the glyphs the terminal can show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rich.color import Color
from rich.style import Style

from tui_gru.tui.look.glyphs import UNICODE, Glyphs

#: Colours are quantised to this many steps, odd so that 0 is one of them: the styles, and so the segments that carry
#: them, can then be cached, and a number that moves in its last digit does not flicker.
LEVELS = 33

RGB = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Palette:
    """The styles of one theme, by meaning. Colour never stands alone: text in these styles carries sign and digits.

    `signed` runs from −1 to 1 (blue, neutral, orange); `unit` from 0 to 1 (one hue).
    """

    plain: Style
    dim: Style
    strong: Style
    accent: Style  # the value just computed, the line at work, the current column
    line: Style  # the line of the program that the arrow is at
    target: Style
    warning: Style
    keyword: Style
    blank: Style  # what is still to come
    gate: Style  # the hue of the unit scale, as ink: bars of probabilities
    negative: Style
    positive: Style
    second: Style  # a second series in a plot
    cursor: Style
    signed_scale: tuple[Style, ...]  # LEVELS of them
    unit_scale: tuple[Style, ...]  # LEVELS of them
    glyphs: Glyphs = field(default=UNICODE)

    def signed(self, u: float) -> Style:
        """The style of u from −1 to 1; beyond is the nearer end, not a number is a warning."""
        return self.signed_scale[_level((u + 1) / 2)] if math.isfinite(u) else self.warning

    def unit(self, u: float) -> Style:
        """The style of u from 0 to 1; beyond is the nearer end, not a number is a warning."""
        return self.unit_scale[_level(u)] if math.isfinite(u) else self.warning

    def fresh(self, style: Style) -> Style:
        """The same tint under the ink of what was just computed."""
        return style + self.accent

    @property
    def faint(self) -> Style:
        """The hue of the unit scale, no stronger than a tint; grey where a theme has no tints."""
        tint = self.unit(1).bgcolor
        return self.dim if tint is None else Style(color=tint)

    def quiet(self, style: Style) -> Style:
        """The ink of what stands beside the row singled out, without its tint."""
        return self.warning if style is self.warning else self.dim


def _level(part: float) -> int:
    return round(min(max(part, 0.0), 1.0) * (LEVELS - 1))


def rgb(colour: str) -> RGB:
    """The red, green and blue of a colour as `#rrggbb`."""
    triplet = Color.parse(colour).get_truecolor()
    return triplet.red, triplet.green, triplet.blue


def tints(ink: str, *stops: str) -> tuple[Style, ...]:
    """LEVELS styles of one ink on backgrounds that run evenly through the stops (`#rrggbb`)."""
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


def contrast(one: RGB, other: RGB) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.2, relative luminance)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: RGB) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
