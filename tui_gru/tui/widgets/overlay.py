"""The base of overlays, which are panels that cover the blackboard: lists, reports, derivations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.view import View
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.debugger.timeline.timeline import Anchor


def hidden(*keys: tuple[str, str, str]) -> list[BindingType]:
    """Return bindings that the footer does not show, from tuples of key, action and description."""
    return [Binding(key, action, description, show=False) for key, action, description in keys]


class Overlay(Panel):
    """A panel that the screen updates with every snapshot and closes on escape. Keys without a binding here go to the screen."""

    #: The moment to which the content belongs, None if it belongs to every moment.
    read_at: Anchor | None = None

    DEFAULT_CSS = "Overlay { height: 1fr; width: 1fr; }"

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot."""
        raise NotImplementedError
