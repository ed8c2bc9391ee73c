"""The Textual application: themes, keys in their order, errors, and the main screen."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

from platformdirs import user_config_path
from rich.console import COLOR_SYSTEMS
from textual import events
from textual.actions import parse
from textual.app import App
from textual.binding import BindingType
from textual.constants import COLOR_SYSTEM, LOG_FILE
from textual.driver import Driver
from textual.filter import LineFilter
from textual.geometry import Size
from textual.keys import KEY_NAME_REPLACEMENTS, REPLACED_KEYS, key_to_character
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Input

from tui_gru.engine.config import Config
from tui_gru.engine.source import Series
from tui_gru.errors import TuiGruError
from tui_gru.session.session import HISTORY_MEMORY, Session
from tui_gru.tui import analysing, changing, looking, moving, rewinding
from tui_gru.tui.keys import Arguments, execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.terminal import EndingSignals, GuardedApp, TypedText
from tui_gru.tui.theme import (
    ASCII,
    BLACKBOARD,
    Glyphs,
    PlainLines,
    SafeLines,
    checked_theme,
    glyphs_for,
    register_themes,
    with_legible_text,
)
from tui_gru.tui.verbs import BY_ID, KEYS, STEPS, VERBS

# ------------------------------------------------------------------------------
# A queue of keys: each key is handled completely before the next one.


SLICE = 0.03  # seconds of handling keys after which the screen is drawn
AGAIN = 0.005  # seconds between checks whether a waiting key can be handled
REPEAT = 0.07  # seconds; the same key again within this time counts as held down
LAG = 0.3  # seconds; a held key that has waited longer for runs is dropped
HANDLING = 10.0  # seconds until a key counts as handled; it takes longer only if the key never reaches the app
PATIENCE = 0.5  # seconds to wait for messages that a panel has sent
STOPPING = frozenset({"stop", "interrupt"})  # verbs that end a run
MANY = 50  # waiting steps that are taken together
COLLECT_EVERY = 10_000  # new objects after which reference cycles are searched for
HAND_OVER = 0.0005  # seconds after which a thread that computes leaves the interpreter to another that waits for it


class QueueMarker(Message):
    """A message that reaches the app after all messages that its sender has sent before."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = asyncio.Event()


class _Waiting(NamedTuple):
    """A key or a paste, with whether it was held down, and the total time that keys had waited for runs when it was typed."""

    event: events.Key | events.Paste
    is_repeat: bool
    waited: float


class Keyboard:
    """Handles keys in the order in which they were typed.

    Textual passes a key from queue to queue, to the focused widget and up to the app, and meanwhile accepts the next one. So a key
    could arrive before the panel that an earlier key opens, or during the run that it starts, and be lost. Here, a key that does
    not apply during a run waits for its end. A key that stops the run is handled at once and discards the waiting ones. Repeats of
    a held key that would be executed long after its release are dropped. An error of a key is passed to `failed`, with a
    description of what was being done, and the next key is handled.

    Handling a key costs more than most of what it does, so keys that wait together are taken together where that leads to the same:
    characters for an input line, steps (in one run, in which the keys that stop it are seen at once), moves of a cursor, whole
    rounds of a key that goes round, and keys without a meaning, of which only the last is answered.
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
        self._walking = False  # True from the start of a run of waiting steps until it ends

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
        for key in map(key_event, event.text) if isinstance(event, TypedText) else (event,):
            if isinstance(key, events.Key) and key.key in stopping and isinstance(screen, MainScreen):
                self._typed.clear()
                screen.session.interrupt()
                continue
            is_repeat = False
            if isinstance(key, events.Key):
                now = time.monotonic()
                is_repeat = self._newest[0] == key.key and now - self._newest[1] < REPEAT
                self._newest = key.key, now
            self._typed.append(_Waiting(key, is_repeat, self._waited))
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
                if self._walks():
                    continue
                await self._take_together()
                typed = self._typed.popleft()
                if typed.is_repeat and self._waited - typed.waited > LAG:
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

        Time spent waiting for a panel to open is not counted, so that keys meant for the panel are not dropped; nor is a run of
        waiting steps, each of which would not have been waited for.
        """
        begun = time.perf_counter()
        opening, self._walking = self._walking, False
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
        bound = {key for key, active in self._app.screen.active_bindings.items() if active.node is line or active.binding.priority}
        text = []
        following: events.Key | events.Paste | None = event
        while isinstance(following, events.Key) and following.is_printable and following.key not in bound:
            text.append(following.character or "")
            if len(text) > 1:
                self._typed.popleft()
            following = self._typed[0].event if self._typed else None
        return event if len(text) < 2 else events.Paste("".join(text))

    def _walks(self) -> bool:
        """If many steps wait, start a run of them, except for the last, which is then handled as a key and so shows its answer."""
        screen = self._free
        if len(self._typed) <= MANY or screen is None or screen.running:
            return False
        bound = screen.active_bindings
        steps = {key: STEPS[str(active.binding.id)] for key, active in bound.items() if active.binding.id in STEPS}
        waiting = [steps[active.key] for active in takewhile(lambda key: key.key in steps, self._keys())]
        if len(waiting) <= MANY or not all(screen.play.is_quick(step) for step in set(waiting)):
            return False
        self._drop(len(waiting) - 1)
        self._typed[0] = self._typed[0]._replace(is_repeat=False)
        self._walking = True
        screen.play.walk_each(waiting[:-1])
        return True

    async def _take_together(self) -> None:
        """Take the first of the waiting keys together if all of them lead to the same as what is left, which is handled next.

        Of keys without a meaning the last is left; of equal keys that move a cursor, one; of those of a verb that goes round, the
        last round and what is left of another, since the first of them may come from outside of the round.
        """
        screen, first = self._free, next(self._keys(), None)
        if screen is None or first is None or len(self._typed) < 2:
            return
        bindings = screen.active_bindings
        bound = bindings.get(first.key)
        if bound is None:
            answered = first.is_printable  # other keys without a meaning are ignored
            meaningless = takewhile(lambda key: key.is_printable == answered and key.key not in bindings, self._keys())
            self._drop(sum(1 for _ in meaningless) - 1)
            return
        presses = sum(1 for _ in takewhile(lambda key: key.key == first.key, self._keys()))
        verb = screen.verbs.get(bound.binding.id or "")
        if verb is not None and verb.cycle is not None:
            cycle = verb.cycle(screen)
            self._drop((presses // cycle - 1) * cycle)
        elif isinstance(bound.node, Panel) and presses > 1:
            _, name, by = parse(bound.binding.action)
            if name in bound.node.MOVING:
                self._drop(presses - 1)
                numbers = ((presses - 1) * cast(int, number) for number in by)
                await bound.node.run_action(f"{name}({', '.join(map(str, numbers))})")

    @property
    def _free(self) -> MainScreen | None:
        """The main screen if the waiting keys are for its bindings and those of its panels; None if something else awaits them."""
        screen = self._app.screen
        free = isinstance(screen, MainScreen) and not screen.awaits_key and not isinstance(self._app.focused, Input)
        return cast(MainScreen, screen) if free else None

    def _drop(self, count: int) -> None:
        """Drop the first `count` waiting keys."""
        for _ in range(count):
            self._typed.popleft()

    def _keys(self) -> Iterator[events.Key]:
        """Yield the waiting keys up to a paste."""
        for waiting in self._typed:
            if not isinstance(waiting.event, events.Key):
                return
            yield waiting.event

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


# ------------------------------------------------------------------------------
# The Textual application: themes, glyphs, keys, errors, and the main screen; and functions to create and run it.


SAFE_LINES, PLAIN_LINES = SafeLines(), PlainLines()

TOO_MANY = 20  # errors in one second, which end the program
#: The largest part of a window that is drawn, in cells. A terminal or its environment may report any size, and drawing takes time
#: and memory in proportion.
LARGEST = Size(1000, 1000)


COUNTS = tuple((str(digit), f"digit({digit})") for digit in range(10))
PACES = (("plus", "pace(1)"), ("minus", "pace(-1)"))


class VerbScreen(MainScreen):
    """The main screen with its verbs: here, above both, keys and requests of panels are bound to their functions."""

    verbs = BY_ID
    show_section = looking.open_section
    BINDINGS: ClassVar[list[BindingType]] = [*(verb.binding for verb in VERBS if verb.keys), *COUNTS, *PACES]

    requests: ClassVar[Mapping[str, Callable[..., object]]] = {
        "run": execute,
        "type": MainScreen.open_line,
        "show": MainScreen.show_if_open,
        "go": moving.go_to,
        "line": moving.run_to_line,
        "line.gutter": changing.gutter_chosen,
        "batch": analysing.go_to_batch,
        "character": analysing.go_to_character,
        "number": looking.number_asked,
        "changes": looking.changes_asked,
        "what-if.keep": looking.what_if_kept,
        "what-if.nudge": looking.what_if_nudged,
        "branch": changing.branch_chosen,
        "apart.go": changing.apart_chosen,
        "stop": changing.stop_chosen,
        "check.entry": analysing.entry_chosen,
        "finding": analysing.finding_chosen,
        "lesson": lambda screen, name: looking.take_lesson(screen, Arguments(name)),
        "cures": analysing.cures_asked,
        "cure.copy": analysing.cure_copied,
        "cure.keep": analysing.cure_kept,
        "trial.open": rewinding.trial_opened,
        "trial.adopt": rewinding.trial_adopted,
        "units": analysing.show_units,
        "influence": analysing.show_influence,
        "derivation.follow": lambda screen, number: screen.derivations.follow(number),
        "derivation.open": lambda screen, node, path: screen.derivations.open(node, path),
        "derivation.leave": lambda screen: screen.derivations.leave(),
        "derivation.copy": lambda screen, text, kind: screen.derivations.copy(text, kind),
    }


class TuiGruApp(GuardedApp):
    """The debugger on a session. `own_keys` are the keys of the user's key file by verb id."""

    TITLE = "tui-gru"
    ENABLE_COMMAND_PALETTE = False  # the help is one
    ALLOW_SELECT = False  # panels have no selectable text, and selecting in a removed widget fails
    CSS_PATH = "screen.tcss"  # set here, since Textual does not load the style file of a default screen
    _themed = False  # True once the theme is set
    first_command = ""  # executed once the screen is shown

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
        if not self._themed:
            return {}
        self.theme_variables = with_legible_text(self.current_theme, super().get_css_variables())
        return self.theme_variables

    def get_driver_class(self) -> type[Driver]:
        try:
            usual = super().get_driver_class()
        except Exception as error:  # it imports the module that the variable names, or else that of the operating system
            if (named := os.environ.get("TEXTUAL_DRIVER")) is None:
                raise TuiGruError(f"this Python cannot use the terminal: {error}; tui-gru run works without one") from None
            raise TuiGruError(f"TEXTUAL_DRIVER is {named!r}, which cannot be loaded: {error}; unset it, or name a driver") from None
        if usual.__name__ == "LinuxDriver":  # not on Windows
            from tui_gru.tui.drivers import PromptDriver

            return PromptDriver
        if usual.__name__ == "WebDriver":
            from tui_gru.tui.drivers import ServedDriver, confine_to_served_folder

            confine_to_served_folder()
            return ServedDriver
        return usual

    def get_default_screen(self) -> Screen[Any]:
        self.set_keymap(self.own_keys)
        self.main = VerbScreen(self.session)
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

    def on_stop_ignored(self) -> None:
        if self.main is not None:
            self.main.say("no shell could continue the program here, so it is not stopped", warning=True)

    def _leave(self, number: int) -> None:
        """Exit on a signal. While the screen is being put together, wait until it is complete: its parts look for each other."""
        if not self._ready_to_leave:
            self._signalled = number
            return
        self.stop_runs()
        self.exit(return_code=128 + number)

    def stop_runs(self) -> None:
        """Stop the run that is under way, or about to start, at the end of its batch."""
        for screen in self.screen_stack:
            if isinstance(screen, MainScreen):
                screen.session.interrupt()

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
        from tui_gru.storage.recorder import report_error

        return f"tui-gru: {report_error(error, 'opening or drawing the screen')}"

    # Keys

    def keys_of(self, verb: str) -> str:
        """Return the keys of a verb, separated by commas: those of the user's key file, otherwise those of the table."""
        return self.own_keys.get(verb, KEYS[verb])

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

    def on_queue_marker(self, event: QueueMarker) -> None:
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
        from tui_gru.tui.export import mend

        return mend(super().export_screenshot(title=title, simplify=simplify))


def _check_environment() -> None:
    """Raise `TuiGruError` for a value of an environment variable on which Textual would fail."""
    if COLOR_SYSTEM and COLOR_SYSTEM != "auto" and COLOR_SYSTEM not in COLOR_SYSTEMS:
        choices = ", ".join(("auto", *COLOR_SYSTEMS))
        raise TuiGruError(f"TEXTUAL_COLOR_SYSTEM is {COLOR_SYSTEM!r}, which is not one of {choices}; unset it, or set one of these")
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


def new_session(config: Config, *, learn: bool | None = None, record: bool = False, history_memory: int | None = None) -> Session:
    """Return a new session for the debugger, with learning on or off, by default as the text says (`Config.learns_at_first`).

    With `record`, it is recorded in the user's folder from its first use on.
    """
    memory = HISTORY_MEMORY if history_memory is None else history_memory
    session = Session.on(config, history_memory=memory)
    session.stop_on_nan = True
    if learn is not None:
        session.learning = learn
    if isinstance(config.source, Series):
        session.notice = f"the input is read as {config.source.title}"
    if record:
        session.recorder.record_later(partial(_automatic_path, config.as_string(config.text) or config.source.title))
    return session


def _automatic_path(text: str) -> Path:
    from tui_gru.storage.store import automatic_path

    return automatic_path(text, date.today())


def make_app(
    on: Config | Session, *, theme: str | None = None, ascii: bool = False, keys: Path | None = None, learn: bool | None = None
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
    from tui_gru.tui.configuration import load_keys

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
    from tui_gru.tui.configuration import load_display

    try:
        display = load_display(place)
    except TuiGruError as error:
        return None, None, f"{error}; the display is the usual one"
    return display.theme, display.ascii, ""


def _configured(name: str) -> Path | None:
    """Return a file of the user's configuration folder; None if there is none."""
    place = user_config_path("tui-gru", appauthor=False) / name
    return place if os.path.lexists(place) else None


def run(session: Session, *, theme: str | None, ascii: bool, keys: Path | None, command: str = "") -> None:
    """Run the debugger on a session in this terminal until it is quit. `command` is executed once the screen is shown."""
    app = make_app(session, theme=theme, ascii=ascii, keys=keys)
    app.first_command = command
    if words := session.memory_notice:
        session.add_notice(words)
    before, collected = sys.getswitchinterval(), gc.get_threshold()
    # A picture is thousands of small objects, few of them in reference cycles. At Python's default threshold, the search for cycles
    # takes a tenth of the time of a key.
    gc.set_threshold(COLLECT_EVERY, *collected[1:])
    # To handle a key, the UI thread takes the interpreter a dozen times from a thread that computes, and would wait 5 ms each time.
    sys.setswitchinterval(HAND_OVER)
    try:
        app.run()
    finally:
        app.ending.close()
        sys.setswitchinterval(before)
        gc.set_threshold(*collected)
    _put_away(app.session if app.main is None else app.main.session)
    if app.return_code:
        raise SystemExit(app.return_code)


def _put_away(session: Session) -> None:
    """Close a session, and delete the oldest automatic recordings if there are too many."""
    recorded = session.recording
    session.close()
    if recorded is not None:
        from tui_gru.storage.store import prune

        prune()
