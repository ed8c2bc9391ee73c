"""The list above the `:` line: the verb whose arguments are typed, and a row with a description for each completion."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from tui_gru.tui.look.characters import cut, folded
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import palette_of
from tui_gru.tui.verbs.line import Candidate, Completion

MOST_ROWS = 8
MOST_LINES = 3  # about the verb
SHARE = 3  # the list covers at most one of this many parts of the screen's height


class CompletionList(Widget):
    """What the verb does, and the candidates around the chosen one; before one is chosen, the first ones and the number of the
    others."""

    DEFAULT_CSS = """
    CompletionList { height: auto; width: 1fr; background: $panel; display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._completion = Completion(0)
        self._chosen = -1

    def show(self, completion: Completion, chosen: int = -1) -> None:
        """Show the verb and the candidates, with the chosen one by its index, -1 for none. An empty list is hidden."""
        self._completion, self._chosen = completion, chosen
        height = len(self._about()) + len(self._rows())
        self.display = height > 0
        self.styles.height = max(height, 1)
        self.refresh()

    @property
    def about(self) -> str:
        """What is said about the verb."""
        return " ".join(self._about())

    @property
    def shown(self) -> tuple[str, ...]:
        """The texts of the rows of candidates."""
        return tuple(" ".join(filter(None, (candidate.text, candidate.words))) for candidate in self._rows())

    @property
    def _most(self) -> int:
        """The number of rows that the list may cover."""
        return max(min(MOST_ROWS, self.app.size.height // SHARE), 1)

    def _about(self) -> list[str]:
        """Return the lines about the verb, the last cut off if they are more than there is room for."""
        verb, glyphs, width = self._completion.verb, palette_of(self.app).glyphs, max(self.app.size.width - 2, 1)
        lines = [] if verb is None else folded(transliterate(f"{verb.text}: {verb.words}", glyphs), width)
        most = min(MOST_LINES, max(self._most - 1, 1))
        return lines if len(lines) <= most else [*lines[: most - 1], cut(" ".join(lines[most - 1 :]), width, glyphs)]

    def _rows(self) -> list[Candidate]:
        candidates, most = self._completion.candidates, max(self._most - len(self._about()), 1)
        first = max(min(self._chosen - most // 2, len(candidates) - most), 0)
        rows = list(candidates[first : first + most])
        if self._chosen < 0 and len(candidates) > most:
            rows[-1] = Candidate("", f"{len(candidates) - most + 1} more: tab goes through them")
        return rows

    def render_line(self, y: int) -> Strip:
        palette, about, rows, width = palette_of(self.app), self._about(), self._rows(), self.size.width
        row = y - len(about)
        if row < 0:
            head = transliterate(f"{self._completion.verb.text}:", palette.glyphs) if self._completion.verb else ""
            named = len(head) if not y and about[y].startswith(head) else 0
            segments = [Segment(f" {about[y][:named]}", palette.keyword), Segment(about[y][named:], palette.plain)]
            return Strip(segments).adjust_cell_length(width, Style()).apply_style(self.rich_style)
        if row >= len(rows):
            return Strip.blank(width, self.rich_style)
        here = self._chosen >= 0 and rows[row] == self._completion.candidates[self._chosen]
        column = min(max(cell_len(each.text) for each in rows) + 2, max(width // 2, 1))
        text = cut(transliterate(rows[row].text, palette.glyphs), column - 1, palette.glyphs)
        words = cut(transliterate(rows[row].words, palette.glyphs), max(width - column - 2, 0), palette.glyphs)
        segments = [
            Segment(" "),
            Segment(text, palette.cursor if here else palette.keyword),
            Segment(" " * (column - cell_len(text))),
            Segment(words, palette.plain),
        ]
        return Strip(segments).adjust_cell_length(width, Style()).apply_style(self.rich_style)
