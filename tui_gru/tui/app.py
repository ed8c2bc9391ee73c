"""The Textual application: themes, glyphs, keys, errors, and the main screen; and functions to create and run it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from rich.console import COLOR_SYSTEMS
from textual import events
from textual.app import App
from textual.constants import COLOR_SYSTEM, LOG_FILE
from textual.driver import Driver
from textual.filter import LineFilter
from textual.geometry import Size
from textual.screen import Screen

from tui_gru.debugger.session.session import HISTORY_MEMORY, Session
from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.look.characters import PlainLines, SafeLines
from tui_gru.tui.look.glyphs import ASCII, Glyphs, glyphs_for
from tui_gru.tui.look.themes import BLACKBOARD, checked_theme, register_themes
from tui_gru.tui.screens.main import MainScreen
from tui_gru.tui.terminal.ending import EndingSignals
from tui_gru.tui.terminal.guarded import GuardedApp
from tui_gru.tui.terminal.input_parser import TypedText
from tui_gru.tui.terminal.keyboard import Keyboard, QueueMarker

SAFE_LINES, PLAIN_LINES = SafeLines(), PlainLines()

TOO_MANY = 20  # errors in one second, which end the program
#: The largest part of a window that is drawn, in cells. A terminal or its environment may report any size, and drawing takes time
#: and memory in proportion.
LARGEST = Size(1000, 1000)


class TuiGruApp(GuardedApp):
    """The debugger on a session. `own_keys` are the keys of the user's key file by verb id."""

    TITLE = "tui-gru"
    ENABLE_COMMAND_PALETTE = False  # the help is one
    ALLOW_SELECT = False  # panels have no selectable text, and selecting in a removed widget fails
    CSS_PATH = "screens/main.tcss"  # set here, since Textual does not load the style file of a default screen
    _themed = False  # True once the theme is set

    def __init__(
        self, session: Session, *, theme: str | None = None, glyphs: Glyphs | None = None, own_keys: Mapping[str, str] | None = None
    ) -> None:
        _check_environment()
        super().__init__()
        self.session = session
        self.main: MainScreen | None = None  # its session may differ from `self.session`
        self.keyboard = Keyboard(self, super().on_event, self.failed)
        self.ending = EndingSignals(self._leave)
        self._ready_to_leave = False  # True once the screen is complete
        self._signalled = 0  # the signal to end that came before that
        self._problems: list[float] = []  # the times of recent errors
        self.glyphs = glyphs or glyphs_for(sys.stdout.encoding)
        self.own_keys = dict(own_keys or {})
        self._bound = {key for keys in self.own_keys.values() for key in keys.split(",")}
        self.animation_level = "none"
        self._themed = True
        register_themes(self)
        name = checked_theme(self, theme or BLACKBOARD.name)
        self.set_reactive(App.theme, name)  # without a watcher: nothing has been styled yet
        self.stylesheet.set_variables(self.get_css_variables())

    def get_css_variables(self) -> dict[str, str]:
        """Return the colours of the theme; nothing in the constructor of Textual, which asks for those of its own theme."""
        return super().get_css_variables() if self._themed else {}

    def get_driver_class(self) -> type[Driver]:
        try:
            usual = super().get_driver_class()
        except Exception as error:  # it imports the module that the variable names
            named = os.environ.get("TEXTUAL_DRIVER")
            raise TuiGruError(f"TEXTUAL_DRIVER is {named!r}, which cannot be loaded: {error}; unset it, or name a driver") from None
        if usual.__name__ == "LinuxDriver":  # not on Windows
            from tui_gru.tui.terminal.driver import PromptDriver

            return PromptDriver
        if usual.__name__ == "WebDriver":
            from tui_gru.tui.terminal.web_driver import ServedDriver, confine_to_served_folder

            confine_to_served_folder()
            return ServedDriver
        return usual

    def get_default_screen(self) -> Screen[Any]:
        self.set_keymap(self.own_keys)
        self.main = MainScreen(self.session)
        return self.main

    @property
    def size(self) -> Size:
        """The size of the terminal, or of the part of it that is drawn."""
        return drawn_size(super().size)

    def on_mount(self) -> None:
        """Handle the signals that end the process, if the driver does not do so already."""
        if not self.is_headless:
            self.ending.handle()

    def on_driver_signal_resume(self) -> None:
        """Draw everything again after a stop, since the terminal has been someone else's."""
        self.refresh(layout=True)

    def on_terminal_gone(self) -> None:
        self.ending.take(getattr(signal, "SIGHUP", signal.SIGTERM))

    def _leave(self, number: int) -> None:
        """Exit on a signal. While the screen is being put together, wait until it is complete: its parts look for each other."""
        if not self._ready_to_leave:
            self._signalled = number
            return
        for screen in self.screen_stack:
            if isinstance(screen, MainScreen):
                screen.session.interrupt()
        self.exit(return_code=128 + number)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), SAFE_LINES, *((PLAIN_LINES,) if self.glyphs is ASCII else ())]

    # Errors

    def failed(self, error: Exception, doing: str) -> None:
        """Report an error on the main screen. End the program if there is no main screen or errors are too frequent."""
        now = time.monotonic()
        self._problems = [earlier for earlier in self._problems if now - earlier < 1] + [now]
        if self.main is None or not self.main.is_mounted or len(self._problems) > TOO_MANY:
            self.end_with(error)
        else:
            self.main.failed(error, doing)

    def last_words(self, error: Exception) -> str:
        from tui_gru.debugger.storage.error_reports import reported  # imported late: rarely needed

        return f"tui-gru: {reported(error, 'opening or drawing the screen')}"

    # Keys

    async def on_event(self, event: events.Event) -> None:
        """Pass keys and pastes to the keyboard queue, which handles them one after the other.

        Escape followed quickly by a letter arrives as alt and the letter, so that is handled as the two keys.
        """
        if isinstance(event, events.InputEvent) and not self.screen_stack:  # the program is ending
            return
        if isinstance(event, events.Resize):
            size = drawn_size(event.size)
            event = events.Resize(size, size, pixel_size=event.pixel_size if size == event.size else None)
        if not isinstance(event, (events.Key, events.Paste, TypedText)) or event.is_forwarded:
            await super().on_event(event)
            return
        self.app_focus = True
        if isinstance(event, events.Key) and event.key.startswith("alt+") and event.character and self._no_chord(event.key):
            self.keyboard.put(events.Key("escape", "\x1b"))
            event = events.Key(event.character, event.character)
        self.keyboard.put(event)

    def _no_chord(self, key: str) -> bool:
        return isinstance(self.screen, MainScreen) and key not in self._bound

    def on_fence(self, event: QueueMarker) -> None:
        event.passed.set()

    def on_unmount(self) -> None:
        self.keyboard.close()

    def on_ready(self) -> None:
        gc.freeze()
        gc.enable()
        self._ready_to_leave = True
        if self._signalled:
            self._leave(self._signalled)

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        from tui_gru.tui.look.svg import mend  # imported late: few take pictures

        return mend(super().export_screenshot(title=title, simplify=simplify))


def _check_environment() -> None:
    """Raise `TuiGruError` for a value of an environment variable on which Textual would fail."""
    if COLOR_SYSTEM and COLOR_SYSTEM != "auto" and COLOR_SYSTEM not in COLOR_SYSTEMS:
        known = ", ".join(("auto", *COLOR_SYSTEMS))
        raise TuiGruError(f"TEXTUAL_COLOR_SYSTEM is {COLOR_SYSTEM!r}, which is not one of {known}; unset it, or set one of these")
    if LOG_FILE:
        try:
            with open(LOG_FILE, "a", encoding="utf-8"):
                pass
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise TuiGruError(f"TEXTUAL_LOG is {LOG_FILE!r}, which cannot be written: {why}; unset it, or name a file") from None


def drawn_size(size: Size) -> Size:
    """Return the part of a window of this size that is drawn."""
    return Size(min(size.width, LARGEST.width), min(size.height, LARGEST.height))


def new_session(config: Config, *, learn: bool = False, record: bool = False, history_memory: int | None = None) -> Session:
    """Return a new session for the debugger. With `record`, it is recorded in the user's folder from its first use on."""
    memory = HISTORY_MEMORY if history_memory is None else history_memory
    session = Session(**{name: getattr(config, name) for name in config.__dataclass_fields__}, history_memory=memory)
    session.stop_on_nan = True
    session.learning = learn
    if record:
        session.record_later(partial(_automatic_path, config.as_string(config.text)))
    return session


def _automatic_path(text: str) -> Path:
    from tui_gru.debugger.storage.library import automatic_path  # imported late: not needed without a file

    return automatic_path(text, date.today())


def make_app(
    on: Config | Session, *, theme: str | None = None, ascii: bool = False, keys: Path | None = None, learn: bool = False
) -> TuiGruApp:
    """Return an app, not yet running, on a session or on a new session that is not recorded.

    Raises `TuiGruError` if the theme is unknown or the file `keys` invalid. If the file in the user's folder is invalid, the
    session's notice says so, and the usual keys are bound.
    """
    session = on if isinstance(on, Session) else new_session(on, learn=learn)
    own_keys = _own_keys(keys, session)
    return TuiGruApp(session, theme=theme, glyphs=ASCII if ascii else None, own_keys=own_keys)


def _own_keys(path: Path | None, session: Session) -> dict[str, str]:
    place = path or _configured("keys.toml")
    if place is None:
        return {}
    from tui_gru.tui.configuration import load_keys  # imported late: most people have no such file

    try:
        return load_keys(place)
    except TuiGruError as error:
        if path is not None:
            raise
        session.add_notice(f"{error}; all keys are the usual ones", warning=True)
        return {}


def own_display() -> tuple[str | None, bool | None, str]:
    """Return the theme and whether to draw in ASCII, from the user's file (None: not in it), and what is wrong in the file."""
    place = _configured("config.toml")
    if place is None:
        return None, None, ""
    from tui_gru.tui.configuration import load_display  # imported late: most people have no such file

    try:
        display = load_display(place)
    except TuiGruError as error:
        return None, None, f"{error}; the display is the usual one"
    return display.theme, display.ascii, ""


def _configured(name: str) -> Path | None:
    """Return a file of the user's configuration folder; None if there is none."""
    place = user_config_path("tui-gru", appauthor=False) / name
    return place if os.path.lexists(place) else None


def run(session: Session, *, theme: str | None, ascii: bool, keys: Path | None) -> None:
    """Run the debugger on a session in this terminal until it is quit."""
    app = make_app(session, theme=theme, ascii=ascii, keys=keys)
    if words := session.memory_notice:
        session.add_notice(words)
    try:
        app.run()
    finally:
        app.ending.close()
    _put_away(app.session if app.main is None else app.main.session)
    if app.return_code:
        raise SystemExit(app.return_code)


def _put_away(session: Session) -> None:
    """Close a session, and delete the oldest automatic recordings if there are too many."""
    recorded = session.recording
    session.close()
    if recorded is not None:
        from tui_gru.debugger.storage.library import prune

        prune()
