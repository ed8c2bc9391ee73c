"""An app, a screen and widgets that report an error in a message handler, for which Textual ends the program.

The screen is not drawn while the app says so.
"""

from __future__ import annotations

from typing import TypeVar

from textual.app import App
from textual.events import Key
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import WorkerFailed

W = TypeVar("W", bound=Widget)


class GuardedApp(App[None]):
    """Subclasses report an error (`failed`) and name the line that the program ends with after one (`last_words`).

    While `drawing` is False, its guarded screens are laid out and not drawn.
    """

    drawing = True

    def failed(self, error: Exception, doing: str) -> None:
        """Report an error. `doing` says what was being done."""
        raise NotImplementedError

    def last_words(self, error: Exception) -> str:
        """The line on standard error when an error ends the program."""
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
        """Textual calls this for an error in a worker, in a callback or in drawing."""
        if isinstance(error, WorkerFailed) and isinstance(error.error, Exception):
            error = error.error
        self.failed(error, "the screen's own work")

    def _fatal_error(self) -> None:
        """Leave with one line in place of Textual's traceback."""
        assert self._exception is not None
        self.panic(self.last_words(self._exception))


class GuardedScreen(Screen[None]):
    """Subclasses report an error (`failed`)."""

    def draw(self) -> None:
        """Draw what has changed since it was drawn last, unless the app waits with that."""
        if getattr(self.app, "drawing", True):
            super()._compositor_refresh()
        else:
            self._dirty_widgets.clear()  # the compositor has the regions

    _compositor_refresh = draw  # Textual's name for it

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


def reports_errors(cls: type[W]) -> type[W]:
    """Decorate a widget class: the screen that a widget of it is on reports the widget's errors."""
    dispatch = cls._dispatch_message

    async def dispatch_and_report(self: W, message: Message) -> None:
        try:
            await dispatch(self, message)
        except Exception as error:
            screen = self.screen if self.is_attached else None
            if not isinstance(screen, GuardedScreen):
                raise
            screen.failed(error, f"{doing(message)} in {type(self).__name__}")

    cls._dispatch_message = dispatch_and_report  # type: ignore[assignment]
    return cls


def doing(message: Message) -> str:
    """What is being done while a message is handled."""
    return f"dealing with {message!r}" if isinstance(message, Key) else f"dealing with {type(message).__qualname__}"
