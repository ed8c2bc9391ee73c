"""The cost of the first picture: no more styling and layout than necessary."""

from collections import Counter

import pytest
from textual.css.stylesheet import Stylesheet
from textual.screen import Screen

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.pilot import headless
from tui_gru.tui.screenshot import until_idle


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24), (50, 14)])
async def test_the_first_picture_is_styled_and_laid_out_no_more_than_that_of_an_empty_app(size, monkeypatch):
    again, styled = 0, Counter()
    lay_out, apply = Screen._refresh_layout, Stylesheet.apply

    def count_layout(screen, size=None, **options):
        nonlocal again
        again += size is None  # except for a size of the terminal, which Textual receives several times
        return lay_out(screen, size, **options)

    def count_style(sheet, node, *args, **options):
        styled[node] += 1
        return apply(sheet, node, *args, **options)

    monkeypatch.setattr(Screen, "_refresh_layout", count_layout)
    monkeypatch.setattr(Stylesheet, "apply", count_style)
    async with headless(make_app(Config.of()), size) as pilot:
        await until_idle(pilot)
        await pilot.pause(0.05)
    assert again <= 1  # Textual's own notifications
    assert {times for node, times in styled.items() if not isinstance(node, Screen)} == {1, 2}  # when mounted, and with the screen
