"""Keys in the order in which they were typed: each is dealt with, to its end, before the next is looked at."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen

from tui_gru.tui.screens.main import MainScreen

SLICE = 0.03  # seconds after which keys that wait let the screen be drawn
AGAIN = 0.005  # seconds until it is looked again whether a key that waits may be dealt with
REPEAT = 0.07  # seconds: the same key again within that is a key held down
LAG = 0.3  # seconds that a key held down may have waited for runs
HANDLING = 10.0  # seconds for a key to be handled, which takes longer only where its way to the app is cut
PATIENCE = 0.5  # seconds for what a panel has asked to come to the screen
STOPPING = frozenset({"stop", "interrupt"})  # verbs that end a run


class Fence(Message):
    """Comes to the app behind all that was asked before it, the way that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = asyncio.Event()


class _Typed(NamedTuple):
    """A key or a paste; whether the key was held down, and how long keys had waited for runs before it."""

    event: events.Key | events.Paste
    held: bool
    waited: float


class Keyboard:
    """Textual hands a key from queue to queue, to what has the focus and up to the app, and meanwhile takes the next.

    So a key could come before what an earlier one had opened, or while what it had started went on, and be lost. Here a key
    that does not apply while a run goes on waits for its end; one that stops the run reaches it at once, and those that wait
    are forgotten. Of a key held down, those are left out that would be done long after it was let go. What goes wrong with a key
    is given to `failed`, with words for what was being done, and the next key is dealt with.
    """

    def __init__(
        self, app: App[Any], hand_on: Callable[[events.Event], Awaitable[None]], failed: Callable[[Exception, str], None]
    ) -> None:
        self._app, self._hand_on, self._failed = app, hand_on, failed
        self._typed: deque[_Typed] = deque()
        self._task: asyncio.Task[None] | None = None
        self._newest = ("", 0.0)  # the newest key and when it came
        self._last = ""  # the key dealt with last
        self._screen: Screen[Any] | None = None  # where it was dealt with
        self._waited = 0.0

    @property
    def waiting(self) -> int:
        """How many keys wait for those before them, or for a run."""
        return len(self._typed)

    @property
    def busy(self) -> bool:
        """Whether a key waits or is being dealt with."""
        return self._task is not None and not self._task.done()

    def put(self, event: events.Key | events.Paste) -> None:
        """Take a key, to be dealt with in its turn."""
        screen = self._app.screen
        if isinstance(event, events.Key):
            if isinstance(screen, MainScreen) and screen.running and self._stops(event.key):
                self._typed.clear()
                screen.session.interrupt()
                return
            now = time.monotonic()
            held = self._newest[0] == event.key and now - self._newest[1] < REPEAT
            self._newest = event.key, now
            self._typed.append(_Typed(event, held, self._waited))
        else:
            self._typed.append(_Typed(event, False, self._waited))
        if not self.busy:
            self._task = asyncio.create_task(self._deal(), name="keyboard")

    def close(self) -> None:
        """Deal with no more."""
        self._typed.clear()
        if self._task is not None:
            self._task.cancel()

    async def _deal(self) -> None:
        begun = time.perf_counter()
        try:
            while self._typed:
                await self._wait_for_turn()
                if not self._typed:
                    break
                typed = self._typed.popleft()
                if typed.held and self._waited - typed.waited > LAG:
                    continue
                try:
                    await self._deal_with(typed.event)
                except Exception as error:
                    self._failed(error, f"dealing with {typed.event!r}")
                if time.perf_counter() - begun > SLICE:
                    await asyncio.sleep(0)
                    begun = time.perf_counter()
        except Exception as error:
            self._typed.clear()
            self._failed(error, "dealing with keys")

    async def _wait_for_turn(self) -> None:
        """Until the first of the keys that wait may be dealt with, or none waits any more.

        Keys that wait for what is to be opened are for that, however long it takes: a wait of theirs leaves none out.
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
        """Whether a key has something to do as things are, or nothing at any time."""
        focused = self._app.focused
        if focused is not None and focused.check_consume_key(event.key, event.character):
            return True
        bound = self._app.screen.active_bindings.get(event.key)
        return bound is None or bound.enabled

    def _stops(self, key: str) -> bool:
        bound = self._app.screen.active_bindings.get(key)
        return bound is not None and bound.binding.id in STOPPING

    async def _deal_with(self, event: events.Key | events.Paste) -> None:
        """Hand one key to Textual, and wait until it has been handled, and the messages that it caused as well."""
        screen = self._app.screen
        if screen is not self._screen:
            self._screen = screen
            await self._fence(screen)  # until it is there, and has its focus
        focused = self._app.focused or screen
        if isinstance(event, events.Key):
            self._last = event.key
        await self._hand_on(event)
        await self._fence(focused, HANDLING)
        if focused is not screen:
            await self._fence(focused)

    async def _fence(self, node: MessagePump, patience: float = PATIENCE) -> None:
        """Wait until the app has handled every message that this node has sent so far."""
        fence = Fence()
        if node.is_attached and node.post_message(fence):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await fence.passed.wait()
