"""The report of a check of a batch, at any size."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import BindingType
from textual.timer import Timer

from tui_gru.analysis.check import DIFFERENCES, CheckResult, CheckRow, CheckTotals, entry
from tui_gru.debugger.position import Position, in_words
from tui_gru.debugger.program import Program
from tui_gru.engine.numbers import counted, scientific
from tui_gru.engine.reference import Comparison
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import Box, SegmentRow, TableColumn, clip, from_rows, spans, styled_row, table
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import ListOverlay, Titles
from tui_gru.tui.theme import ASCII, Palette, folded, transliterate

# ------------------------------------------------------------------------------
# Draws the report of a check at any size, from the summary alone to all numbers.


_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_SPINNER = "|/-\\"
_FORMULA = 20  # cells; a part with a longer formula is named as in code
_ROOMY = 9  # lines; with fewer, only the first half of the summary and the rows that fit are drawn


def waiting(palette: Palette, doing: str, problem: str, frame: int, width: int) -> Box:
    """Return what is drawn before there is a report: a spinner and a word, or the problem."""
    if problem:
        return from_rows(styled_row(palette, (part, palette.warning)) for part in folded(problem, width))
    spinner = _PLAIN_SPINNER if palette.glyphs is ASCII else _SPINNER
    return spans(palette, (f"{spinner[frame % len(spinner)]} ", palette.accent), f"{doing} …")


class Table:
    """The rows of a report: first those that do not agree, then gradients, deltas and values in the order of the program."""

    def __init__(self, report: CheckResult) -> None:
        self.report = report
        self.rows = sorted(report.rows, key=lambda row: not row.wrong)
        self._shown: list[int | None] = []
        self._first = 0  # the number of lines of the detail that are about the whole array

    def row_at(self, line: int) -> int | None:
        """Return the row on a line of the last drawing, None if there is none."""
        return self._shown[line] if 0 <= line < len(self._shown) else None

    def draw(
        self, palette: Palette, checked: CheckTotals | None, cursor: int, top: int, width: int, height: int
    ) -> tuple[int, Box]:
        """Draw the table with the row under the cursor in view. Return the index of the first row shown, and the box.

        `top` is the index of the first row in the last drawing.
        """
        report = self.report
        sign, ink = (_tick(palette), palette.gate) if report.agrees else (_cross(palette), palette.warning)
        summary = report.summary if height >= _ROOMY else report.summary.partition(";")[0]
        head = [
            styled_row(palette, (sign if i == 0 else " " * len(sign), ink), (words, palette.strong))
            for i, words in enumerate(folded(transliterate(summary, palette.glyphs), width - len(sign)))
        ]
        for note in (*report.notes, _totals_in_words(checked, report)) if height >= _ROOMY else ():
            head += (
                styled_row(palette, (f"  {part}", palette.dim)) for part in folded(transliterate(note, palette.glyphs), width - 2)
            )
        detail = self._detail(palette, self.rows[cursor], width)
        heading = 2 if height >= _ROOMY else 0
        spare = height - len(head) - heading
        if spare < len(detail) + 8:
            detail = detail[: self._first]
        if spare < len(detail) + 5:
            detail = []
        room = max(spare - len(detail) - (1 if detail else 0), 1)
        top = min(max(top, cursor - room + 1), cursor, max(len(self.rows) - room, 0))
        cells = [self._cells(palette, row, under_cursor=i == cursor) for i, row in enumerate(self.rows)]
        titles, *rows = table(palette, cells, _COLUMNS, width)
        shown = [(), titles][:heading] + rows[top : top + room]
        self._shown = [None] * (len(head) + heading) + [*range(top, min(top + room, len(self.rows)))]
        return top, from_rows([*head, *shown, *([(), *detail] if detail else [])])

    def _detail(self, palette: Palette, row: CheckRow, width: int) -> list[SegmentRow]:
        """Return all details of one row."""
        lines, name = [], self.report.program.writer.name(row.name)
        written = _written(row.name, self.report.program)
        of_part = "" if written is None else f" = {written}"
        for at in (row.whole, row.slopes):
            if at is None:
                continue
            part = f"{at.checked} of {row.whole.checked:,}" if at.against == DIFFERENCES else f"all {at.checked:,}"
            entries = "the one entry" if row.whole.checked == 1 else f"{part} entries"
            where = entry(at, self.report.program)
            lines.append(
                f"{name}{of_part}, {entries} against {_name(at)}: {scientific(at.absolute)} {f'at {where}' if where else 'apart'}, "
                f"ours {self.report.written(at.ours)}, theirs {at.theirs!r}"
            )
        worst = row.worst
        why = "rounding and the length of the steps explain" if worst.against == DIFFERENCES else "rounding explains"
        allowed = f"{why} up to {scientific(worst.allowed)}"
        lines.append(row.excuse or (allowed if row.agrees else f"{allowed}: this does not agree"))
        shown = [(part, i) for i, content in enumerate(lines) for part in folded(transliterate(content, palette.glyphs), width - 2)]
        self._first = sum(i == 0 for _, i in shown)
        return [styled_row(palette, (f"  {part}", palette.plain if i == 0 else palette.dim)) for part, i in shown]

    def _cells(self, palette: Palette, row: CheckRow, *, under_cursor: bool) -> list[SegmentRow]:
        """Return the cells of a row, for `_COLUMNS`."""
        report, comparison, slopes = self.report, row.whole, row.slopes
        digits = 10 if report.program.config.dtype == "float32" else 17
        name, written = report.program.writer.name(row.name), _written(row.name, report.program)
        name = name if written is None or cell_len(written) > _FORMULA else written
        return [
            styled_row(palette, (palette.glyphs.target if row is report.worst else " ", palette.target)),
            styled_row(palette, (f"{transliterate(name, palette.glyphs)} ", palette.cursor if under_cursor else palette.plain)),
            (_verdict(palette, comparison.agrees, row),),
            styled_row(palette, (scientific(comparison.absolute), palette.warning if row.wrong else palette.plain)),
            styled_row(palette, (scientific(comparison.relative), palette.dim)),
            styled_row(palette, entry(comparison, report.program)),
            styled_row(palette, report.written(comparison.ours)),
            styled_row(palette, f"{comparison.theirs:.{digits}g}  "),
            () if slopes is None else (_verdict(palette, slopes.agrees, row), Segment(scientific(slopes.absolute), palette.dim)),
        ]


#: The mark of the largest difference, name, verdict and difference always; the others if there is room. Names are cut off sooner
#: than a difference, which would be another number.
_COLUMNS = (
    TableColumn(gap=0, size=2),
    TableColumn(gap=0, least=1, fill=True),
    TableColumn(gap=1),
    TableColumn("differs by", gap=0),
    TableColumn("relative", need=2),
    TableColumn("at", need=1),
    TableColumn("ours", need=0, right=True),
    TableColumn("theirs  ", need=0, right=True),
    TableColumn("finite diff.", need=3),
)


def _written(name: str, program: Program) -> str | None:
    """Return the formula of a part of a line, as the line on screen has it; None for what has a name on screen."""
    formula = None if name in program.preactivations else program.parts.get(name)
    return None if formula is None else program.writer.text(formula)


def _verdict(palette: Palette, agrees: bool, row: CheckRow) -> Segment:
    if agrees:
        return Segment(_tick(palette), palette.gate)
    return (
        Segment(transliterate("≠".ljust(len(_tick(palette))), palette.glyphs), palette.dim)
        if row.excuse
        else Segment(_cross(palette), palette.warning)
    )


def _tick(palette: Palette) -> str:
    return "ok " if palette.glyphs is ASCII else "✓ "


def _cross(palette: Palette) -> str:
    return "NO " if palette.glyphs is ASCII else "✗ "


def _name(comparison: Comparison) -> str:
    return {"forward pass": "PyTorch’s forward pass", "autograd": "PyTorch’s autograd"}.get(comparison.against, comparison.against)


def _totals_in_words(checked: CheckTotals | None, report: CheckResult) -> str:
    """Return the result of checking every batch so far, in words."""
    if checked is None:
        return ""
    if not checked.batches:
        return "every batch is checked from now on: stepping takes longer"
    epoch, batch = divmod(checked.batch, report.program.num_batches)
    largest = f"{scientific(checked.worst)} at {checked.place} of {in_words(epoch, batch)}"
    return f"every batch is checked: {counted(checked.batches, 'batch')} so far, the largest difference {largest}"


# ------------------------------------------------------------------------------
# The report of a check of a batch against PyTorch and finite differences: a table with a row per array.


SPIN = 0.1  # seconds


class CheckReport(ListOverlay):
    """A spinner until the report is there, then its table with a cursor, which starts at the largest difference."""

    ABOUT = "This batch, computed again by PyTorch and by finite differences: the largest difference of each array."

    ASKING = frozenset({"choose", "every"})
    BINDINGS: ClassVar[list[BindingType]] = [("space", "every")]

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

    @property
    def problem(self) -> str:
        """Why there is no report; empty if there is none yet, or one."""
        return self._problem

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
        row = self._table.rows[self.cursor]
        at, timed = row.worst.index, self._table.report.program.names[row.name].timed
        self.request("check.entry", row.name, at[1:] if timed else at, at[0] if timed else None)

    def action_every(self) -> None:
        self.request("run", "check every")

    def _spin(self) -> None:
        self._frame += 1
        self.refresh_content()

    def _still(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
        self.show_again()

    def titles(self, snapshot: Snapshot) -> Titles:
        at = self._position
        title = f"check · {in_words(at.epoch, at.batch, step=at.step, between=' · ')}/{snapshot.program.num_batches:,}"
        if at.number != snapshot.position.number:
            title += with_keys(self, " · <check> checks this one")
        state = "on" if snapshot.checked is not None else "off"
        return Titles(title, [f"space: every batch ({state})", with_keys(self, "<stop>")])
