"""The cost of the first picture: no more styling, layout and drawing than necessary."""

from collections import Counter

import pytest
from textual._compositor import Compositor
from textual.css.stylesheet import Stylesheet
from textual.screen import Screen

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.pilot import headless
from tui_gru.tui.screenshot import until_idle


@pytest.mark.parametrize("size", [(160, 50), (120, 36), (80, 24), (50, 14)])
async def test_the_first_picture_is_styled_and_laid_out_and_drawn_once(size, monkeypatch):
    layouts, drawn, styled = Counter(), [], Counter()
    lay_out, draw, apply = Screen._refresh_layout, Compositor.render_update, Stylesheet.apply

    def count_layout(screen, size=None, **options):
        layouts["of a size" if size else "again"] += 1
        return lay_out(screen, size, **options)

    def count_drawing(compositor, **options):
        drawn.append(draw(compositor, **options))
        return drawn[-1]

    def count_style(sheet, node, *args, **options):
        styled[node] += 1
        return apply(sheet, node, *args, **options)

    monkeypatch.setattr(Screen, "_refresh_layout", count_layout)
    monkeypatch.setattr(Compositor, "render_update", count_drawing)
    monkeypatch.setattr(Stylesheet, "apply", count_style)
    async with headless(make_app(Config.of()), size) as pilot:
        await until_idle(pilot)
        await pilot.pause(0.05)
    assert layouts["of a size"] == 1
    assert layouts["again"] <= 2  # for what the panels show at this size, and Textual's own for a scroll bar
    whole, *parts = (type(each).__name__ for each in drawn if each is not None)
    assert whole == "LayoutUpdate"
    assert parts in ([], ["ChopsUpdate"], ["ChopsUpdate"] * 2)  # parts: the scroll bar, and on a tiny screen the listing
    assert {times for node, times in styled.items() if not isinstance(node, Screen)} == {1}
