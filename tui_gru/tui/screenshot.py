"""Saves a picture of the screen after some keys, without a terminal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from textual.keys import KEY_TO_UNICODE_NAME, Keys
from textual.pilot import Pilot

from tui_gru.debugger.session.session import Session
from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.app import TuiGruApp, make_app
from tui_gru.tui.look.glyphs import UNICODE
from tui_gru.tui.pilot import headless
from tui_gru.tui.screens.main import MainScreen
from tui_gru.tui.terminal.drawn import drawn_once
from tui_gru.tui.verbs.checking import checking

NAMED = {key.value for key in Keys} | set(KEY_TO_UNICODE_NAME.values()) | {"space", "plus", "minus"}


def take(config: Config | Session, keys: Sequence[str], size: tuple[int, int], out: Path, *, theme: str | None = None) -> None:
    """Save the screen after `keys`, at `size` (columns, rows), as SVG. A `Config` starts a new run.

    Raises `TuiGruError` if a key is invalid.
    """
    app = make_app(config, theme=theme)
    app.glyphs = UNICODE
    pressed = list(single_keys(keys))
    out.write_text(asyncio.run(_picture_after_keys(app, pressed, size)), encoding="utf-8")


async def _picture_after_keys(app: TuiGruApp, keys: Sequence[str], size: tuple[int, int]) -> str:
    async with headless(app, size, drawn=False) as pilot:
        await type_keys(pilot, keys)
        await until_checked(pilot)
        await pilot.pause()
        return app.export_screenshot(title="tui-gru")


async def type_keys(pilot: Pilot[None], tokens: Iterable[str]) -> None:
    """Type keys, as `single_keys` reads them, each when all that the one before it has started is over; then draw, once."""
    with drawn_once(pilot.app):
        for key in single_keys(tokens):
            await pilot.press(key)
            await until_idle(pilot)
    await pilot.pause()


async def until_idle(pilot: Pilot[None]) -> None:
    """Wait until no key waits and no run is active, or the app has ended."""

    def busy() -> bool:
        app = pilot.app
        return app.is_running and (
            (isinstance(app, TuiGruApp) and app.keyboard.busy) or (isinstance(app.screen, MainScreen) and app.screen.running)
        )

    await _while(busy)


async def until_checked(pilot: Pilot[None]) -> None:
    """Wait until a running check, or the app, has ended."""
    app = pilot.app
    await _while(lambda: app.is_running and isinstance(app.screen, MainScreen) and checking(app.screen))


async def _while(busy: Callable[[], bool]) -> None:
    """Poll after 1 ms, then at increasing intervals."""
    delay = 0.001
    while busy():
        await asyncio.sleep(delay)
        delay = min(2 * delay, 0.02)


def single_keys(tokens: Iterable[str]) -> Iterator[str]:
    """Split into single keys: `10s` is 1, 0, s; `enter`, `space` and `shift+tab` are one key each; other words are letters.

    Raises `TuiGruError` if a word resembles the name of a key, so that its letters are probably not meant.
    """
    for token in tokens:
        modified = re.fullmatch(r"(?:ctrl|shift)\+(.+)", token)
        if token in NAMED or (modified and (len(modified[1]) == 1 or modified[1] in NAMED)):
            yield token
        elif modified or (len(token) > 3 and (close := get_close_matches(token, NAMED, n=1, cutoff=0.79))):
            cure = "name it as ctrl+x, shift+tab" if modified else f"did you mean {close[0]}? Its letters are {' '.join(token)}"
            raise TuiGruError(f"{token!r} is not a key; {cure}", option="keys")
        else:
            yield from token
