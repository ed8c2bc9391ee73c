"""How the person looks at a snapshot: what is singled out. No part of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tui_gru.debugger.program import Program
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.equations.compose import Layer


@dataclass(frozen=True)
class View:
    """`row` is the batch row singled out, 0-based; None shows all rows alike. `layer` is the layer, in one direction, that panels
    of one layer show, counted through all of them; None is the last.

    `differences`: where two branches are compared, matrices show this one minus the other, not this one's own numbers.
    """

    row: int | None = None
    layer: int | None = None
    differences: bool = True

    def layer_of(self, program: Program) -> Layer:
        """The layer that is shown."""
        layers = program.layers
        return layers[-1] if self.layer is None or self.layer >= len(layers) else layers[self.layer]


@runtime_checkable
class Shows(Protocol):
    """A panel: it draws a snapshot and decides nothing."""

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Draw this snapshot from now on."""
