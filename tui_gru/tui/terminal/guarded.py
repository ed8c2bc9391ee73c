"""An app, a screen and scroll views that report errors of message handlers, on which Textual would end the program.

The app can also suspend drawing, and a view keeps its lines until a part of it must be drawn again.
"""

from __future__ import annotations

from typing import Any, TypeVar

from textual.app import App
from textual.events import Key, ScreenResume
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import WorkerFailed

V = TypeVar("V", bound=ScrollView)
#: Lines, and the region of a view that they show.
KeptLines = tuple[Region, list[Strip]]


class GuardedApp(App[None]):
    """An app whose subclasses implement the report of an error (`failed`) and the last line of output (`last_words`).

    While `drawing` is False, its guarded screens are laid out but not drawn.
    """

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
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            self.failed(error, doing(message))

    def _handle_exception(self, error: Exception) -> None:
        """Report an error in a worker, in a callback or in drawing, for which Textual calls this."""
        if isinstance(error, WorkerFailed) and isinstance(error.error, Exception):
            error = error.error
        self.failed(error, "updating the screen")

    def _fatal_error(self) -> None:
        """Exit with one line instead of Textual's traceback."""
        assert self._exception is not None
        self.panic(self.last_words(self._exception))


class GuardedScreen(Screen[None]):
    """A screen whose subclasses implement the report of an error (`failed`)."""

    _laid_out = False  # True once the layout is final that the first drawing shows

    def draw(self) -> None:
        """Draw the changes since the last drawing, unless the app suspends drawing."""
        if getattr(self.app, "drawing", True) and self._laid_out:
            super()._compositor_refresh()
        else:
            self._dirty_widgets.clear()  # the compositor has the regions

    _compositor_refresh = draw  # Textual's name for it

    def lay_out(self) -> None:
        """Update the layout at once. Textual does it after the messages that wait."""
        self._refresh_layout()

    def _on_screen_resume(self, event: ScreenResume) -> None:
        """Lay out a new screen. Textual would also style again what was styled when mounted, and draw what is about to change."""
        if not self.stack_updates and not self.app._notifications:
            self.stack_updates += 1
            self._refresh_layout(self.app.size)
            self.refresh()
            event.prevent_default()

    def _screen_resized(self, size: Size) -> None:
        """Lay out and draw for a size of the terminal, unless it is out of date or the present one, which Textual repeats."""
        if size == self.app.size != self.outer_size:
            super()._screen_resized(size)

    def _on_timer_update(self) -> None:
        """Update the layout if needed, and draw. The first time, draw only then."""
        if not self._laid_out:
            if self._layout_required:
                self._refresh_layout()
                self._layout_required = False
            self._laid_out = True
        super()._on_timer_update()

    def failed(self, error: Exception, doing: str) -> None:
        """Report an error. `doing` says what was being done."""
        raise NotImplementedError

    async def _dispatch_message(self, message: Message) -> None:
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            if not self.is_mounted:
                raise
            self.failed(error, doing(message))


def guarded(kind: type[V]) -> type[V]:
    """Decorate the class of a scroll view: its screen reports its errors, and `lines_kept` is set to None once Textual marks a part
    of it to be drawn again.

    Whenever any widget is drawn, Textual asks all those on the screen for their lines. It keeps these too, but puts them together
    anew each time, which takes longer than all that has changed.
    """
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
        view.lines_kept = None
        set_dirty(view, *regions)

    kind._dispatch_message, kind._set_dirty = dispatch_and_report, forget_lines  # type: ignore[assignment]
    return kind


def being_removed(widget: Widget) -> bool:
    """Return True if a widget, or one that it is in, is being removed. It is still attached, but ignores keys."""
    return any(node._pruning for node in widget.ancestors_with_self)


def doing(message: Message) -> str:
    """Describe the handling of a message, for a report."""
    return f"handling {message!r}" if isinstance(message, Key) else f"handling {type(message).__qualname__}"
