"""Runs the screen without a terminal: types keys, waits for their effects, saves pictures, and executes commands of another
thread."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, ClassVar, TypeVar

from textual.app import App
from textual.keys import KEY_TO_UNICODE_NAME, Keys
from textual.pilot import Pilot
from textual.widgets import Input

from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.session.snapshot import View
from tui_gru.tui.analysing import checking
from tui_gru.tui.app import TuiGruApp, key_event, make_app
from tui_gru.tui.command import CommandLine
from tui_gru.tui.help import HelpPanel
from tui_gru.tui.keys import KEY_SIGNS, commands_of, execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.check import CheckReport
from tui_gru.tui.panels.lists import BranchList, StopsList
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import NumberInView, at_rest, draw_changes, drawn_later, drawn_lines, drawn_once, numbers_on
from tui_gru.tui.theme import UNICODE

# ------------------------------------------------------------------------------
# Runs an app without a terminal, types keys, and waits for their effects.


Result = TypeVar("Result")

TURNS = 8  # of the event loop, in which what has just ended resumes what has waited for it
SPINS = 50  # checks of the widgets without a wait
AGAIN = 0.001  # seconds between later checks
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
        for checks in itertools.count():
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if at_rest(self.app):
                break
            if checks > SPINS:
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
        try:
            yield PromptPilot(app)
        except BaseException:
            if isinstance(app, TuiGruApp):
                app.stop_runs()  # the end of the app waits for the thread of a run
            raise


# ------------------------------------------------------------------------------
# Takes a picture of the screen after some keys, without a terminal.


NAMED = {key.value for key in Keys} | set(KEY_TO_UNICODE_NAME.values()) | {"space", "plus", "minus"}


def take(config: Config | Session, keys: Sequence[str], size: tuple[int, int], *, theme: str | None = None) -> str:
    """Return the screen after `keys`, at `size` (columns, rows), as SVG. A `Config` starts a new run.

    Raises `TuiGruError` if a key is invalid.
    """
    app = make_app(config, theme=theme)
    app.glyphs = UNICODE
    pressed = list(single_keys(keys))
    return asyncio.run(_picture_after_keys(app, pressed, size))


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
    """Wait until what a panel waits for, such as a check, is computed, or the app has ended."""
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
        screen.is_watched = False
        try:
            if is_keys(command):
                for key in single_keys(command.split()):
                    awaited = key.isdigit() or screen.awaits_key or isinstance(screen.focused, Input)
                    if not awaited and key_event(key).key not in screen.active_bindings:
                        raise TuiGruError(f"the key {key} has no meaning here; `tui-gru` and ? show the keys")
                    await type_keys(pilot, [key])
            else:
                execute(screen, command)
                await until_idle(pilot)
            await until_checked(pilot)
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


# ------------------------------------------------------------------------------
# The main screen, run by a thread, on which another thread executes commands.


Job = Callable[[PromptPilot[None], MainScreen], Awaitable[Any]]
NO_RESULT = object()  # of a verb that executes nothing on the session


class UnseenScreen:
    """Executes commands on the main screen. `execute`, `rows` and `close` are called by another thread.

    Textual redirects the standard streams while a screen runs, and then puts back those that it found. Screens end in any order,
    so the last one to end puts back the streams that were there before the first.
    """

    _running: ClassVar[set[UnseenScreen]] = set()
    _streams: ClassVar[list[Any]] = []  # before the first; none if another app has them, which puts them back

    def __init__(self, session: Session, view: View, size: tuple[int, int]) -> None:
        if not self._running:
            self._streams[:] = (sys.stdout, sys.stderr) if isinstance(sys.stdout, io.TextIOBase) else ()
        self._running.add(self)
        self.session = session
        self._jobs: asyncio.Queue[tuple[Job, Future[Any]] | None] = asyncio.Queue()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, args=(view, size), name="screen", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    def execute(self, times: int, key: str, line: str) -> tuple[str, str, Any]:
        """Press a key, after a count if `times` is not 0, or execute a line.

        Returns the words of the last row, the panel that was opened or changed as text, and the result of the verb. Raises
        `TuiGruError` if the command is refused.
        """
        answer: tuple[str, str, Any] = self._done(partial(self._carry_out, times, key, line))
        return answer

    def rows(self, size: tuple[int, int]) -> list[str]:
        """Return the rows of the screen as text, at a size (columns, rows), which it keeps."""
        rows: list[str] = self._done(partial(self._read_rows, size))
        return rows

    def numbers(self) -> list[NumberInView]:
        """Return the numbers of the screen whose values are known, with their places in its rows."""
        numbers: list[NumberInView] = self._done(self._read_numbers)
        return numbers

    def close(self) -> None:
        before = sys.stdout, sys.stderr  # the thread changes them at its end
        self._loop.call_soon_threadsafe(self._jobs.put_nowait, None)
        self._thread.join()
        self._running.discard(self)
        if isinstance(before[0], io.TextIOBase):  # an app in whose time this screen began has ended, and has put them back already
            sys.stdout, sys.stderr = before
        elif not self._running and self._streams:
            sys.stdout, sys.stderr = self._streams

    def _done(self, job: Job) -> Any:
        """Have the thread of the screen do a job, and return its result."""
        done: Future[Any] = Future()
        self._loop.call_soon_threadsafe(self._jobs.put_nowait, (job, done))
        return done.result()

    def _run(self, view: View, size: tuple[int, int]) -> None:
        try:
            asyncio.run(self._serve(view, size))
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self, view: View, size: tuple[int, int]) -> None:
        app = TuiGruApp(self.session, theme=None, glyphs=UNICODE, own_keys={})
        async with headless(app, size, drawn=False) as pilot:
            assert app.main is not None
            app.main.is_watched = False
            app.main.set_view(view)
            self._ready.set_result(asyncio.get_running_loop())
            with drawn_later(app):  # panels are built where they are read; nobody sees the screen
                while (next_job := await self._jobs.get()) is not None:
                    job, done = next_job
                    try:
                        done.set_result(await job(pilot, app.main))
                    except Exception as error:
                        done.set_exception(error)

    async def _read_rows(self, size: tuple[int, int], pilot: PromptPilot[None], main: MainScreen) -> list[str]:
        if pilot.app.size != size:
            await pilot.resize_terminal(*size)
        await pilot.pause()
        return [strip.text for strip in drawn_lines(main)]

    async def _read_numbers(self, pilot: PromptPilot[None], main: MainScreen) -> list[NumberInView]:
        return list(numbers_on(main))

    async def _carry_out(self, times: int, key: str, line: str, pilot: PromptPilot[None], main: MainScreen) -> tuple[str, str, Any]:
        main.say("")
        main.runner.result = NO_RESULT
        before, focused = _content(main), main.focused
        if key:
            await type_keys(pilot, [*str(times or ""), key if key in NAMED else KEY_SIGNS.get(key, key)])
        elif len(line) == 1 and main.awaits_key:
            await type_keys(pilot, [line])
        else:
            execute(main, line)
        await until_idle(pilot)
        await pilot.pause()  # a panel of a check is mounted
        await until_checked(pilot)
        await until_idle(pilot)  # what a panel begins as it is mounted
        await pilot.pause()
        self.session = main.session
        if pilot.app.screen is not main:  # the help
            text = pilot.app.screen.query_one(HelpPanel).topics
            await type_keys(pilot, ["escape"])
            return "", text, None
        if isinstance(main.focused, CommandLine):  # a key has opened the `:` line
            begun = main.focused.value
            await type_keys(pilot, ["escape"])
            raise TuiGruError(f"this needs more: type it as {begun}…")
        words, notice = main.bottom.message, main.notice
        if main.bottom.warning and not main.question and not main.pending.awaited and not (notice is not None and notice.warning):
            raise TuiGruError(words.removesuffix(f" · {main.standing()}"))
        if isinstance(main.overlay, CheckReport) and main.overlay.problem:
            raise TuiGruError(main.overlay.problem)
        after = _content(main)
        panel = after if after != before or main.focused is not focused else ""
        result = main.runner.result
        return words, panel, result if result is not NO_RESULT else _listed(main) if panel else None


def _content(main: MainScreen) -> str:
    """Return the text of the overlay, otherwise of the panel in focus; empty if there is none."""
    panel = main.overlay or main.focused
    return panel.plain_text() if isinstance(panel, Panel) else ""


def _listed(main: MainScreen) -> Any:
    """Return what the panel lists that a verb has opened; None for other panels."""
    overlay, state = main.overlay, main.snapshot.state
    if isinstance(overlay, CheckReport):
        return overlay.report
    if isinstance(overlay, BranchList):
        return main.snapshot.forks
    if isinstance(overlay, StopsList):
        return {"breakpoints": state.stops.breakpoints, "watches": state.stops.watches, "marks": state.marks.sorted}
    return None
