"""The lines of a screen as they were drawn last, and a screen that is drawn once after many changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from textual.screen import Screen
from textual.strip import Strip


def drawn_lines(screen: Screen[Any]) -> list[Strip]:
    """The rows of a screen, from the top, each as wide as the screen."""
    return screen._compositor.render_strips()


@contextmanager
def drawn_once(screen: Screen[Any]) -> Iterator[None]:
    """Draw a screen at the end, once, whatever changes until then; its layout follows every change, as ever.

    Drawing is three quarters of what a key costs, which nobody sees of keys that a program types.
    """
    if "_compositor_refresh" in vars(screen):  # it waits for the end of another
        yield
        return
    draw = screen._compositor_refresh
    screen._compositor_refresh = screen._dirty_widgets.clear  # type: ignore[method-assign]
    try:
        yield
    finally:
        del screen._compositor_refresh
        if screen.is_running:
            draw()
