"""Whether the widgets of an app have handled all their messages, and drawing what has changed at once."""

from __future__ import annotations

from typing import Any

from textual.app import App
from textual.message_pump import MessagePump
from textual.screen import Screen


def at_rest(app: App[Any]) -> bool:
    """Return True if the app and the widgets of its screen have no message, and none is being handled."""
    return not any(map(_busy, (app, *app.screen.walk_children(with_self=True))))


def _busy(node: MessagePump) -> bool:
    """Return True if a node has messages or is handling one; Textual's own pilot sends each node a message instead, and waits."""
    if node._closing or node._closed or node._task is None:  # it takes no messages any more
        return False
    return node.message_queue_size > 0 or not node._message_queue.ready_event._waiters


def draw_changes(screen: Screen[Any]) -> None:
    """Lay out and draw what has changed, without waiting for the time at which Textual does."""
    screen._on_timer_update()
