import math
from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from rich.style import Style
from textual.theme import BUILTIN_THEMES

from tests.tui.test_main_screen import driving
from tui_gru.tui.ask import AskPanel
from tui_gru.tui.matrix import heat_row
from tui_gru.tui.terminal import drawn_later, drawn_lines
from tui_gru.tui.theme import BLACKBOARD, LEVELS, THEMES, WHITEBOARD, Palette, palette_for, rgb

LEGIBLE = 4.5  # WCAG 2.2, level AA
NAMED = [field.name for field in fields(Palette) if field.type == "Style"]


def ratio(style: Style, ground: str) -> float:
    """Return the contrast ratio of a style, from 1 to 21 (WCAG 2.2, relative luminance)."""
    ink = style.color.get_truecolor()
    back = style.bgcolor.get_truecolor() if style.bgcolor else rgb(ground)
    assert not style.dim
    darker, lighter = sorted((luminance(ink), luminance(back)))
    return (lighter + 0.05) / (darker + 0.05)


@cache
def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", THEMES, ids=lambda t: t.name)
def test_every_ink_is_legible_on_every_ground(theme):
    palette = palette_for(theme)
    every = np.linspace(-1, 1, 801)
    styles = {name: getattr(palette, name) for name in NAMED}
    for name in ("signed_scale", "unit_scale"):
        for level, style in enumerate(getattr(palette, name)):
            styles[f"{name}[{level}]"] = style
            styles[f"fresh {name}[{level}]"] = palette.fresh(style)
    for kind in ("signed", "unit", "onehot"):
        row = heat_row(palette, every, len(every), kind=kind, scale=1, cursor=None, quiet=False)
        styles |= {f"heat {kind} {u:.3f}": segment.style for u, segment in zip(every, row, strict=True)}
    faint = {name: ratio(style, theme.background) for name, style in styles.items()}
    assert {name: value for name, value in faint.items() if value < LEGIBLE} == {}


SOLID = [name for name, theme in BUILTIN_THEMES.items() if not theme.ansi]


@pytest.mark.parametrize("keys", [("p", "tab", "tab"), ("B", ":no-such"), ("?",), ("!",), ("enter",)], ids=" ".join)
async def test_all_text_on_the_screen_is_legible_in_every_theme(keys):
    async with driving((120, 36), learning_rate=0.3) as d:
        await d.type("l", "n", "s", "o", "o", "o", *keys)
        for name in [*(theme.name for theme in THEMES), *SOLID]:
            with drawn_later(d.pilot.app):  # `drawn_lines` draws
                d.pilot.app.theme = name
                await d.pilot.pause()
            screen = d.pilot.app.screen
            region = next((panel.region for panel in screen.query(AskPanel)), screen.region)  # what is behind is faint
            rows = [row.crop(region.x, region.right) for row in drawn_lines(screen)[region.y : region.bottom]]
            words = [segment for row in rows for segment in row if any(map(str.isalnum, segment.text))]
            assert len(words) > 50
            faint = {(s.style.color.name, s.style.bgcolor.name, s.text) for s in words if ratio(s.style, "") < LEGIBLE}
            assert not faint, name


@pytest.mark.parametrize("theme", THEMES, ids=lambda t: t.name)
def test_scales_run_one_way(theme):
    palette = palette_for(theme)

    def ground(style):
        return rgb(style.bgcolor.name)

    blues = [ground(style)[2] - ground(style)[0] for style in palette.signed_scale]
    assert blues == sorted(blues, reverse=True)  # blue at −1, orange at +1
    assert blues[0] > 30
    assert blues[-1] < -30
    assert len(set(map(ground, palette.unit_scale))) > LEVELS // 2


@pytest.mark.parametrize("theme", THEMES, ids=lambda t: t.name)
def test_the_ends_differ_without_red_and_green(theme):
    """The blue channel against the others is visible to red-green colour-blind people, too."""
    first, last = (rgb(palette_for(theme).signed(u).bgcolor.name) for u in (-1, 1))
    assert abs(first[2] - last[2]) > 60


def test_scales_are_quantised_and_bounded():
    palette = palette_for(BLACKBOARD)
    assert palette.signed(0.001) is palette.signed(0) is palette.signed_scale[LEVELS // 2]
    assert palette.signed(-7) is palette.signed_scale[0]
    assert palette.signed(math.nan) is palette.warning
    assert palette.unit(2) is palette.unit_scale[-1]
    assert palette.unit(math.inf) is palette.warning


def test_one_palette_a_theme():
    assert palette_for(BLACKBOARD) is palette_for(BLACKBOARD)
    assert palette_for(BLACKBOARD) is not palette_for(WHITEBOARD)


@pytest.mark.parametrize("name", ["ansi-dark", "ansi-light"])
def test_ansi_uses_the_sixteen_colours_alone(name):
    palette = palette_for(BUILTIN_THEMES[name])
    styles = [getattr(palette, name) for name in NAMED] + [*palette.signed_scale, *palette.unit_scale]
    for style in styles:
        assert style.color is None or style.color.number is None or style.color.number < 16
        assert style.color is None or not style.color.triplet
        assert style.bgcolor is None


@pytest.mark.parametrize("theme", BUILTIN_THEMES.values(), ids=lambda t: t.name)
def test_any_theme_has_a_palette(theme):
    assert palette_for(theme).plain is not None
