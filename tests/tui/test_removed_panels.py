"""Keys and clicks for a panel that has just been removed do nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from textual import events
from textual.errors import NoWidget

from tests.tui.test_keyboard import burst, settled
from tests.tui.test_main_screen import Driver, driving
from tui_gru.tui.ask import AskScreen
from tui_gru.tui.panels.derivation import DerivationPanel
from tui_gru.tui.panels.lists import BranchList


def click(d: Driver, x: int, y: int) -> None:
    """Click as the terminal sends it, after the typed keys."""
    for kind in (events.MouseDown, events.MouseMove, events.MouseUp):
        button = 0 if kind is events.MouseMove else 1
        d.pilot.app.post_message(kind(None, x, y, 0, 0, button, False, False, False, screen_x=x, screen_y=y))


async def opened(d: Driver) -> DerivationPanel:
    await d.type("s", "n", ":why loss")
    panel = d.screen.overlay
    assert isinstance(panel, DerivationPanel)
    return panel


@pytest.mark.parametrize("key", ["J", "B", "escape"])
async def test_clicks_behind_the_key_that_removes_a_panel(key: str) -> None:
    async with driving((100, 30)) as d:
        await opened(d)
        for _ in range(3):
            burst(d, key)
            for _ in range(4):
                click(d, 70, 15)
            burst(d, "enter", "down")
            click(d, 70, 16)
        await settled(d)
        await d.type("escape", "escape")
        await d.type("o")
        assert d.says == ""


async def test_what_is_removed_and_still_to_be_seen_is_not_there_for_the_mouse() -> None:
    async with driving((100, 30)) as d:
        panel = await opened(d)
        x, y = panel.region.offset.x + 10, panel.region.offset.y + 5
        assert d.screen.get_widget_at(x, y)[0] is panel
        removed = panel.remove()
        await removed
        with suppress(NoWidget):  # until the screen is arranged anew
            assert d.screen.get_widget_at(x, y)[0] is not panel
        assert d.screen.get_focusable_widget_at(x, y) is not panel
        click(d, x, y)
        await settled(d)
        assert d.screen.focused is not panel


async def test_a_panel_that_is_removed_takes_neither_focus_nor_keys() -> None:
    async with driving() as d:
        panel = await opened(d)
        await panel.remove()
        d.screen.set_focus(panel)
        assert d.screen.focused is not panel
        assert panel.check_action("open", ()) is False
        await d.type("o")
        assert d.says == ""


async def test_one_overlay_after_the_other_at_once() -> None:
    """The first overlay is cancelled for the next one."""
    async with driving() as d:
        for _ in range(5):
            d.screen.overlays.cover(BranchList())
        await settled(d)
        assert len(d.screen.query(".-overlay")) == 1
        await d.type("down", "escape", "o")
        assert d.screen.overlay is None
        assert d.session.position.tick == 1


async def test_the_help_has_no_room() -> None:
    async with driving((100, 30)) as d:
        for steps, size in enumerate([(10, 3), (1, 1), (6, 2)], 1):
            await d.type("ctrl+p", *"step")
            async with asyncio.timeout(60):
                while not isinstance(d.pilot.app.screen, AskScreen):
                    await d.pilot.pause(0.01)
            await d.pilot.resize_terminal(*size)
            await d.type("down", "pagedown", "up", "pageup", "end", "home", "pagedown")
            await d.pilot.resize_terminal(100, 30)
            await d.type("down", "pagedown", "pageup", "escape", "o")
            assert d.session.position.tick == steps, size
