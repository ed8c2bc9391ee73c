"""Texts that name a key use the key that the user has configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tui.test_main_screen import Driver, driving
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.ask import AskPanel
from tui_gru.tui.headless import headless
from tui_gru.tui.help import HelpPanel, HelpScreen
from tui_gru.tui.keys import execute, key_sign, key_signs
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.derivation import WhatIfPanel
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.session_screen import Card

OWN = {
    "step.line": "f1", "step.batch": "f2", "step.timestep": "f3", "learn.sgd": "f4", "learn.toggle": "f5", "help": "f6",
    "sample": "f7",
    "stops": "f8", "check": "f9", "weights": "f10", "quit": "f11", "play": "f12",
    "stop": "ctrl+x", "compare": "ctrl+l", "explain": "ctrl+e", "panel.next": "ctrl+n", "continue": "ctrl+r", "page": "ctrl+v",
    "mark": "ctrl+k", "breakpoint": "ctrl+b",
}  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text("[keys]\n" + "".join(f'"{verb}" = "{key}"\n' for verb, key in OWN.items()))
    return file


def test_keys_are_written_as_people_know_them() -> None:
    assert key_sign("full_stop") == "."
    assert key_sign("s,right") == "s"
    assert key_signs("s,right") == ["s", "→"]


async def test_messages_and_panels_name_a_persons_own_keys(keys: Path) -> None:
    app = make_app(Config.of(), keys=keys)
    async with headless(app, (160, 50)) as pilot:
        screen: Any = app.screen
        d = Driver(pilot, screen)
        written = "\n".join(panel.plain_text() + str(panel.border_subtitle) for panel in screen.query(Panel))
        for verb in ("step.line", "step.timestep", "step.batch", "learn.sgd", "help"):
            assert OWN[verb] in written
        await d.type(OWN["sample"])
        await pilot.pause()
        assert f"{OWN['sample']} draw" in screen.query_one(Samples).titles(screen.snapshot).keys
        await d.type("ctrl+b")
        assert "press f1 to execute one" in d.says
        await d.type("ctrl+e")
        assert "f1 one line" in screen.query_one(Card).plain_text()
        await d.type("i")
        assert "ctrl+n goes from panel to panel" in d.says
        await d.type("f1", "ctrl+b")
        assert "ctrl+r runs to it" in d.says
        await d.type("f12")
        assert "+ - speed · f12 pauses" in d.says
        await d.type("f12", "ctrl+c")
        assert "f11 quits" in d.says
        await d.type("ctrl+k")
        assert "ctrl+x cancels" in d.says
        await d.type("a", "f8")
        assert "ctrl+x closes" in str(screen.overlay.border_subtitle)
        execute(screen, "what-if z[0,0] 0.5")
        await pilot.pause()
        await pilot.pause()
        assert "ctrl+x" in str(screen.query_one(WhatIfPanel).border_subtitle)
        await d.type("ctrl+x", "f6", "tab")
        help_ = app.screen
        assert isinstance(help_, HelpScreen)
        shown = help_.query_one(HelpPanel).plain_text()
        assert all(key in shown for key in OWN.values())
        await d.type("f6")
        assert app.screen is screen


async def test_what_is_typed_into_the_keys_is_asked() -> None:
    async with driving() as d:
        await d.type("?", "tab")
        assert isinstance(d.pilot.app.screen, HelpScreen)
        await d.type(*"branch")
        panel = d.pilot.app.screen.query_one(AskPanel)
        assert panel.typed == "branch"
        assert "What are branches?" in panel.plain_text()
        assert "nothing fits these words" not in panel.plain_text()
        await d.type("ctrl+u", *"☃☃")
        assert "nothing fits these words" in panel.plain_text()
        await d.type("escape")
        assert d.pilot.app.screen is d.screen
        await d.type("?", "tab", "q")
        assert d.pilot.app.screen is d.screen
        assert d.pilot.app.is_running
