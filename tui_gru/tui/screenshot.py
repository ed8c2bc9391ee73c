"""A picture of the screen after some keys, without a terminal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from textual.keys import KEY_TO_UNICODE_NAME, Keys
from textual.pilot import Pilot

from tui_gru.engine.config import Config
from tui_gru.tui.app import TuiGruApp, make_app
from tui_gru.tui.glyphs import UNICODE
from tui_gru.tui.screens.main import MainScreen

NAMED = {key.value for key in Keys} | set(KEY_TO_UNICODE_NAME.values()) | {"space", "plus", "minus"}


def take(config: Config, keys: Sequence[str], size: tuple[int, int], out: Path, *, theme: str | None = None) -> None:
    """Save what the debugger shows after `keys`, at `size` (columns, rows), as SVG."""
    app = make_app(config, theme=theme)
    app.glyphs = UNICODE
    out.write_text(asyncio.run(_picture(app, keys, size)), encoding="utf-8")


async def _picture(app: TuiGruApp, keys: Sequence[str], size: tuple[int, int]) -> str:
    async with app.run_test(size=size) as pilot:
        for key in single_keys(keys):
            await pilot.press(key)
            await until_idle(pilot)
        await until_checked(pilot)
        await pilot.pause()
        return app.export_screenshot(title="tui-gru")


async def until_idle(pilot: Pilot[None]) -> None:
    """Wait until no key waits and no run is under way."""
    app = pilot.app
    while (isinstance(app, TuiGruApp) and app.keyboard.busy) or (isinstance(app.screen, MainScreen) and app.screen.running):
        await pilot.pause(0.02)


async def until_checked(pilot: Pilot[None]) -> None:
    """Wait until a check that is waited for has come out."""
    screen = pilot.app.screen
    while isinstance(screen, MainScreen) and screen.checking:
        await pilot.pause(0.02)


def single_keys(tokens: Iterable[str]) -> Iterator[str]:
    """Keys one by one: `10s` is 1, 0, s; `enter`, `space` and `shift+tab` are one key each; any other word is its letters."""
    for token in tokens:
        if token in NAMED or re.fullmatch(r"(ctrl|shift)\+\w+", token):
            yield token
        else:
            yield from token
