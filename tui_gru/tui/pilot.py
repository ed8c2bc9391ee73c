"""Runs an app without a terminal, types keys, and waits for their effects."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from textual.app import App
from textual.pilot import Pilot

from tui_gru.tui.terminal.drawn import at_rest, draw_changes, drawn_later, drawn_once
from tui_gru.tui.terminal.keyboard import key_event

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
