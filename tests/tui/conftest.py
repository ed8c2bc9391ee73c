from contextlib import asynccontextmanager

import pytest
from textual.app import App

from tui_gru.tui.look.glyphs import UNICODE
from tui_gru.tui.look.svg import mend
from tui_gru.tui.look.themes import register_themes
from tui_gru.tui.pilot import PromptPilot


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """What a developer's own terminal is set to must not change what the tests see."""
    for name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_COLOR_SYSTEM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


class Board(App):
    """An app that holds the widgets under test and nothing else."""

    AUTO_FOCUS = None
    CSS = "Screen { background: $background; } Horizontal { height: auto; }"

    def __init__(self, *widgets, theme="blackboard", glyphs=UNICODE):
        super().__init__()
        register_themes(self)
        self.theme, self.glyphs = theme, glyphs
        self.widgets = widgets
        self.prepare = lambda: None

    def compose(self):
        yield from self.widgets

    def on_mount(self):
        self.prepare()

    @asynccontextmanager
    async def run_test(self, **options):
        async with super().run_test(**options):
            yield PromptPilot(self)

    def export_screenshot(self, **options):
        return mend(super().export_screenshot(**options))


@pytest.fixture
def board():
    return Board
