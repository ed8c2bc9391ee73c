"""A panel that covers the blackboard until it is lifted: a list, a report, a derivation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.view import View
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.debugger.timeline.anchor import Anchor


def hidden(*keys: tuple[str, str, str]) -> list[BindingType]:
    """The bindings of keys of one panel, which the footer does not show: each with its action and a description."""
    return [Binding(key, action, description, show=False) for key, action, description in keys]


class Overlay(Panel):
    """The screen shows it every snapshot, as the panels under it, and lifts it on escape. Keys that it does not bind go on up."""

    #: The moment that it is of; None where it is of every moment.
    read_at: Anchor | None = None

    DEFAULT_CSS = "Overlay { height: 1fr; width: 1fr; }"

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Draw this snapshot from now on."""
        raise NotImplementedError
