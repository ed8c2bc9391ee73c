"""The prediction of one timestep: a bar for every possible next character, with the target marked."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache

import numpy as np
from rich.cells import cell_len
from textual.geometry import Size

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.tui.look.characters import widest, written_char
from tui_gru.tui.widgets.bars import bars
from tui_gru.tui.widgets.boxes import Box, SegmentRow, clip, columns, hstack, quieted, text
from tui_gru.tui.widgets.cells import CellPanel
from tui_gru.tui.widgets.panel import PanelRows
from tui_gru.tui.widgets.refs import Ref
from tui_gru.tui.widgets.snapshot_panel import Compared, Titles, View, contents
from tui_gru.tui.widgets.written import AnyArray, scale_of

_GAP = 2
#: The least width of rows side by side: with bars, and with numbers only.
_BLOCKS = (26, 17)
#: The least number of characters shown of a row: the likeliest and the target.
_FEWEST = 2


@dataclass(frozen=True)
class _Plan:
    """The layout: the rows shown, how many side by side, the number of characters of each, and blank lines between rows."""

    rows: tuple[int, ...]
    across: int
    count: int
    leading: int


class Softmax(CellPanel):
    """ŷ at the current timestep, a block of bars for each row of the batch.

    If the vocabulary does not fit, only the likeliest characters and the target are shown. If even those do not fit for all rows,
    only the row that is singled out is shown.
    """

    ABOUT = (
        "The prediction at this timestep: the probability of every character to come next, in each row of the batch. The target"
        " is marked."
    )

    COMPARED = Compared.DIFFERENCES

    _full = 1.0

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        if not snapshot.program.target:
            return snapshot, view
        values = (snapshot.value(name) for name in (snapshot.program.loss_names.prediction, "target"))
        return snapshot.position.t, view.row, self.is_fresh(snapshot), contents(*values)

    def titles(self, snapshot: Snapshot) -> Titles:
        if not snapshot.program.target:
            from tui_gru.tui.panels.values import given  # imported late: only for models of other programs

            return given.title(snapshot), None
        plan = self._plan(snapshot, self.content_size.width, self.content_size.height)
        notes = [f"t {snapshot.position.t + 1}"]
        if plan.count < snapshot.config.vocab_size:
            which = f"the {plan.count} that differ most" if snapshot.minus else f"the likeliest {plan.count}"
            notes.append(f"{which} of {snapshot.config.vocab_size}")
        name = snapshot.program.writer.name(snapshot.program.loss_names.prediction)
        title = f"{name} − {name} {snapshot.minus}" if snapshot.minus else f"{name}  softmax"
        return title, " · ".join(notes)

    def is_fresh(self, snapshot: Snapshot) -> bool:
        target, line = snapshot.program.target, snapshot.line
        return bool(target) and line is not None and line.target == snapshot.program.loss_names.prediction

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box | PanelRows:
        palette = self.palette
        if not snapshot.program.target:
            from tui_gru.tui.panels.values import given

            return given.difference_over_time(palette, snapshot, width, height)
        plan = self._plan(snapshot, width, height)
        self._full = scale_of(snapshot.value(snapshot.program.loss_names.prediction)) if snapshot.minus else 1.0
        lines = [plan.rows[i : i + plan.across] for i in range(0, len(plan.rows), plan.across)]
        tall = plan.count + plan.leading

        @cache
        def drawn(line: int) -> Box:
            each = (width - _GAP * (plan.across - 1)) // plan.across
            blocks = (self._block(snapshot, row, plan.count, each, alone=plan.across == 1) for row in lines[line])
            return clip(palette, columns(*blocks, gap=_GAP), width, tall)

        def draw(index: int) -> SegmentRow:
            line, row = divmod(index, tall)
            return drawn(line).rows[row] if row < plan.count else ()

        return PanelRows(len(lines) * tall - plan.leading, width, draw)

    def _block(self, snapshot: Snapshot, row: int, count: int, width: int, *, alone: bool) -> Box:
        """Draw a row of the batch: its number and its bars."""
        palette, vocabulary = self.palette, snapshot.config.vocabulary
        values, targets = snapshot.value(snapshot.program.loss_names.prediction), snapshot.value("target")
        y_hat: AnyArray | None = None if values is None else values[row]
        target = None if targets is None else vocabulary.index(targets[row])
        shown = _shown(y_hat, target, count, len(vocabulary))
        labels = [palette.glyphs.blank if i is None else written_char(vocabulary[i], palette.glyphs) for i in shown]
        labels[0] = " " * (widest(vocabulary) - cell_len(labels[0])) + labels[0]  # such that bars are aligned in all rows
        number = str(row + 1).rjust(len(str(snapshot.config.batch_size)))
        name = text(palette, f"row {number}" if width >= _BLOCKS[0] else number, palette.dim)
        drawn = bars(
            palette,
            None if y_hat is None else [float(y_hat[i]) for i in shown if i is not None],
            labels,
            width - name.width - 1,
            target=None if target is None else shown.index(target),
            fresh=self.is_fresh(snapshot),
            word=alone,
            refs=[Ref(snapshot.program.loss_names.prediction, (row, i)) for i in shown if i is not None],
            full=self._full,
            write=numbers.wide if snapshot.minus else numbers.unit,
            signed=bool(snapshot.minus),
        )
        block = hstack(name, drawn)
        return quieted(palette, block) if self._view.row not in (None, row) else block

    def _plan(self, snapshot: Snapshot, width: int, height: int) -> _Plan:
        rows, vocabulary = tuple(range(snapshot.config.batch_size)), snapshot.config.vocab_size
        across = max(min(len(rows), (width + _GAP) // (_BLOCKS[0] + _GAP)), 1)
        height = self.canvas(width, height, lambda: Size(0, -(-len(rows) // across) * (vocabulary + 1))).height
        most = [max(min(len(rows), (width + _GAP) // (block + _GAP)), 1) for block in _BLOCKS]
        for across in range(1, max(most) + 1):
            lines = -(-len(rows) // across)
            if lines * vocabulary <= height:
                return _Plan(rows, across, vocabulary, leading=int(lines * (vocabulary + 1) - 1 <= height))
        for across in most:
            lines = -(-len(rows) // across)
            count = (height + 1) // lines - 1
            leading = int(count >= _FEWEST)
            count = count if leading else height // lines
            if count >= _FEWEST:
                return _Plan(rows, across, count, leading)
        if self._view.row is not None:
            return _Plan((self._view.row,), 1, min(max(height, 1), vocabulary), 0)
        return _Plan(rows, max(most), min(_FEWEST, vocabulary), 0)


def _shown(y_hat: AnyArray | None, target: int | None, count: int, vocabulary: int) -> list[int | None]:
    """Return the indices of the characters to show: all, or the likeliest (largest if differences) including the target.

    Before ŷ is computed, None is the place of a character that is not known yet.
    """
    if count >= vocabulary:
        return list(range(vocabulary))
    if y_hat is None:
        return [*([] if target is None else [target]), *[None] * (count - (target is not None))]
    likeliest: list[int | None] = np.argsort(-np.abs(y_hat), kind="stable")[:count].tolist()
    if target is not None and target not in likeliest:
        likeliest[-1] = target
    return likeliest
