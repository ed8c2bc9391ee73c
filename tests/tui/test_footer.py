"""The footer begins with the keys of the panel in focus, and goes on with the verbs."""

from __future__ import annotations

import pytest

from tests.tui.test_answers import SIZES, seen
from tests.tui.test_main_screen import Driver, driving
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.lists import StopsList
from tui_gru.tui.panels.time import LossCurve, TimeLine
from tui_gru.tui.panels.values import ValueMatrix
from tui_gru.tui.panels.weights import Overview, ParameterMatrix
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.terminal import drawn_lines


async def footer_on(d: Driver, panel: type[Panel]) -> str:
    d.screen.say("")
    d.screen.set_focus(d.screen.query(panel).first())
    await d.type()
    return seen(d)


async def test_the_keys_of_the_panel_in_focus_come_first() -> None:
    async with driving((160, 50)) as d:
        await d.type("n")
        assert seen(d).startswith("o line")
        assert (await footer_on(d, LossCurve)).startswith("← → batch , scale o line")
        assert (await footer_on(d, TimeLine)).startswith("← → through time enter next sign o line")
        for panel in (ValueMatrix, CurrentLine, Overview):
            footer = await footer_on(d, panel)
            assert footer.startswith("arrows number enter explain o line")
            assert footer.count("explain") == 1
        await d.type("escape")
        assert seen(d).startswith("o line")


async def test_the_keys_that_choose_a_parameter_are_there_where_one_is_shown() -> None:
    async with driving((160, 50), hidden_size=64) as d:
        assert "< > parameter" in await footer_on(d, ParameterMatrix)
    async with driving((160, 50)) as d:
        assert "parameter" not in await footer_on(d, Overview)


async def test_the_footer_is_drawn_again_only_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    render_line = BottomLine.render_line
    monkeypatch.setattr(BottomLine, "render_line", lambda line, y: rows.append(y) or render_line(line, y))
    async with driving((260, 50)) as d:
        await d.type("s")
        drawn_lines(d.screen)
        inks = []
        for key, drawn in (("s", False), ("a", True), ("s", True), ("s", False), ("u", True)):
            await d.type(key)
            rows.clear()
            shown = drawn_lines(d.screen)[-1].simplify()
            assert bool(rows) is drawn, key
            footer = d.screen.query_one(BottomLine)
            assert list(shown) == list(render_line(footer, footer.size.height - 1).simplify())
            inks.append(next(segment.style for segment in shown if "undo" in segment.text))
        assert inks[0] == inks[4] != inks[1] == inks[3]  # dimmed while there is nothing to undo


async def test_a_list_has_its_keys_in_its_border_and_the_footer_the_others() -> None:
    async with driving((160, 50)) as d:
        await d.type(":break h", "B")
        assert d.screen.overlay is not None
        assert "e edit" in d.screen.overlay.subheading
        footer = await footer_on(d, StopsList)
        assert footer.startswith("o line s timestep n batch a full step")
        assert not {"epoch", "play", "explain"} & set(footer.split())
        await d.type("escape")
        assert "e epoch" in seen(d)


@pytest.mark.parametrize("size", SIZES)
async def test_the_key_of_help_stays(size: tuple[int, int]) -> None:
    async with driving(size) as d:
        assert "? ask" in await footer_on(d, CurrentLine)
