"""Runs the screen without a terminal: types keys, waits for their effects, and saves pictures."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from textual.app import App
from textual.keys import KEY_TO_UNICODE_NAME, Keys
from textual.pilot import Pilot
from textual.widgets import Input

from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.tui.app import TuiGruApp, key_event, make_app
from tui_gru.tui.keys import commands_of, execute
from tui_gru.tui.looking import checking
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import at_rest, draw_changes, drawn_later, drawn_once
from tui_gru.tui.theme import UNICODE

# ------------------------------------------------------------------------------
# Runs an app without a terminal, types keys, and waits for their effects.


Result = TypeVar("Result")

TURNS = 8  # of the event loop, in which what has just ended resumes what has waited for it
SPINS = 50  # times that the widgets are looked at without a wait
AGAIN = 0.001  # seconds between later looks
RESIZE = 1 / 60  # seconds; Textual applies a new size after half of that time, so always before the end of this wait


class PromptPilot(Pilot[Result]):
    """A pilot that continues as soon as no widget has a message left and everything is drawn.

    Textual's own waits three times per key until the process has been idle for 20 ms, which would be most of the time of a test,
    and more on a busy machine.
    """

    async def press(self, *keys: str) -> None:
        """Type keys, given by names or characters, and wait for the effects of each."""
        for key in keys:
            self.app.post_message(key_event(key))
            await self.pause()

    async def pause(self, delay: float | None = None) -> None:
        """Wait `delay` seconds, or until no widget has a message left and everything is drawn, or the app has ended."""
        if delay is not None:
            await super().pause(delay)
            return
        while True:
            await self._rest()
            if not self.app.is_running:
                break
            draw_changes(self.app.screen)
            if at_rest(self.app):
                break

    async def resize_terminal(self, width: int, height: int) -> None:
        """Change the size of the terminal, and wait until the screen has it."""
        await super().resize_terminal(width, height)
        await asyncio.sleep(RESIZE)
        await self.pause()

    async def _rest(self) -> None:
        """Wait until no widget has a message left or is handling one."""
        for looked in itertools.count():
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if at_rest(self.app):
                break
            if looked > SPINS:
                await asyncio.sleep(AGAIN)


@asynccontextmanager
async def headless(
    app: App[Result], size: tuple[int, int] = (80, 24), *, drawn: bool = True, **options: Any
) -> AsyncIterator[PromptPilot[Result]]:
    """Run an app without a terminal, with a size (columns, rows). Errors of the app are raised at the end.

    If not `drawn`, the first screen is only laid out, and drawn with what follows.
    """
    async with AsyncExitStack() as stack:
        with (drawn_once if drawn else drawn_later)(app):
            await stack.enter_async_context(app.run_test(size=size, **options))
        yield PromptPilot(app)


# ------------------------------------------------------------------------------
# Saves a picture of the screen after some keys, without a terminal.


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


# ------------------------------------------------------------------------------
# Commands of the `:` line and keys with counts, given as one text.


def is_keys(command: str) -> bool:
    """Return True if a command consists of single keys with counts, `l 40n s`; otherwise it is one of the `:` line."""
    words = command.split()
    return all(word.isdigit() or len(word.lstrip("0123456789")) == 1 or word in NAMED for word in words)


async def type_commands(pilot: Pilot[None], text: str) -> list[int]:
    """Execute commands, each when the one before is over, and return the tick before the first and after each.

    Raises `TuiGruError` with the message of a command that is refused.
    """
    assert isinstance(pilot.app.screen, MainScreen)
    ticks = [pilot.app.screen.session.position.tick]
    for command in commands_of(text):
        screen = pilot.app.screen
        assert isinstance(screen, MainScreen)
        try:
            if is_keys(command):
                for key in single_keys(command.split()):
                    _check_meaning(screen, key)
                    await type_keys(pilot, [key])
            else:
                execute(screen, command)
                await until_idle(pilot)
                await pilot.pause()
        except TuiGruError as error:
            raise TuiGruError(f"{command}: {error}", option="x") from None
        if not pilot.app.is_running:
            raise TuiGruError(f"{command} leaves the debugger; leave it out", option="x")
        notice = screen.notice
        if screen.bottom.warning and (notice is None or not notice.warning):  # an error; a run that stops with a warning is none
            raise TuiGruError(f"{command}: {screen.bottom.message}", option="x")
        ticks.append(screen.session.position.tick)
    return ticks


def _check_meaning(screen: MainScreen, key: str) -> None:
    """Raise `TuiGruError` if nothing awaits a key and nothing is bound to it."""
    taken = key.isdigit() or screen.awaits_key or isinstance(screen.focused, Input)
    if not taken and key_event(key).key not in screen.active_bindings:
        raise TuiGruError(f"the key {key} has no meaning here; `tui-gru` and ? show the keys")
