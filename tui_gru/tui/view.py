"""How the person looks at a snapshot: what is singled out. No part of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.equations.compose import Layer


@dataclass(frozen=True)
class View:
    """`row` is the batch row singled out, 0-based; None shows all rows alike. `layer` is the layer, in one direction, that panels
    of one layer show, counted through all of them; None is that of the line at work.

    `differences`: where two branches are compared, matrices show this one minus the other, not this one's own numbers.
    """

    row: int | None = None
    layer: int | None = None
    differences: bool = True

    def layer_of(self, snapshot: Snapshot) -> Layer:
        """The layer that is shown; the last one where the line at work is of none."""
        program, line = snapshot.program, snapshot.line
        if self.layer is not None and self.layer < len(program.layers):
            return program.layers[self.layer]
        return (program.layer_with(line.target) if line is not None else None) or program.main_layer


@runtime_checkable
class Shows(Protocol):
    """A panel: it draws a snapshot and decides nothing."""

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Draw this snapshot from now on."""
