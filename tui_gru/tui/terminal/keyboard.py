"""A queue of keys: each key is handled completely before the next one."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from textual import events
from textual.app import App
from textual.keys import KEY_NAME_REPLACEMENTS, REPLACED_KEYS, key_to_character
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Input

from tui_gru.tui.screens.main import MainScreen
from tui_gru.tui.terminal.input_parser import TypedText

SLICE = 0.03  # seconds of handling keys after which the screen is drawn
AGAIN = 0.005  # seconds between checks whether a waiting key can be handled
REPEAT = 0.07  # seconds; the same key again within this time counts as held down
LAG = 0.3  # seconds; a held key that has waited longer for runs is dropped
HANDLING = 10.0  # seconds until a key counts as handled; it takes longer only if the key never reaches the app
PATIENCE = 0.5  # seconds to wait for messages that a panel has sent
STOPPING = frozenset({"stop", "interrupt"})  # verbs that end a run


class QueueMarker(Message):
    """A message that reaches the app after all messages that its sender has sent before."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = asyncio.Event()


class _Waiting(NamedTuple):
    """A key or a paste, with whether it was held down, and the total time that keys had waited for runs when it was typed."""

    event: events.Key | events.Paste
    held: bool
    waited: float


class Keyboard:
    """Handles keys in the order in which they were typed.

    Textual passes a key from queue to queue, to the focused widget and up to the app, and meanwhile accepts the next one. So a key
    could arrive before the panel that an earlier key opens, or during the run that it starts, and be lost. Here, a key that does
    not apply during a run waits for its end. A key that stops the run is handled at once and discards the waiting ones. Repeats of
    a held key that would be executed long after its release are dropped. Characters for an input line that wait together are put
    there together. An error of a key is passed to `failed`, with a
    description of what was being done, and the next key is handled.
    """

    def __init__(
        self, app: App[Any], hand_on: Callable[[events.Event], Awaitable[None]], failed: Callable[[Exception, str], None]
    ) -> None:
        self._app, self._hand_on, self._failed = app, hand_on, failed
        self._typed: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._newest = ("", 0.0)  # the newest key and its time
        self._last = ""  # the key handled last
        self._screen: Screen[Any] | None = None  # the screen on which it was handled
        self._waited = 0.0

    @property
    def waiting(self) -> int:
        """The number of keys that wait for earlier ones or for a run."""
        return len(self._typed)

    @property
    def busy(self) -> bool:
        """True if a key waits or is being handled."""
        return self._task is not None and not self._task.done()

    def put(self, event: events.Key | events.Paste | TypedText) -> None:
        """Add keys or a paste to the queue. A key that stops a run does that at once, and discards the keys before it."""
        screen, stopping = self._app.screen, self._stopping()
        for each in map(key_event, event.text) if isinstance(event, TypedText) else (event,):
            if isinstance(each, events.Key) and each.key in stopping and isinstance(screen, MainScreen):
                self._typed.clear()
                screen.session.interrupt()
                continue
            held = False
            if isinstance(each, events.Key):
                now = time.monotonic()
                held = self._newest[0] == each.key and now - self._newest[1] < REPEAT
                self._newest = each.key, now
            self._typed.append(_Waiting(each, held, self._waited))
        if self._typed and not self.busy:
            self._task = asyncio.create_task(self._handle_all(), name="keyboard")

    def close(self) -> None:
        """Discard the waiting keys and stop handling."""
        self._typed.clear()
        if self._task is not None:
            self._task.cancel()

    async def _handle_all(self) -> None:
        begun = time.perf_counter()
        try:
            while self._typed:
                await self._wait_for_turn()
                if not self._typed:
                    break
                typed = self._typed.popleft()
                if typed.held and self._waited - typed.waited > LAG:
                    continue
                event = self._together(typed.event)
                try:
                    await self._handle(event)
                except Exception as error:
                    self._failed(error, f"handling {event!r}")
                if time.perf_counter() - begun > SLICE:
                    await asyncio.sleep(0)
                    begun = time.perf_counter()
        except Exception as error:
            self._typed.clear()
            self._failed(error, "handling keys")

    async def _wait_for_turn(self) -> None:
        """Wait until the first key in the queue can be handled, or the queue is empty.

        Time spent waiting for a panel to open is not counted, so that keys meant for the panel are not dropped.
        """
        begun = time.perf_counter()
        opening = False
        while self._typed and not self._may(self._typed[0].event):
            opening = opening or getattr(self._app.screen, "expecting", False)
            await asyncio.sleep(AGAIN)
        if not opening and (waited := time.perf_counter() - begun) > 2 * AGAIN:
            self._waited += waited

    def _may(self, event: events.Key | events.Paste) -> bool:
        screen = self._app.screen
        if not isinstance(screen, MainScreen):
            return True
        again = isinstance(event, events.Key) and event.key == self._last
        if screen.expecting and not again:
            return False
        return not screen.running or isinstance(event, events.Paste) or self._applies(event)

    def _applies(self, event: events.Key) -> bool:
        """Return True if a key has an effect now, or never has one."""
        focused = self._app.focused
        if focused is not None and focused.check_consume_key(event.key, event.character):
            return True
        bound = self._app.screen.active_bindings.get(event.key)
        return bound is None or bound.enabled

    def _stopping(self) -> frozenset[str]:
        """Return the keys that stop the run, none without a run."""
        screen = self._app.screen
        if not (isinstance(screen, MainScreen) and screen.running):
            return frozenset()
        return frozenset(key for key, bound in screen.active_bindings.items() if bound.binding.id in STOPPING)

    def _together(self, event: events.Key | events.Paste) -> events.Key | events.Paste:
        """Return a key, or a paste of it and of the keys behind it as far as an input line has the focus and takes them as text."""
        line = self._app.focused
        if not (isinstance(line, Input) and isinstance(event, events.Key) and event.is_printable):
            return event
        bound = {key for key, each in self._app.screen.active_bindings.items() if each.node is line or each.binding.priority}
        text = []
        following: events.Key | events.Paste | None = event
        while isinstance(following, events.Key) and following.is_printable and following.key not in bound:
            text.append(following.character or "")
            if len(text) > 1:
                self._typed.popleft()
            following = self._typed[0].event if self._typed else None
        return event if len(text) < 2 else events.Paste("".join(text))

    async def _handle(self, event: events.Key | events.Paste) -> None:
        """Pass a key to Textual, and wait until the key and the messages that it caused have been handled."""
        screen = self._app.screen
        if screen is not self._screen:
            self._screen = screen
            await self._fence(screen)  # wait until the screen is mounted and has its focus
        focused = self._app.focused or screen
        if isinstance(event, events.Key):
            self._last = event.key
        await self._hand_on(event)
        await self._fence(focused, HANDLING)
        if focused is not screen:
            await self._fence(focused)

    async def _fence(self, node: MessagePump, patience: float = PATIENCE) -> None:
        """Wait until the app has handled every message that this node has sent so far."""
        fence = QueueMarker()
        if node.is_attached and node.post_message(fence):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await fence.passed.wait()


def key_event(key: str) -> events.Key:
    """Return the event of a key, given by its name or its character."""
    if len(key) > 1:
        return events.Key(key, key_to_character(REPLACED_KEYS.get(key, key)))
    name = key if key.isalnum() else unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")
    return events.Key(KEY_NAME_REPLACEMENTS.get(name, name), key)
