"""Everything that needs private names of Textual: input, signals, errors, and the drawn lines."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple, Protocol, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import Compositor
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.events import Key, ScreenResume
from textual.geometry import Region
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import WorkerFailed

# ------------------------------------------------------------------------------
# The only folder that uses private names of Textual: input, order of keys, signals, errors, and the drawn lines.
#
# No other folder uses a private name of Textual. `tests/tui/test_textual_insides.py` lists each, with the version of
# Textual that it was seen in.


# ------------------------------------------------------------------------------
# An app, a screen and scroll views that report errors of message handlers, on which Textual would end the program.
#
# The app can also suspend drawing, and a view is told what of it must be drawn again.


V = TypeVar("V", bound=ScrollView)


class GuardedApp(App[None]):
    """An app whose subclasses implement the report of an error (`failed`) and the last line of output (`last_words`).

    While `drawing` is False, its guarded screens are laid out but not drawn. `ending` handles the signals that end the process.
    """

    ending: EndingSignals

    drawing = True

    def failed(self, error: Exception, doing: str) -> None:
        """Report an error. `doing` says what was being done."""
        raise NotImplementedError

    def last_words(self, error: Exception) -> str:
        """Return the line for standard error when an error ends the program."""
        raise NotImplementedError

    def end_with(self, error: Exception) -> None:
        """End the program because of an error."""
        super()._handle_exception(error)

    async def _dispatch_message(self, message: Message) -> None:
        """Handle a message. Textual would end the program on an error of the handler."""
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            self.failed(error, doing(message))

    def _handle_exception(self, error: Exception) -> None:
        """Report an error in a worker, in a callback or in drawing, for which Textual calls this to end the program."""
        if isinstance(error, WorkerFailed) and isinstance(error.error, Exception):
            error = error.error
        self.failed(error, "updating the screen")

    def _fatal_error(self) -> None:
        """Exit with one line instead of Textual's traceback."""
        assert self._exception is not None
        self.panic(self.last_words(self._exception))


class NumberInView(NamedTuple):
    """A number that a widget draws: where, from the first cell in view inside its frame, and its name and value."""

    x: int
    y: int
    width: int
    name: str
    value: float


class ScreenMask(Protocol):
    """What is not to be shown: of numbers whose value is known, by `hides`; of everything else, by the text of its row."""

    def spans(self, text: str) -> list[tuple[int, int]]: ...

    def hides(self, name: str, value: float) -> bool: ...


class MaskingCompositor(Compositor):
    """Draws widgets, and `?` in the place of what `mask` hides, but not on widgets of the class `bare`."""

    mask: ScreenMask | None = None
    bare: type[Widget] = Widget
    ink = Style(reverse=True)

    def _get_renders(self, crop: Region | None = None) -> Iterable[tuple[Region, Region, list[Strip]]]:
        renders, mask = super()._get_renders(crop), self.mask
        if mask is None:
            yield from renders
            return
        widgets: dict[Region, list[Widget]] = {}
        for widget, (region, _) in self.visible_widgets.items():
            widgets.setdefault(region, []).append(widget)
        for region, clip, strips in renders:
            drawn = widgets[region]
            if any(isinstance(widget, self.bare) for widget in drawn):
                yield region, clip, strips
                continue
            numbers: dict[int, list[NumberInView]] = {}
            first = region.intersection(clip)
            for widget in drawn:
                if (in_view := getattr(widget, "numbers_in_view", None)) is not None:
                    inside = widget.scrollable_content_region
                    for number in in_view():
                        placed = number._replace(x=number.x + inside.x - first.x, y=number.y + inside.y - first.y)
                        numbers.setdefault(placed.y, []).append(placed)
            yield region, clip, [self._masked(mask, strip, numbers.get(y, ())) for y, strip in enumerate(strips)]

    def _masked(self, mask: ScreenMask, strip: Strip, numbers: Iterable[NumberInView]) -> Strip:
        text = strip.text
        hidden = [(cell_len(text[:begins]), cell_len(text[:ends])) for begins, ends in mask.spans(text)]
        for number in numbers:  # its value says more than its digits
            begins, ends = number.x, number.x + number.width
            hidden = [span for span in hidden if not (span[0] < ends and begins < span[1])]
            if mask.hides(number.name, number.value):
                hidden.append((max(begins, 0), min(ends, strip.cell_length)))
        cells = sorted(span for span in hidden if span[0] < span[1])
        if not cells:
            return strip
        cuts = sorted({0, strip.cell_length, *(cut for span in cells for cut in span)})
        parts = strip.divide(cuts[1:])
        begins_of = {begin: end - begin for begin, end in cells}
        masked = [
            Strip([Segment("?".center(begins_of[cut]), self.ink)], begins_of[cut]) if cut in begins_of else part
            for cut, part in zip(cuts, parts, strict=False)
        ]
        return Strip.join(masked)


def numbers_on(screen: Screen[Any]) -> Iterator[NumberInView]:
    """Yield the numbers of the widgets in view whose values are known, with their places on the screen."""
    for widget, (region, clip) in screen._compositor.visible_widgets.items():
        if (in_view := getattr(widget, "numbers_in_view", None)) is not None:
            inside, shown = widget.scrollable_content_region, region.intersection(clip)
            for number in in_view():
                x, y = number.x + inside.x, number.y + inside.y
                if shown.contains(x, y):
                    yield number._replace(x=x, y=y)


class GuardedScreen(Screen[None]):
    """A screen whose subclasses implement the report of an error (`failed`)."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = MaskingCompositor()

    def mask_text(self, mask: ScreenMask | None, bare: type[Widget], ink: Style) -> None:
        """Draw `?` in the place of what a mask hides, but not on widgets of a class; with None, nowhere."""
        compositor = self._compositor
        assert isinstance(compositor, MaskingCompositor)
        if mask is not None or compositor.mask is not None:
            compositor.mask, compositor.bare, compositor.ink = mask, bare, ink
            if self.is_attached:
                self.refresh()

    def draw(self) -> None:
        """Draw the changes since the last drawing, unless the app suspends drawing.

        A program that types keys suspends it: drawing would take a sixth to a third more of its time. The layouts of the start are
        drawn once, with the borders that the panels set when they know their sizes.
        """
        if getattr(self.app, "drawing", True) and self._settled:
            super()._compositor_refresh()
        else:
            self._dirty_widgets.clear()  # the compositor has the regions
        self._call_back()

    _compositor_refresh = draw  # Textual's name for it

    _when_drawn: Callable[[], object] | None = None

    def when_drawn(self, callback: Callable[[], object]) -> None:
        """Call back once, after the next drawing; at once while another screen covers this one, which is not drawn then."""
        self._when_drawn = callback
        if not self.is_current:
            self._call_back()

    def _call_back(self) -> None:
        callback, self._when_drawn = self._when_drawn, None
        if callback is not None:
            callback()

    _settled = False  # True once Textual has laid out what has changed since the screen was shown

    def _settle(self) -> None:
        self._settled = True
        self.refresh()

    def on_screen_resume(self, event: ScreenResume) -> None:
        """When the screen is first shown, style nothing again: all of it has just been styled."""
        event.refresh_styles = self.stack_updates > 0
        if not self._settled:
            self.call_after_refresh(self._settle)

    def lay_out(self) -> None:
        """Update the layout at once. Textual does it after the messages that wait."""
        self._refresh_layout()

    def failed(self, error: Exception, doing: str) -> None:
        """Report an error. `doing` says what was being done."""
        raise NotImplementedError

    async def _dispatch_message(self, message: Message) -> None:
        """Handle a message, as the app does. Without a mounted screen there is nothing that could show the error."""
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            if not self.is_mounted:
                raise
            self.failed(error, doing(message))


def guarded(kind: type[V]) -> type[V]:
    """Decorate the class of a scroll view: its screen reports its errors, and `forget` is called with what Textual marks
    to be drawn again, without regions for all of it."""
    dispatch, set_dirty = kind._dispatch_message, kind._set_dirty

    async def dispatch_and_report(view: V, message: Message) -> None:
        try:
            await dispatch(view, message)
        except Exception as error:
            screen = view.screen if view.is_attached else None
            if not isinstance(screen, GuardedScreen):
                raise
            screen.failed(error, f"{doing(message)} in {type(view).__name__}")

    def forget_lines(view: Any, *regions: Region) -> None:
        set_dirty(view, *regions)
        view.forget(*regions)

    kind._dispatch_message, kind._set_dirty = dispatch_and_report, forget_lines  # type: ignore[assignment]
    return kind


def being_removed(widget: Widget) -> bool:
    """Return True if a widget, or one that it is in, is being removed. It is still attached, but ignores keys."""
    return any(node._pruning for node in widget.ancestors_with_self)


def doing(message: Message) -> str:
    """Describe the handling of a message, for a report."""
    return f"handling {message!r}" if isinstance(message, Key) else f"handling {type(message).__qualname__}"


# ------------------------------------------------------------------------------
# What is on a screen: the lines as last drawn, changes that are drawn once or at once, and whether all messages are handled.


def drawn_lines(screen: Screen[Any]) -> list[Strip]:
    """Return the rows of a screen from top to bottom, each as wide as the screen."""
    return screen._compositor.render_strips()


@contextmanager
def drawn_later(app: App[Any]) -> Iterator[None]:
    """Suspend drawing in this context; its changes are drawn with the next one after it. The layout is updated at every change."""
    if not isinstance(app, GuardedApp) or not app.drawing:  # another app, or inside another such context
        yield
        return
    app.drawing = False
    try:
        yield
    finally:
        app.drawing = True


@contextmanager
def drawn_once(app: App[Any]) -> Iterator[None]:
    """Suspend drawing in this context, and draw the main screen once at its end. The layout is still updated at every change.

    Drawing takes three quarters of the time of a key, and is not needed between keys that a program types.
    """
    with drawn_later(app):
        yield
    if isinstance(app, GuardedApp) and app.drawing and app.screen_stack and isinstance(app.screen, GuardedScreen):
        app.screen.draw()


def at_rest(app: App[Any]) -> bool:
    """Return True if the app and the widgets of its screen have no message, and none is being handled.

    Widgets of an app that has ended may have messages that nothing will handle.
    """
    return not app.is_running or not any(map(_busy, (app, *app.screen.walk_children(with_self=True))))


def _busy(node: MessagePump) -> bool:
    """Return True if a node has messages or is handling one; Textual's own pilot sends each node a message instead, and waits."""
    if node._closing or node._closed or node._task is None:  # it takes no messages any more
        return False
    return node.message_queue_size > 0 or not node._message_queue.ready_event._waiters


def draw_changes(screen: Screen[Any]) -> None:
    """Lay out and draw what has changed, without waiting for the time at which Textual does."""
    screen._on_timer_update()


# ------------------------------------------------------------------------------
# The parser of the bytes from a terminal. It ignores bytes that are no text and unknown sequences.


LONGEST_SEQUENCE = 31  # characters of a control sequence; Textual's parser interprets longer ones as keys
LONGEST_PASTE = 10**6  # characters; the rest of a longer paste is ignored
LARGEST = 10_000  # columns and rows of a terminal
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"


class TypedText(events.InputEvent):
    """Several printable characters that were typed at once, in the place of as many keys."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class InputParser:
    """A wrapper of Textual's parser (8.2), which would turn an unknown sequence into keys, and fail on some numbers.

    A control sequence is an escape, `[`, numbers, and a final character. An unknown one is ignored as a whole. Characters that come
    at once become one message, since each message costs more than all else that happens to a character.
    """

    def __init__(self, debug: bool = False) -> None:
        self._parser = XTermParser(debug)
        self._debug = debug
        self._decode = getincrementaldecoder("utf-8")("ignore").decode
        self._sequence = ""  # the part of a control sequence received so far
        self._skipping = False  # True up to the end of a sequence that is too long
        self._pasted: list[str] | None = None  # the part of a paste received so far, None outside of one
        self._plain = True  # True if the next character begins nothing but itself

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete after these bytes."""
        text, at = self._decode(data), 0
        messages: list[Message] = []
        while at < len(text):
            end = at
            while self._plain and end < len(text) and text[end].isprintable():
                end += 1
            if end - at > 1:
                messages.append(TypedText(text[at:end]))
                at = end
                continue
            parsed = self._of(text[at])
            messages += parsed
            same = len(parsed) == 1 and isinstance(parsed[0], events.Key) and parsed[0].character == text[at]
            self._plain = same and text[at] != "\x1b"  # the key may be the escape before this one, which begins another sequence
            at += 1
        return messages

    def tick(self) -> list[Message]:
        """Return the messages of a single escape, once its delay is over."""
        return self._parsed(self._parser.tick)

    def end(self) -> list[Message]:
        """Return the remaining messages at the end of the input."""
        with suppress(EOFError, ParseError):
            return self._parsed(lambda: self._parser.feed(""))
        return []

    def _of(self, char: str) -> list[Message]:
        if self._skipping:
            self._skipping = not _ends(char)
            return []
        if self._pasted is not None:
            return self._paste(self._pasted, char)
        messages = self._parsed(lambda: self._parser.feed(char))
        self._sequence = char if char == "\x1b" else f"{self._sequence}{char}" if self._sequence else ""
        sequence = self._sequence
        if len(sequence) < 2:
            return messages
        if sequence[1] != "[" or sequence in ("\x1b[M", "\x1b[["):  # other forms: the old mouse protocol, the Linux console
            self._sequence = ""
        elif _ends(char) and len(sequence) > 2:
            self._sequence, self._pasted = "", [] if sequence == PASTE_BEGINS else None
            if not messages:
                self._reset()
        elif len(sequence) == LONGEST_SEQUENCE:
            self._sequence, self._skipping = "", True
            self._reset()
        return messages

    def _paste(self, pasted: list[str], char: str) -> list[Message]:
        """Return a paste once it is complete, including the escapes in it."""
        pasted.append(char)
        if char != "~" or "".join(pasted[-len(PASTE_ENDS) :]) != PASTE_ENDS:
            del pasted[LONGEST_PASTE : -len(PASTE_ENDS)]
            return []
        self._pasted = None
        return [events.Paste("".join(pasted[: -len(PASTE_ENDS)]).replace("\0", ""))]

    def _parsed(self, parse: Callable[[], Iterable[Message]]) -> list[Message]:
        try:
            return [message for message in parse() if _makes_sense(message)]
        except (ValueError, OverflowError, IndexError):  # a number that cannot be parsed, or is no code of a character
            self._reset()
            return []

    def _reset(self) -> None:
        """Discard the part of a sequence that has been read."""
        last, self._parser = self._parser, XTermParser(self._debug)
        for name in ("last_x", "last_y", "mouse_pixels", "terminal_size", "terminal_pixel_size"):
            setattr(self._parser, name, getattr(last, name))


def _ends(char: str) -> bool:
    """Return True if a character ends a control sequence."""
    return "@" <= char <= "~" or char < " "


def _makes_sense(message: Message) -> bool:
    """Return True if a message is plausible: a key without surrogates, a size in the valid range."""
    if isinstance(message, events.Key) and message.character is not None:
        return not any("\ud800" <= char <= "\udfff" for char in message.character)
    if isinstance(message, events.Resize):
        return all(0 < cells <= LARGEST for cells in message.size)
    return True


# ------------------------------------------------------------------------------
# Handlers of the signals that end the process: the program exits in order, or, if it is stuck, by force.


PATIENCE = 3.0  # seconds for an exit in order
LEAVE = b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"  # as Textual ends
#: The signals that end a process by default and that others send it: shells, batch systems, a terminal that closes, limits. Windows
#: sends SIGBREAK where the console is closed, and has few of the others.
ENDING = ("SIGTERM", "SIGHUP", "SIGINT", "SIGBREAK", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU")


class EndingSignals:
    """Handlers of signals. They run in the main thread, whatever it waits for, and ask the event loop to exit by `leave`.

    A loop that waits for a blocked terminal or for a computing thread would never exit, so a thread ends the process after
    `PATIENCE`. The work is in the session's file then, as after a kill.
    """

    def __init__(self, leave: Callable[[int], None]) -> None:
        self._leave = leave
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._modes: list[Any] | None = None  # of the terminal, as a shell expects them

    def handle(self) -> None:
        """Call `leave` in this event loop on a signal, and end the process if exiting takes longer than `PATIENCE`."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        self._loop, self._modes = asyncio.get_running_loop(), modes_of_terminal()
        self._before = {number: signal.signal(number, self._handler) for number in ending_signals()}

    def take(self, number: int) -> None:
        """Exit as on this signal."""
        if self._loop is None:
            self._leave(number)
            return
        threading.Thread(target=_end_anyway, args=(128 + number, self._modes), daemon=True, name="ending").start()
        with suppress(RuntimeError):  # the loop has ended, and the rest of the program is about to
            self._loop.call_soon_threadsafe(self._leave, number)

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _handler(self, number: int, frame: FrameType | None) -> None:
        self.take(number)


def ending_signals() -> list[int]:
    """Return the signals of `ENDING` that this system has."""
    return [getattr(signal, name) for name in ENDING if hasattr(signal, name)]


def modes_of_terminal() -> list[Any] | None:
    """Return the modes of the terminal, None if there is none."""
    with suppress(Exception):  # no terminal, or Windows, where the console has no such modes
        import termios

        return termios.tcgetattr(sys.__stdin__.fileno())  # type: ignore[union-attr]
    return None


def _end_anyway(code: int, modes: list[Any] | None) -> None:
    time.sleep(PATIENCE)
    with suppress(Exception):
        _restore_terminal((sys.__stdin__ if os.name == "posix" else sys.__stdout__).fileno(), modes)  # type: ignore[union-attr]
    os._exit(code)


def _restore_terminal(terminal: int, modes: list[Any] | None) -> None:
    """Restore the modes of a terminal, and leave its other screen if it can still be written."""
    try:
        import termios
    except ImportError:  # on Windows, where writing to the console does not block
        os.write(terminal, LEAVE)
        return
    if modes is not None:
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
    if select.select([], [terminal], [], 0)[1]:
        os.write(terminal, LEAVE)
