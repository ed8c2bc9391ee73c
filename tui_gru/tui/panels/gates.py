"""The values of one timestep side by side: gates, candidate and states, or their gradients on the way back."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import Grid

from tui_gru.debugger.formula import screen_name
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.view import View
from tui_gru.tui.widgets.matrix import MatrixView
from tui_gru.tui.widgets.refs import refs_of

FORWARD = ("z", "r", "h_tilde", "h", "h_prev")
#: What stands in the place of each on the way back; the last is what later timesteps hand down to dh.
BACKWARD = ("dz", "dr", "dh_tilde", "dh", "dh_future")

_WORDS = {
    "z": "update",
    "r": "reset",
    "h_tilde": "candidate",
    "h": "state",
    "h_prev": "before",
    "dh_future": "from later",
}
_GATES = ("z", "r")
_BOUNDED = ("h_tilde", "h", "h_prev")  # from −1 to 1, so that colours can be compared between them


class ValueMatrix(MatrixView):
    """One recorded name, (B, H), at the position's timestep: dots until its line has been executed there."""

    def __init__(self, value_name: str, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.value_name, self.minus = value_name, ""

    def show(self, snapshot: Snapshot, view: View) -> None:
        name, self.minus = self.value_name, snapshot.minus
        self.refs = refs_of(name)
        self.show_array(
            snapshot.value(name),
            kind="unit" if name in _GATES and not self.minus else "signed",
            shape=(snapshot.config.batch_size, snapshot.config.hidden_size),
            scale=1.0 if name in _BOUNDED and not self.minus else None,
            fresh=snapshot.line is not None and snapshot.line.target == name,
            row=view.row,
        )

    def _caption(self) -> None:
        """The title has a word beside the name, or the branch that is compared with, where there is room for both."""
        name, word = screen_name(self.value_name), _WORDS.get(self.value_name, "")
        if self.minus:
            titles = [f"{name} − {name} {self.minus}", f"{name} − {self.minus}", f"{name} −…"]
        else:
            titles = [f"{name}  {word}", name] if word else [name]
        room = self.outer_size.width - 6
        glyphs = self.palette.glyphs
        self.title = next((title for title in titles if cell_len(transliterate(title, glyphs)) <= room), titles[-1])
        super()._caption()

    def name_cell(self, row: int, column: int) -> str:
        return f"row {row + 1}, unit {column + 1}"


class Gates(Grid):
    """z, r, h̃, h and the state before; in the backward phase dz, dr, dh̃, dh and what comes from later timesteps.

    Five in a row where there is the width, else in as many rows as the height allows.
    """

    DEFAULT_CSS = """
    Gates {
        grid-size: 5;
        ValueMatrix { width: 1fr; height: 1fr; }
    }
    """

    #: The least outer size of a panel that shows something.
    LEAST: ClassVar[tuple[int, int]] = (15, 4)

    def compose(self) -> ComposeResult:
        for name in FORWARD:
            yield ValueMatrix(name, id=f"value-{name.replace('_', '-')}")

    def show(self, snapshot: Snapshot, view: View) -> None:
        names = BACKWARD if snapshot.position.phase == "backward" else FORWARD
        for matrix, name in zip(self.query_children(ValueMatrix), names, strict=True):
            matrix.value_name = name
            matrix.show(snapshot, view)

    def on_resize(self, event: events.Resize) -> None:
        columns = self._columns(event.size.width, event.size.height)
        if columns != self.styles.grid_size_columns:  # even the same again would have all laid out once more
            self.styles.grid_size_columns = columns

    def _columns(self, width: int, height: int) -> int:
        least_width, least_height = self.LEAST
        for columns in (5, 3, 2, 1):
            if columns * least_width <= width and -(-5 // columns) * least_height <= height:
                return columns
        return 5
