"""Keys typed at an app that has no terminal, and what they lead to waited for."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from textual.app import App
from textual.events import Key
from textual.keys import KEY_NAME_REPLACEMENTS, REPLACED_KEYS, key_to_character
from textual.pilot import Pilot

from tui_gru.tui.terminal.drawn import drawn_once

Result = TypeVar("Result")

TURNS = 20
RESIZE = 1 / 60  # seconds; Textual hands a new size on by a timer of half of that, which comes first however slow the machine is


class PromptPilot(Pilot[Result]):
    """A pilot that goes on as soon as no widget has a message left and all is drawn.

    Textual's own waits, three times for a key, until the process has done nothing for 20 ms: most of the time of a test, and
    longer where the machine is busy with something else.
    """

    async def press(self, *keys: str) -> None:
        """Type keys, by their names or their characters, and after each wait for what it leads to."""
        for key in keys:
            self.app.post_message(key_event(key))
            await self.pause()

    async def pause(self, delay: float | None = None) -> None:
        """Wait `delay` seconds, or until no widget has a message left and all is drawn."""
        if delay is not None:
            await super().pause(delay)
            return
        await self._turns()
        await super().pause(0)
        while self._waiting():
            await self._turns()
            await super().pause(0)

    async def resize_terminal(self, width: int, height: int) -> None:
        """Give the terminal another size, and wait until the screen has it."""
        await super().resize_terminal(width, height)
        await asyncio.sleep(RESIZE)
        await self.pause()

    async def _turns(self) -> None:
        """Give the widgets a few turns to deal with their messages before it is drawn: drawing costs more."""
        for _ in range(TURNS):
            if not self._waiting():
                break
            await asyncio.sleep(0)

    def _waiting(self) -> bool:
        """Whether a widget has messages left."""
        return any(node.message_queue_size for node in (self.app, *self.app.screen.walk_children(with_self=True)))


def key_event(key: str) -> Key:
    """What a terminal sends for a key, given by its name or its character."""
    if len(key) == 1 and not key.isalnum():
        name = unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")
        key = KEY_NAME_REPLACEMENTS.get(name, name)
    return Key(key, key_to_character(REPLACED_KEYS.get(key, key)))


@asynccontextmanager
async def headless(app: App[Result], size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[PromptPilot[Result]]:
    """Run an app without a terminal, of a size (columns, rows). What it raises is raised at the end."""
    async with AsyncExitStack() as stack:
        with drawn_once(app):
            await stack.enter_async_context(app.run_test(size=size, **options))
        yield PromptPilot(app)
