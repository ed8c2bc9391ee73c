"""Keys typed at an app that has no terminal, and what they lead to waited for."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from textual.app import App
from textual.events import Key
from textual.keys import KEY_NAME_REPLACEMENTS, REPLACED_KEYS, key_to_character
from textual.pilot import Pilot

Result = TypeVar("Result")


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
        await super().pause(delay or 0)
        while delay is None and any(node.message_queue_size for node in (self.app, *self.app.screen.walk_children(with_self=True))):
            await super().pause(0)


def key_event(key: str) -> Key:
    """What a terminal sends for a key, given by its name or its character."""
    if len(key) == 1 and not key.isalnum():
        name = unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")
        key = KEY_NAME_REPLACEMENTS.get(name, name)
    return Key(key, key_to_character(REPLACED_KEYS.get(key, key)))


@asynccontextmanager
async def headless(app: App[Result], size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[PromptPilot[Result]]:
    """Run an app without a terminal, of a size (columns, rows). What it raises is raised at the end."""
    async with app.run_test(size=size, **options):
        yield PromptPilot(app)
