"""The list of completions above the `:` line: a row with a description for each candidate."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import palette_of
from tui_gru.tui.verbs.completion import Candidate

MOST_ROWS = 8
SHARE = 3  # the list covers at most one of this many parts of the screen's height


class CompletionList(Widget):
    """The candidates around the chosen one; before one is chosen, the first ones and the number of the others."""

    DEFAULT_CSS = """
    CompletionList { height: auto; width: 1fr; background: $panel; display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._candidates: Sequence[Candidate] = ()
        self._chosen = -1

    def show(self, candidates: Sequence[Candidate], chosen: int = -1) -> None:
        """Show the candidates, with the chosen one by its index, -1 for none. Without candidates, the list is hidden."""
        self._candidates, self._chosen = candidates, chosen
        rows = self._rows()
        self.display = bool(rows)
        self.styles.height = max(len(rows), 1)
        self.refresh()

    @property
    def shown(self) -> tuple[str, ...]:
        """The texts of the rows."""
        return tuple(" ".join(filter(None, (candidate.text, candidate.words))) for candidate in self._rows())

    def _rows(self) -> list[Candidate]:
        most = max(min(MOST_ROWS, self.app.size.height // SHARE), 1)
        first = max(min(self._chosen - most // 2, len(self._candidates) - most), 0)
        rows = list(self._candidates[first : first + most])
        if self._chosen < 0 and len(self._candidates) > most:
            rows[-1] = Candidate("", f"{len(self._candidates) - most + 1} more: tab goes through them")
        return rows

    def render_line(self, y: int) -> Strip:
        palette, rows, width = palette_of(self.app), self._rows(), self.size.width
        if y >= len(rows):
            return Strip.blank(width, self.rich_style)
        here = self._chosen >= 0 and rows[y] == self._candidates[self._chosen]
        column = min(max(cell_len(each.text) for each in rows) + 2, max(width // 2, 1))
        text = cut(transliterate(rows[y].text, palette.glyphs), column - 1, palette.glyphs)
        words = cut(transliterate(rows[y].words, palette.glyphs), max(width - column - 2, 0), palette.glyphs)
        segments = [
            Segment(" "),
            Segment(text, palette.cursor if here else palette.keyword),
            Segment(" " * (column - cell_len(text))),
            Segment(words, palette.plain),
        ]
        return Strip(segments).adjust_cell_length(width, Style()).apply_style(self.rich_style)
