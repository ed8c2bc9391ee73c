"""The cursor on numbers: it is seen in every panel and theme, and moves from place to place."""

from __future__ import annotations

import pytest
from rich.segment import Segment

from tests.tui.test_main_screen import Driver, driving
from tui_gru.tui.draw import Ref
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import CellPanel, Panel
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.theme import OWN_THEMES


def cursor_cells(panel: Panel) -> str:
    """Return the text of the cells that are drawn as the cursor."""
    cursor = panel.palette.cursor

    def marked(segment: Segment) -> bool:
        style = segment.style
        return (
            style is not None
            and (style.bgcolor, style.reverse or None)
            == (
                cursor.bgcolor or style.bgcolor,
                cursor.reverse,
            )
            and (cursor.color is None or style.color == cursor.color)
        )

    rows = (panel.render_line(y) for y in range(panel.content_size.height))
    return "".join(segment.text for row in rows for segment in row if marked(segment))


@pytest.mark.parametrize("keys", ["n s ooo", "l n f", "l n n x"], ids=["gates", "backward", "update"])
async def test_the_cell_under_the_cursor_is_reversed_in_every_panel(keys: str) -> None:
    async with driving((160, 50)) as d:
        await d.type(*keys.split())
        for theme in OWN_THEMES:
            seen = set()
            d.pilot.app.theme = theme
            d.screen.set_focus(None)
            await d.pilot.pause()
            for panel in [p for p in d.screen.query(Panel) if isinstance(p, CellPanel | MatrixView) and p.region]:
                if isinstance(panel, CellPanel) and not panel.spots:
                    continue
                before = cursor_cells(panel)  # with sixteen colours, bars are drawn with the same style
                panel.focus()
                await d.pilot.pause()
                seen.add(type(panel))
                for _ in range(3):
                    assert cursor_cells(panel) != before, (theme, panel)
                    await d.type("down")
            assert len(seen) >= 3


async def line_of(d: Driver, text: str) -> CurrentLine:
    """Step to a line and put the focus on it."""
    for _ in range(60):
        if d.screen.snapshot.line is not None and d.screen.snapshot.line.text == text:
            break
        await d.type("o")
    line = d.screen.query_one(CurrentLine)
    line.focus()
    await d.type()
    return line


async def test_each_occurrence_of_a_value_is_a_place_of_its_own() -> None:
    async with driving((160, 50)) as d:
        line = await line_of(d, "h = z⊙hₜ₋₁ + (1 − z)⊙h̃")
        assert line.spot is not None
        assert line.spot.ref == Ref("h", (0, 0))  # it begins at the result
        await d.type(*["left"] * 20)
        places = [(line.spot.ref.name, line.spot.ref.index, line.spot.x)]
        for _ in range(20):
            await d.type("right")
            place = (line.spot.ref.name, line.spot.ref.index, line.spot.x)
            if place != places[-1]:
                places.append(place)
        assert [name for name, _, _ in places] == ["z", "z", "h_prev", "h_prev", "z", "z", "h_tilde", "h_tilde", "h", "h"]
        assert [x for _, _, x in places] == sorted(x for _, _, x in places)


async def test_down_never_goes_up() -> None:
    async with driving((80, 24)) as d:
        line = await line_of(d, "h = z⊙hₜ₋₁ + (1 − z)⊙h̃")
        for start in range(len(line.spots)):
            spot = line.spots[start]
            line.put_cursor(spot)
            await d.type()
            below = [line.spot.y if line.spot is not None else -1]
            for _ in range(4):
                await d.type("down")
                below.append(line.spot.y if line.spot is not None else -1)
            assert below == sorted(below)


async def test_the_written_out_entry_follows_the_cursor() -> None:
    async with driving((160, 50)) as d:
        line = await line_of(d, "h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh + bh)")
        assert "row 1, unit 1:" in line.plain_text()
        await d.type("down", "right")
        assert line.spot is not None
        assert line.spot.ref == Ref("h_tilde", (1, 1))
        assert "row 2, unit 2:" in line.plain_text()
        line.pointed = Ref("Wh", (0, 1))
        assert "row 1, unit 2:" in line.plain_text()
        line.pointed = Ref("r", (1, 0))
        assert "row 2, unit 1:" in line.plain_text()
        await d.type("escape")
        assert "row 1, unit 1:" in line.plain_text()
