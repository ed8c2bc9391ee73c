"""The lines of a screen as they were drawn last."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen
from textual.strip import Strip


def drawn_lines(screen: Screen[Any]) -> list[Strip]:
    """The rows of a screen, from the top, each as wide as the screen."""
    return screen._compositor.render_strips()
