"""The program with its screen in this process, where there is no terminal."""

from __future__ import annotations

import os
from unittest.mock import patch

from textual.app import App
from textual.pilot import Pilot

from tui_gru.cli.commands import main
from tui_gru.tui.app import TuiGruApp
from tui_gru.tui.headless import PromptPilot, until_idle
from tui_gru.tui.terminal import drawn_lines


def run_without_terminal(*arguments: str, keys: str) -> tuple[int, str]:
    """Open the screen, look at it, and press keys, which must quit. The exit code, and what was to be seen before the keys."""
    seen: list[str] = []

    async def look_and_press(pilot: Pilot[None]) -> None:
        prompt = PromptPilot(pilot.app)
        await until_idle(prompt)
        await prompt.pause()
        seen.extend(strip.text for strip in drawn_lines(pilot.app.screen))
        for key in keys:
            await until_idle(prompt)
            await prompt.press(key)

    def run(app: TuiGruApp) -> None:
        App.run(app, headless=True, size=(100, 30), auto_pilot=look_and_press)

    with patch.object(TuiGruApp, "run", run), patch.dict(os.environ, TEXTUAL_DRIVER="none is needed"):
        return main(arguments), "\n".join(seen)
