"""The Textual application: themes, glyphs, keys, and the one main screen."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from textual.app import App, SystemCommand
from textual.screen import Screen

from tui_gru.debugger.session import Session
from tui_gru.engine.config import Config
from tui_gru.tui.glyphs import ASCII, Glyphs, glyphs_for
from tui_gru.tui.keys import VERBS
from tui_gru.tui.screens.main import MainScreen
from tui_gru.tui.svg import mend
from tui_gru.tui.themes import BLACKBOARD, checked_theme, register_themes


class TuiGruApp(App[None]):
    """The debugger on a session. `own_keys` are a person's keys by verb id."""

    TITLE = "tui-gru"
    CSS_PATH = "screens/main.tcss"  # here, since Textual does not load the style file of a default screen

    def __init__(
        self, session: Session, *, theme: str | None = None, glyphs: Glyphs | None = None, own_keys: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.session = session
        self.glyphs = glyphs or glyphs_for(sys.stdout.encoding)
        self.own_keys = dict(own_keys or {})
        self.animation_level = "none"
        register_themes(self)
        name = checked_theme(self, theme or BLACKBOARD.name)
        self.set_reactive(App.theme, name)  # nothing has been styled yet, so there is nothing to style again
        self.stylesheet.set_variables(self.get_css_variables())

    def get_default_screen(self) -> Screen[Any]:
        self.set_keymap(self.own_keys)
        return MainScreen(self.session)

    def on_mount(self) -> None:
        """Leave the terminal as it was when the process is told to end."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._leave, number)

    def _leave(self, number: int) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, MainScreen):
                screen.session.interrupt()
        self.exit(return_code=128 + number)

    def on_ready(self) -> None:
        gc.freeze()
        gc.enable()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every verb, beside Textual's own commands."""
        yield from super().get_system_commands(screen)
        if isinstance(screen, MainScreen):
            for verb in VERBS:
                yield SystemCommand(f"{verb.group}: {verb.help}", verb.id, partial(screen.run_action, verb.action))

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        return mend(super().export_screenshot(title=title, simplify=simplify))


def make_app(
    config: Config, *, theme: str | None = None, ascii: bool = False, keys: Path | None = None, learn: bool = False
) -> TuiGruApp:
    """The app on a fresh session, not yet running. Raises `TuiGruError` for a bad theme or key file."""
    own_keys = _own_keys(keys)
    session = Session(**{name: getattr(config, name) for name in config.__dataclass_fields__})
    session.stop_on_nan = True
    session.learning = learn
    return TuiGruApp(session, theme=theme, glyphs=ASCII if ascii else None, own_keys=own_keys)


def _own_keys(path: Path | None) -> dict[str, str]:
    place = path or user_config_path("tui-gru") / "keys.toml"
    if path is None and not place.exists():
        return {}
    from tui_gru.tui import keymap  # late: most people have no such file

    return keymap.load(place)


def run(config: Config, *, theme: str | None, ascii: bool, keys: Path | None, learn: bool = False) -> None:
    """Run the debugger in this terminal until it is quit."""
    app = make_app(config, theme=theme, ascii=ascii, keys=keys, learn=learn)
    app.run()
    if app.return_code:
        raise SystemExit(app.return_code)
