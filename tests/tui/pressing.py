"""Types keys and commands into a running app."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.events import Paste
from textual.pilot import Pilot

from tui_gru.tui.headless import type_keys
from tui_gru.tui.panel import Panel
from tui_gru.tui.terminal import drawn_later


async def press(pilot: Pilot[Any], *typed: str) -> None:
    """Type keys, separated by spaces, and commands such as `:go e3`."""
    await press_each(pilot, [token for each in typed for token in ([each] if each.startswith(":") else each.split())])


async def press_each(pilot: Pilot[Any], tokens: Iterable[str]) -> None:
    """Type keys, as `type_keys` reads them, and draw the visible panels. The screen is composed of them when something reads it:
    that takes most of a drawing. A token that is a command is pasted, so that the screen need not answer each of its letters, and
    entered."""
    keys: list[str] = []
    with drawn_later(pilot.app):
        for token in tokens:
            if token.startswith(":") and token != ":":
                await type_keys(pilot, [*keys, ":"])
                pilot.app.post_message(Paste(token[1:]))
                keys = ["enter"]
            else:
                keys.append(token)
        await type_keys(pilot, keys)
        for panel in pilot.app.screen.walk_children(Panel) if pilot.app.screen_stack else ():
            if panel.region:
                _ = panel.drawn
        await pilot.pause()
