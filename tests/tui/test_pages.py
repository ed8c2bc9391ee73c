"""Pages of a screen that is too small for all panels: the page that is shown, and the panels of each page."""

from __future__ import annotations

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.tui.pages import page_words
from tui_gru.tui.panels.typing.bottom_line import BottomLine
from tui_gru.tui.screenshot import until_idle
from tui_gru.tui.verbs.line import execute

WORDS = {
    "Sequence": "sequence", "LossTerms": "loss terms", "LineAtWork": "the line at work", "Gates": "gates", "Softmax": "ŷ",
    "LossCurve": "loss curve", "Weights": "weights", "Samples": "samples", "Watches": "watches", "Log": "log",
}  # fmt: skip
SIZES = [(40, 12), (59, 30), (80, 24), (99, 50), (120, 30), (120, 36), (160, 33), (160, 40), (160, 50)]


def panels(d: Driver) -> set[str]:
    """The panels that can be seen, in words."""
    return {WORDS[name] for name in WORDS for panel in d.screen.query(name) if panel.region}


def footer(d: Driver) -> str:
    d.screen.say("")
    return d.screen.query_one(BottomLine).render_line(0).text


@pytest.mark.parametrize("watching", [False, True])
@pytest.mark.parametrize("size", SIZES)
async def test_each_page_has_the_panels_that_it_is_said_to_have(size: tuple[int, int], watching: bool) -> None:
    async with driving(size) as d:
        if watching:
            execute(d.screen, "watch loss")
            execute(d.screen, "break loss log {loss}")
            await until_idle(d.pilot)
            await d.pilot.pause()
        pages = d.screen.panels.on_pages
        for number, page in enumerate(pages, 1):
            await d.pilot.pause()
            shown = panels(d) - ({"watches", "log"} if page != ("watches", "log") else set())
            assert shown == (set(WORDS.values()) - {"watches", "log"} if page == ("all panels",) else set(page)), number
            assert (f"v view {number}/{len(pages)}" in footer(d)) is (len(pages) > 1)
            await d.type("v")


async def test_the_key_says_what_is_on_this_page_and_on_the_others() -> None:
    async with driving((80, 24)) as d:
        await d.type("v")
        assert d.says == ("page 2 of 3: gates, ŷ, loss curve · 1: sequence, loss terms, the line at work · 3: weights, samples")


def test_every_page_is_named_once() -> None:
    words = page_words((("a",), ("a", "b"), ("c",)), 1)
    assert words == "page 1 of 3: a · 2: b · 3: c"
