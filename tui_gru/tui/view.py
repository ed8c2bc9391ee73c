"""The view of a snapshot: what the user has singled out. It has no effect on the training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tui_gru.debugger.program.listing import layer_at
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.equations.compose import Layer


@dataclass(frozen=True)
class View:
    """The view of a snapshot.

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


class Shows(Protocol):
    """The protocol of panels that show snapshots."""

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot."""
