"""The lines of a screen as last drawn, and a context in which several changes are drawn only once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from textual.app import App
from textual.screen import Screen
from textual.strip import Strip

from tui_gru.tui.terminal.guarded import GuardedApp, GuardedScreen


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
