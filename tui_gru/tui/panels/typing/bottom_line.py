"""The last row of the screen: key hints, or a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_gru.engine.safe_text import safe_text
from tui_gru.tui.look.characters import folded
from tui_gru.tui.look.glyphs import Glyphs, transliterate
from tui_gru.tui.look.themes import palette_of

MOST_LINES = 4
MOST_CHARACTERS = 10_000  # of a message, more than `MOST_LINES` lines of the largest terminal show


class Hint(NamedTuple):
    """A key and a word for what it does. It is dimmed if it does not apply now. Hints of the highest `rank` are dropped first."""

    sign: str
    label: str
    applies: bool = True
    rank: int = -1


@lru_cache(maxsize=8)
def _lines(message: str, room: int, glyphs: Glyphs) -> tuple[str, ...]:
    """Fold a message into at most one line more than can be shown."""
    written = transliterate(message, glyphs)
    return (written,) if cell_len(written) <= room else tuple(folded(written, max(room - 1, 1), MOST_LINES + 1))


class BottomLine(Widget):
    """Key hints, or a message instead of them until the next key.

    Hints that do not fit are dropped: first those that do not apply now, then those of the highest rank.
    """

    DEFAULT_CSS = """
    BottomLine { height: 1; background: $footer-background; color: $footer-description-foreground; }
    BottomLine:ansi { background: ansi_default; color: ansi_default; }
    """

    message: reactive[str] = reactive("")
    warning: reactive[bool] = reactive(False)
    prefix: reactive[str] = reactive("")

    def __init__(self, hints: Callable[[], Sequence[Hint]]) -> None:
        super().__init__()
        self._all_hints = hints

    def say(self, message: str, *, warning: bool = False) -> None:
        """Show a message until `say('')`, in as many lines as it needs at this width, at most `MOST_LINES`."""
        self.warning = warning
        written = " ".join(message.split())
        self.message = safe_text(written if len(written) <= MOST_CHARACTERS else f"{written[:MOST_CHARACTERS]}…")
        self._make_room()

    def watch_prefix(self) -> None:
        self._make_room()

    def on_resize(self) -> None:
        self._make_room()

    def _make_room(self) -> None:
        lines = min(max(len(self._lines()), 1), MOST_LINES)
        if self.styles.height is None or self.styles.height.value != lines:
            self.styles.height = lines

    def _lines(self) -> tuple[str, ...]:
        """Return the lines of the message that can be shown, and one more if there are more."""
        return _lines(self.message, self.app.size.width - 1 - self._margin, palette_of(self.app).glyphs)

    @property
    def _margin(self) -> int:
        return cell_len(self.prefix) + 2 if self.prefix else 0

    def render_line(self, y: int) -> Strip:
        width, palette = self.size.width, palette_of(self.app)
        segments = [Segment(" " * self._margin)] if y else [Segment(f" {self.prefix} ", palette.accent)] if self.prefix else []
        if self.message:
            lines = self._lines()
            text = f" {lines[y]}" if y < len(lines) else ""
            segments.append(Segment(text, palette.warning if self.warning else palette.plain))
            strip = Strip(segments)
            if strip.cell_length > width or (y == self.size.height - 1 and len(lines) > y + 1):
                strip = Strip([*strip.crop(0, width - 1), Segment(palette.glyphs.ellipsis, palette.dim)])
        else:
            strip = Strip([*segments, *self._hints(width - sum(s.cell_length for s in segments))])
        return strip.adjust_cell_length(width, Style()).apply_style(self.rich_style)

    def _hints(self, room: int) -> list[Segment]:
        palette = palette_of(self.app)
        shown = [(hint, transliterate(hint.sign, palette.glyphs)) for hint in self._all_hints()]
        while shown and sum(len(sign) + len(hint.label) + 3 for hint, sign in shown) > room:
            shown.remove(max(reversed(shown), key=lambda item: (not item[0].applies, item[0].rank)))
        segments: list[Segment] = []
        for hint, sign in shown:
            segments.append(Segment(f" {sign}", palette.keyword if hint.applies else palette.dim))
            segments.append(Segment(f" {hint.label} ", palette.plain if hint.applies else palette.dim))
        return segments
