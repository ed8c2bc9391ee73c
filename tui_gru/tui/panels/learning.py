"""What was learned when: a map of classes of characters against time, with sentences made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tui_gru.engine import numbers
from tui_gru.tui.draw import Box, SegmentRow, TableColumn, clip, column_signs, from_rows, styled_row, table
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import SnapshotPanel, Titles
from tui_gru.tui.theme import folded

if TYPE_CHECKING:
    from tui_gru.analysis.learning import LearningMap
    from tui_gru.session.snapshot import Snapshot


class LearningPanel(SnapshotPanel):
    """The loss of each class of characters over the run, a column a moment, and when it was learned."""

    ABOUT = (
        "What was learned when: for each class of characters, the loss at some moments of the run, on a logarithmic scale of "
        "batches; a full column is the loss of guessing by the frequencies of the characters, or more. A class counts as learned "
        "once its loss stays below half of that."
    )
    STAYS = True

    def __init__(self, learned: LearningMap) -> None:
        super().__init__()
        self.learned = learned

    def titles(self, snapshot: Snapshot) -> Titles:
        moments = numbers.counted(len(self.learned.batches), "moment")
        text = "unseen text" if self.learned.unseen else "the beginning of the text"
        return Titles(
            f"what was learned when · {moments}, {self.learned.read:,} characters of {text}",
            [":learned again", with_keys(self, "<stop> closes")],
        )

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        rows: list[SegmentRow] = [
            styled_row(palette, (words, palette.strong)) for sentence in self.learned.sentences for words in folded(sentence, width)
        ]
        rows.append(())
        columns = TableColumn(least=10), TableColumn(gap=2), TableColumn(right=True), TableColumn(right=True)
        rows += table(palette, list(self._rows()), columns, width)
        return clip(palette, from_rows(rows), width, len(rows))

    def _rows(self) -> Iterator[list[SegmentRow]]:
        palette, batches = self.palette, self.learned.batches
        first, last = f"{int(batches[0]) + 1:,}", f"{int(batches[-1]) + 1:,}"
        axis = first + last.rjust(max(len(batches) - len(first), len(last) + 1))
        yield [styled_row(palette, (words, palette.dim)) for words in ("class", axis, "loss now", "learned by")]
        for course in self.learned.classes:
            parts = np.clip(course.losses / course.guess, 0, 1)
            learned = "never" if course.learned is None else f"{course.learned + 1:,}"
            ink = palette.warning if course.learned is None else palette.plain
            yield [
                styled_row(palette, (course.words, ink)),
                styled_row(palette, (column_signs(palette, parts), palette.gate)),
                styled_row(palette, (numbers.plain(float(course.losses[-1])), ink)),
                styled_row(palette, (learned, ink)),
            ]
