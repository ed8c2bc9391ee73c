"""The main screen, run by a thread without a terminal, on which another thread executes commands."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from textual.pilot import Pilot

from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.session.snapshot import View
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.command import CommandLine
from tui_gru.tui.headless import NAMED, headless, type_keys, until_checked, until_idle
from tui_gru.tui.keys import KEY_SIGNS, execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.check import CheckReport
from tui_gru.tui.panels.lists import BranchList, StopsList
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import UNICODE

UnseenCommand = tuple[int, str, str]  # a count, a key, a line
NO_RESULT = object()  # of a verb that executes nothing on the session


class UnseenScreen:
    """Executes commands on the main screen. `execute` and `close` are called by another thread."""

    def __init__(self, session: Session, view: View, size: tuple[int, int]) -> None:
        self.session = session
        self._commands: asyncio.Queue[tuple[UnseenCommand, Future[tuple[str, str, Any]]] | None] = asyncio.Queue()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, args=(view, size), name="screen", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    def execute(self, times: int, key: str, line: str) -> tuple[str, str, Any]:
        """Press a key, after a count if `times` is not 0, or execute a line.

        Returns the words of the last row, the panel that was opened or changed as text, and the result of the verb. Raises
        `TuiGruError` if the command is refused.
        """
        done: Future[tuple[str, str, Any]] = Future()
        self._loop.call_soon_threadsafe(self._commands.put_nowait, ((times, key, line), done))
        return done.result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._commands.put_nowait, None)
        self._thread.join()

    def _run(self, view: View, size: tuple[int, int]) -> None:
        try:
            asyncio.run(self._serve(view, size))
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self, view: View, size: tuple[int, int]) -> None:

        app = TuiGruApp(self.session, theme=None, glyphs=UNICODE, own_keys={})
        async with headless(app, size) as pilot:
            assert app.main is not None
            app.main.look(view)
            self._ready.set_result(asyncio.get_running_loop())
            while (command := await self._commands.get()) is not None:
                typed, done = command
                try:
                    done.set_result(await self._carry_out(pilot, app.main, typed))
                except Exception as error:
                    done.set_exception(error)

    async def _carry_out(self, pilot: Pilot[None], main: MainScreen, typed: UnseenCommand) -> tuple[str, str, Any]:

        times, key, line = typed
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
            text = _drawn(pilot.app.screen)
            await type_keys(pilot, ["escape"])
            return "", text, None
        await self._leave_line(pilot, main)
        words, notice = main.bottom.message, main.notice
        if main.bottom.warning and not main.question and not main.pending.awaited and not (notice is not None and notice.warning):
            raise TuiGruError(words.removesuffix(f" · {main.standing()}"))
        after = _content(main)
        panel = after if after != before or main.focused is not focused else ""
        result = main.runner.result
        return words, panel, result if result is not NO_RESULT else _listed(main) if panel else None

    async def _leave_line(self, pilot: Pilot[None], main: MainScreen) -> None:
        """Close the `:` line if a key has opened it. Raises `TuiGruError`, with what it begins with."""

        if isinstance(main.focused, CommandLine):
            begun = main.focused.value
            await type_keys(pilot, ["escape"])
            raise TuiGruError(f"this needs more: type it as {begun}…")


def _content(main: MainScreen) -> str:
    """Return the text of the overlay, otherwise of the panel in focus; empty if there is none."""

    panel = main.overlay or main.focused
    return panel.plain_text() if isinstance(panel, Panel) else ""


def _drawn(screen: Any) -> str:

    return "\n".join(strip.text.rstrip() for strip in drawn_lines(screen)).strip("\n")


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
