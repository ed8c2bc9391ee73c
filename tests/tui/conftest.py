import asyncio
import inspect
from contextlib import asynccontextmanager

import pytest
from textual.app import App

from tests.tui.texts import described
from tui_gru.tui.export import mend
from tui_gru.tui.headless import PromptPilot, headless
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import UNICODE, register_themes
from tui_gru.tui.verbs import KEYS


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Remove settings of the developer's own terminal, which must not affect the tests."""
    for name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_COLOR_SYSTEM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def pictures_are_taken_promptly():
    """Have `snap_compare` wait as our pilot does. Textual's own function draws several times, and waits for the process to idle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual._doc.take_svg_screenshot", picture_of)
        yield


def picture_of(app, press=(), terminal_size=(80, 24), run_before=None):
    """Return the picture of an app after what `run_before` does with its pilot, and after keys."""
    return asyncio.run(after(app, press, terminal_size, run_before, lambda: app.export_screenshot(title=app.title, simplify=True)))


async def after(app, press, terminal_size, run_before, read):
    async with headless(app, terminal_size, drawn=run_before is None) as pilot:
        done = None if run_before is None else run_before(pilot)
        if inspect.isawaitable(done):
            await done
        await pilot.pause()
        await pilot.press(*press)
        await pilot.pause()
        return read()


@pytest.fixture
def snap_text(snapshot):
    """Compare what an app draws, as a text with the styles of its cells, with the text that is kept of it, as `snap_compare` does
    with a picture."""

    def compare(app, press=(), terminal_size=(80, 24), run_before=None):
        rows = asyncio.run(after(app, press, terminal_size, run_before, lambda: drawn_lines(app.screen)))
        assert described(rows) == snapshot

    return compare


class Board(App):
    """An app that contains only the widgets under test."""

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

    def keys_of(self, verb):
        return KEYS[verb]

    def on_mount(self):
        self.prepare()

    @asynccontextmanager
    async def run_test(self, **options):
        async with super().run_test(**options):
            yield PromptPilot(self)

    def export_screenshot(self, **options):
        return mend(super().export_screenshot(**options))


@pytest.fixture(scope="session")
def board():
    return Board
