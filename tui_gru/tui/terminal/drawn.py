"""What is on a screen: the lines as last drawn, changes that are drawn once or at once, and whether all messages are handled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from textual.app import App
from textual.message_pump import MessagePump
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
