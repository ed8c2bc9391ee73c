"""The base of the panels of the main screen, each of which declares what it reads of a snapshot and how it draws it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np
from textual.content import Content

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.view import Compared, View
from tui_gru.tui.widgets.panel import Panel

#: The texts in the border: the title, and a note below.
Titles = tuple[str | Content | None, str | Content | None]


class SnapshotPanel(Panel):
    """A panel that shows snapshots. A subclass declares

    - `reads`: what its content and its titles depend on. While that is the same, nothing is built again;
    - `titles`: the texts in its border;
    - `is_fresh`: whether the line just executed has computed what it shows, which is marked in the border;
    - `build`: its content.

    It draws what it is given, and decides nothing about the run.
    """

    #: What the panel shows while two branches are compared.
    COMPARED: ClassVar[Compared] = Compared.ALONE

    _snapshot: Snapshot | None = None
    _view = View()
    _read: Hashable = None

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return what the content and the titles depend on, by default every snapshot. `contents` makes arrays comparable."""
        return snapshot, view

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return the title and the note in the border."""
        raise NotImplementedError

    def is_fresh(self, snapshot: Snapshot) -> bool:
        """Return True if the line just executed has computed what the panel shows."""
        return False

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot in this view."""
        self._snapshot, self._view = snapshot, view
        read = snapshot.program, snapshot.minus, self.reads(snapshot, view)
        if read == self._read and not self.failed:
            return
        self._read = read
        self.caption()
        self.set_class(self.is_fresh(snapshot), "-fresh")
        self.refresh_content()
        self._follow()

    def caption(self) -> None:
        """Set the texts of the border."""
        if self._snapshot is not None and self.is_attached:
            self.set_titles(*self.titles(self._snapshot))

    def on_resize(self) -> None:
        self.caption()


def contents(*values: Any) -> Hashable:
    """Return the contents of arrays and numbers for a comparison. NaN is equal to itself."""
    return tuple((value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value for value in values)
