"""The cost of the first picture and of the first step: no more widgets, styling, layout and drawing than necessary."""

from collections import Counter

import pytest
from textual._compositor import Compositor
from textual.css.stylesheet import Stylesheet
from textual.screen import Screen
from textual.widget import Widget

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, until_idle

SIZES = [(160, 50), (120, 36), (80, 24), (50, 14)]


class Costs:
    """Layouts, `of a size` of the terminal or `again`; the kinds of updates that were drawn; and how often each node was styled."""

    def __init__(self):
        self.layouts, self.drawn, self.styled = Counter(), [], Counter()


@pytest.fixture
def costs(monkeypatch):
    found = Costs()
    lay_out, draw, apply = Screen._refresh_layout, Compositor.render_update, Stylesheet.apply

    def count_layout(screen, size=None, **options):
        found.layouts["of a size" if size else "again"] += 1
        return lay_out(screen, size, **options)

    def count_drawing(compositor, **options):
        update = draw(compositor, **options)
        if update is not None:
            found.drawn.append(type(update).__name__)
        return update

    def count_style(sheet, node, *args, **options):
        found.styled[node] += 1
        return apply(sheet, node, *args, **options)

    monkeypatch.setattr(Screen, "_refresh_layout", count_layout)
    monkeypatch.setattr(Compositor, "render_update", count_drawing)
    monkeypatch.setattr(Stylesheet, "apply", count_style)
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_picture_costs_no_more_than_textual_asks_for(size, costs):
    async with make_app(Config.of()).run_test(size=size) as pilot:  # not `headless`, which draws nothing until all is shown
        await until_idle(pilot)
        await pilot.pause(0.05)
        assert len(pilot.app.screen.query(Widget)) <= 28
    assert costs.layouts["of a size"] == 1
    assert costs.layouts["again"] <= 2  # for what the panels show at this size, and Textual's own for a scroll bar
    assert len(costs.drawn) <= 3  # when the panels know their sizes, for what they show at these, and for a scroll bar
    assert max(times for node, times in costs.styled.items() if not isinstance(node, Screen)) == 1


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_step_styles_and_draws_only_what_changes(size, costs):
    async with headless(make_app(Config.of()), size) as pilot:
        await until_idle(pilot)
        await pilot.pause(0.05)
        for each in (costs.layouts, costs.drawn, costs.styled):
            each.clear()
        await pilot.press("s")
    assert costs.layouts.total() <= 2
    assert set(costs.drawn) == {"ChopsUpdate"}
    assert max(costs.styled.values(), default=0) <= 1  # when it is shown; not when it is marked as fresh
    assert len(costs.styled) <= 16
