"""The list of lessons, with what has been answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import BindingType

from tui_gru.session.snapshot import Snapshot
from tui_gru.teaching.lesson import Lesson
from tui_gru.tui.draw import TableColumn, styled_row, table
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import ListOverlay, ListRow, Titles

# ------------------------------------------------------------------------------
# The list.


class LessonList(ListOverlay):
    """The lessons: a tick for those that have been read to their end, the questions answered of others. Enter begins one."""

    ABOUT = "Lessons: cards with questions about a training. enter begins one; ✓ were read to their end."
    BINDINGS: ClassVar[list[BindingType]] = [("enter", "choose")]
    STAYS = True

    def __init__(self, lessons: Sequence[Lesson], answered: Mapping[str, int]) -> None:
        """`answered` has the number of questions answered of each lesson, −1 for those read to their end."""
        super().__init__()
        self._lessons, self._answered = lessons, answered

    def titles(self, snapshot: Snapshot) -> Titles:
        return Titles("lessons", ["enter begins it", with_keys(self, "<stop> closes")])

    def action_choose(self) -> None:
        self.request("lesson", self._lessons[self.cursor].name)

    def lines(self, width: int) -> Sequence[ListRow]:
        palette = self.palette
        columns = (
            TableColumn(gap=0),
            TableColumn("lesson", gap=0),
            TableColumn("", gap=2, size=20, least=12),
            TableColumn("minutes", gap=2, right=True),
            TableColumn("questions", gap=2, right=True),
        )
        rows = []
        for i, lesson in enumerate(self._lessons):
            count, total = self._answered.get(lesson.name, 0), len(lesson.questions)
            ink = palette.cursor if i == self.cursor and self.has_focus else palette.plain
            right = str(total) if not 0 < count < total else f"{count} of {total}"
            rows.append(
                [
                    styled_row(palette, ("✓ " if count == -1 else "  ", palette.gate)),
                    styled_row(palette, (lesson.name, palette.keyword)),
                    styled_row(palette, (lesson.title, ink)),
                    styled_row(palette, str(lesson.minutes or "")),
                    styled_row(palette, right),
                ]
            )
        head, *drawn = table(palette, rows, columns, width)
        return [ListRow(head), *(ListRow(row, i) for i, row in enumerate(drawn))]
