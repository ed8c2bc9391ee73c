"""The base of all panels that show snapshots. Each declares what it reads of a snapshot, its titles and its content."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from textual.containers import Container
from textual.content import Content

from tui_gru.debugger.program.listing import layer_at
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.equations.compose import Layer
from tui_gru.tui.widgets.boxes import EMPTY, Box
from tui_gru.tui.widgets.panel import Panel, PanelRows

if TYPE_CHECKING:
    from tui_gru.debugger.timeline.timeline import Anchor

#: The texts in the border: the title, and a note below. Of a list of hints, as many as fit are shown.
Titles = tuple[str | Content | None, str | Content | list[str] | None]


@dataclass(frozen=True)
class View:
    """The view of a snapshot: what the user has singled out. It has no effect on the training.

    `row` is the batch row singled out, 0-based, None for none. `layer` is the layer shown by panels of one layer, counted through
    all directions; None is that of the current line. With `differences`, in a comparison of branches, matrices show this branch
    minus the other instead of the values of this branch.
    """

    row: int | None = None
    layer: int | None = None
    differences: bool = True

    def layer_of(self, snapshot: Snapshot) -> Layer:
        """Return the layer that is shown, by default that of the current line."""
        program = snapshot.program
        if self.layer is not None and self.layer < len(program.layers):
            return program.layers[self.layer]
        return layer_at(program, snapshot.line)


class Compared(Enum):
    """What a panel shows while two branches are compared."""

    DIFFERENCES = "differences"  # the numbers of this branch minus those of the other
    BOTH = "both"  # both branches, or nothing that belongs to a branch
    ALONE = "alone"  # this branch, which its border then says


class SnapshotPanel(Panel):
    """A panel that shows snapshots. A subclass declares

    - `reads`: what its content and its titles depend on. While that is the same, nothing is built again;
    - `titles`: the texts in its border;
    - `is_fresh`: whether the line just executed has computed what it shows, which is marked in the border;
    - `content`: what it draws.

    It draws what it is given, and decides nothing about the run.
    """

    #: What the panel shows while two branches are compared.
    COMPARED: ClassVar[Compared] = Compared.ALONE

    #: The moment to which the content belongs, None if it belongs to every moment.
    read_at: Anchor | None = None

    _snapshot: Snapshot | None = None
    _view = View()
    _read: Hashable = None

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return what the content and the titles depend on, by default every snapshot. `contents` makes arrays comparable."""
        return snapshot, view

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return the title and the note in the border, by default none."""
        return None, None

    def is_fresh(self, snapshot: Snapshot) -> bool:
        """Return True if the line just executed has computed what the panel shows."""
        return False

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box | PanelRows:
        """Return the content for a panel of this inner size, as `build` does."""
        raise NotImplementedError

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is shown. There is one as soon as there is any content."""
        assert self._snapshot is not None
        return self._snapshot

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot in this view."""
        self._snapshot, self._view = snapshot, view
        read = snapshot.program, snapshot.minus, self.reads(snapshot, view)
        if read == self._read and not self.failed:
            return
        self._read = read
        self.set_class(self.is_fresh(snapshot), "-fresh")
        self.show_again()
        self._follow()

    def show_again(self) -> None:
        """Show the same snapshot, after a change of how the panel shows it."""
        self.caption()
        self.refresh_content()

    def caption(self) -> None:
        """Set the texts of the border."""
        if self._snapshot is not None and self.is_attached:
            self.set_titles(*self.titles(self._snapshot))

    def build(self, width: int, height: int) -> Box | PanelRows:
        return EMPTY if self._snapshot is None else self.content(self._snapshot, width, height)

    def on_resize(self) -> None:
        self.caption()


class PanelGroup(Container):
    """Several panels in the place of one, which show the same snapshots."""

    BLANK = True  # Textual's name: it draws nothing itself
    COMPARED: ClassVar[Compared] = Compared.DIFFERENCES

    _snapshot: Snapshot | None = None
    _view = View()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that is shown."""
        assert self._snapshot is not None
        return self._snapshot

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot in this view. Subclasses show it on their panels."""
        self._snapshot, self._view = snapshot, view


def contents(*values: Any) -> Hashable:
    """Return the contents of arrays and numbers for a comparison. NaN is equal to itself."""
    return tuple((value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value for value in values)
