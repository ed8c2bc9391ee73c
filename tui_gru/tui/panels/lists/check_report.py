"""The report of a check of a batch against PyTorch and finite differences: a table with a row per array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.message import Message
from textual.timer import Timer

from tui_gru.debugger.analysis.checks.checking import CheckResult, CheckRow
from tui_gru.debugger.program.position import Position, in_words
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.panels.lists.check_table import Table, waiting
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.boxes import Box, clip
from tui_gru.tui.widgets.list_overlay import ListOverlay
from tui_gru.tui.widgets.snapshot_panel import Titles

SPIN = 0.1  # seconds


class CheckReport(ListOverlay):
    """A spinner until the report is there, then its table with a cursor, which starts at the largest difference."""

    ABOUT = "This batch, computed again by PyTorch and by finite differences: the largest difference of each array."

    ASKING = frozenset({"choose", "every"})
    BINDINGS: ClassVar[list[BindingType]] = [("space", "every")]

    @dataclass
    class EntryChosen(Message):
        """Posted for the entry of a row with the largest difference: `index` into `name` at timestep `t` (None: whole batch)."""

        name: str
        index: tuple[int, ...]
        t: int | None

    class EveryBatch(Message):
        """Posted to turn the check of every batch while training on or off."""

    def __init__(self, position: Position) -> None:
        super().__init__()
        self._position = position
        self._table: Table | None = None
        self._doing, self._problem, self._frame = "loading PyTorch", "", 0
        self._spinner: Timer | None = None
        self._top = 0

    @property
    def report(self) -> CheckResult | None:
        """The report, None until the check has ended."""
        return self._table.report if self._table is not None else None

    @property
    def waiting(self) -> bool:
        """True until there is a report or a problem."""
        return self._table is None and not self._problem

    def on_mount(self) -> None:
        self._spinner = self.set_interval(SPIN, self._spin)

    def is_doing(self, doing: str) -> None:
        """Set the word beside the spinner."""
        self._doing = doing
        self.refresh_content()

    def show_report(self, report: CheckResult) -> None:
        """Show the report, with the cursor at the largest difference."""
        self._table = Table(report)
        self.cursor = self._table.rows.index(report.worst)
        self._still()

    def show_problem(self, problem: str) -> None:
        """Show why there is no report."""
        self._problem = problem
        self._still()

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if self._table is None:
            return clip(self.palette, waiting(self.palette, self._doing, self._problem, self._frame, width), width, height)
        self._top, box = self._table.draw(self.palette, snapshot.checked, self.cursor, self._top, width, height)
        return clip(self.palette, box, width, height)

    @property
    def entries(self) -> int:
        """The number of rows of the table."""
        return len(self._table.rows) if self._table is not None else 0

    def entry_at(self, row: int) -> int | None:
        """Return the row of the table on a row of the last drawing."""
        return self._table.row_at(row) if self._table is not None else None

    def choose(self) -> None:
        """Ask about the largest difference in the row under the cursor."""
        assert self._table is not None
        self.post_message(self._entry(self._table.rows[self.cursor]))

    def action_every(self) -> None:
        self.post_message(self.EveryBatch())

    def _entry(self, row: CheckRow) -> EntryChosen:
        at = row.worst
        every_timestep = self.report is not None and self.report.program.names[row.name].timed
        return self.EntryChosen(row.name, at.index[1:] if every_timestep else at.index, at.index[0] if every_timestep else None)

    def _spin(self) -> None:
        self._frame += 1
        self.refresh_content()

    def _still(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
        self.show_again()

    def titles(self, snapshot: Snapshot) -> Titles:
        at = self._position
        title = f"check · {in_words(at.epoch, at.batch, between=' · ')}/{snapshot.program.num_batches:,}"
        if at.number != snapshot.position.number:
            title += with_keys(self, " · <check> checks this one")
        state = "on" if snapshot.checked is not None else "off"
        return title, [f"space: every batch ({state})", with_keys(self, "<stop>")]
