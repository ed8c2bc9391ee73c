"""The lines of a screen as last drawn."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen
from textual.strip import Strip


def drawn_lines(screen: Screen[Any]) -> list[Strip]:
    """Return the rows of a screen from top to bottom, each as wide as the screen."""
    return screen._compositor.render_strips()
