"""The lines of a screen as they were drawn last, and many changes of it that are drawn once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from textual.app import App
from textual.screen import Screen
from textual.strip import Strip

from tui_gru.tui.terminal.guarded import GuardedApp, GuardedScreen


def drawn_lines(screen: Screen[Any]) -> list[Strip]:
    """The rows of a screen, from the top, each as wide as the screen."""
    return screen._compositor.render_strips()


@contextmanager
def drawn_once(app: App[Any]) -> Iterator[None]:
    """Draw the main screen at the end, once, whatever changes until then; its layout follows every change, as ever.

    Drawing is three quarters of what a key costs, and nobody sees the pictures between keys that a program types.
    """
    if not isinstance(app, GuardedApp) or not app.drawing:  # it is drawn at once, or at the end of another
        yield
        return
    app.drawing = False
    try:
        yield
    finally:
        app.drawing = True
        if app.screen_stack and isinstance(app.screen, GuardedScreen):
            app.screen.draw()
