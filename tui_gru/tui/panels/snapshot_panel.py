"""The base of panels that show numbers of a snapshot, each of which can be pointed at."""

from __future__ import annotations

from typing import Any

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.widgets.cells import CellPanel
from tui_gru.tui.widgets.refs import Ref


class SnapshotPanel(CellPanel):
    """A panel whose subclasses store the snapshot that they show in `_snapshot`."""

    _snapshot: Snapshot | None = None

    def read(self, ref: Ref) -> Any:
        if self._snapshot is None:
            return None
        return self._snapshot.last_step(ref.name) if ref.change else self._snapshot.value(ref.name, ref.t)

    @property
    def program(self) -> Program:
        assert self._snapshot is not None
        return self._snapshot.program
