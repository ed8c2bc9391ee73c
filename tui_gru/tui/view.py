"""How the person looks at a snapshot: what is singled out. No part of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tui_gru.debugger.snapshot import Snapshot


@dataclass(frozen=True)
class View:
    """`row` is the batch row singled out, 0-based; None shows all rows alike.

    `differences`: where two branches are compared, matrices show this one minus the other, not this one's own numbers.
    """

    row: int | None = None
    differences: bool = True


@runtime_checkable
class Shows(Protocol):
    """A panel: it draws a snapshot and decides nothing."""

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Draw this snapshot from now on."""
