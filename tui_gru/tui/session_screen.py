"""The last rows of the screen, and a screen on a session that shows messages there: what its parts know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui_gru.errors import TuiGruError, safe_text
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.keys import Desk, Verb
from tui_gru.tui.panel import SnapshotPanel
from tui_gru.tui.terminal import GuardedScreen
from tui_gru.tui.theme import Glyphs, folded, palette_of, transliterate

# ------------------------------------------------------------------------------
# The last rows of the screen: an answer, and key hints.


LOW = 20  # rows; a screen with fewer is low
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
    """Key hints in the last row, and above them a row for a message, which stays until the next key.

    A message of more rows covers what is above. A low screen has no row for messages: they take the place of the hints. Hints
    that do not fit are dropped: first those that do not apply now, then those of the highest rank.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"bottom-line--keys"}
    DEFAULT_CSS = """
    BottomLine {
        height: 2;
        background: $background;
        color: $footer-description-foreground;
        &> .bottom-line--keys { background: $footer-background; color: $footer-description-foreground; }
        &:ansi { background: ansi_default; color: ansi_default; }
        &:ansi > .bottom-line--keys { background: ansi_default; color: ansi_default; }
    }
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
        self.make_room()

    def watch_prefix(self) -> None:
        self.make_room()

    def on_resize(self) -> None:
        self.make_room()

    @property
    def low(self) -> bool:
        """True if a message takes the place of the hints."""
        return self.app.size.height < LOW

    def make_room(self) -> None:
        """Set the height to what the message and the hints need on a screen of this size."""
        lines = min(max(len(self._lines()), 1), MOST_LINES) + (not self.low)
        if self.styles.height is None or self.styles.height.value != lines:
            self.styles.height = lines

    def _lines(self) -> tuple[str, ...]:
        """Return the lines of the message that can be shown, and one more if there are more."""
        return _lines(self.message, self.app.size.width - 1 - self._margin, palette_of(self.app).glyphs)

    @property
    def _margin(self) -> int:
        return cell_len(self.prefix) + 2 if self.prefix else 0

    def render_line(self, y: int) -> Strip:
        width, palette, last = self.size.width, palette_of(self.app), self.size.height - 1
        ground = self.get_component_rich_style("bottom-line--keys") if y == last else self.rich_style
        if y == last and not self.low:
            return Strip(self._hints(width)).adjust_cell_length(width, Style()).apply_style(ground)
        segments = [Segment(" " * self._margin)] if y else [Segment(f" {self.prefix} ", palette.keyword)] if self.prefix else []
        if self.message or not self.low:
            lines = self._lines()
            text = f" {lines[y]}" if y < len(lines) else ""
            segments.append(Segment(text, palette.warning if self.warning else palette.plain))
            strip = Strip(segments)
            if strip.cell_length > width or (y == last - (not self.low) and len(lines) > y + 1):
                strip = Strip([*strip.crop(0, width - 1), Segment(palette.glyphs.ellipsis, palette.dim)])
        else:
            strip = Strip([*segments, *self._hints(width - sum(s.cell_length for s in segments))])
        return strip.adjust_cell_length(width, Style()).apply_style(ground)

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


# ------------------------------------------------------------------------------
# A screen on a session, with messages above the keys.


def problem_of(error: Exception, doing: str) -> str:
    """Return the message of an error: its text if it is a `TuiGruError`, otherwise a notice of an internal error.

    For an internal error, a report is written; `doing` is what failed, in words.
    """
    if isinstance(error, TuiGruError):
        return str(error)
    from tui_gru.storage.recorder import reported

    return reported(error, doing)


class SessionScreen(GuardedScreen):
    """A session, its snapshot, the view of it, and messages about it. `MainScreen` implements what is declared only.

    The parts of the main screen take this class, since the main screen consists of them. `verbs` is the verb table by ids, which
    the app adds: the functions of the verbs use the main screen.
    """

    verbs: ClassVar[Mapping[str, Verb[Any]]] = {}

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.snapshot: Snapshot = session.snapshot()
        self.view = View()
        self.bottom = BottomLine(self.hints)
        self._stood = ""  # the words that stay above the keys, as last shown

    def show_now(self) -> None:
        """Take a new snapshot, and schedule drawing it after the waiting keys have been handled."""
        raise NotImplementedError

    def show_passing(self, snapshot: Snapshot) -> None:
        """Draw the batch that a run has just finished."""
        raise NotImplementedError

    def hints(self) -> list[Hint]:
        """Return the hints for the footer."""
        raise NotImplementedError

    def standing(self) -> str:
        """Return the words that stay above the keys: an open question, the texts of the marks at this place, the tour."""
        raise NotImplementedError

    @property
    def question(self) -> str:
        """The question that is open, empty if there is none."""
        raise NotImplementedError

    @property
    def overlay(self) -> SnapshotPanel | None:
        """The overlay that covers the blackboard, None if there is none."""
        raise NotImplementedError

    @property
    def in_use(self) -> Widget | None:
        """The widget in focus; while the `:` line is open, the one that had the focus before."""
        raise NotImplementedError

    # Messages

    def say(self, message: str, *, warning: bool = False) -> None:
        """Show a message above the keys until the next key, before the words that stay there."""
        self._stood = self.standing()
        self.bottom.say(" · ".join(filter(None, (message, self._stood))), warning=warning or bool(self.question))

    def failed(self, error: Exception, doing: str) -> None:
        """Show an error, and write a report if it is an internal one. `doing` is what failed, in words."""
        problem = problem_of(error, doing)
        if self.is_attached:  # otherwise the program is about to end
            self.say(problem, warning=True)

    @property
    def is_small(self) -> bool:
        """True if not all panels are in view."""
        raise NotImplementedError

    def hides(self, panel: str) -> bool:
        """Return True if the panel of this class is on another page than the one in view."""
        raise NotImplementedError

    notice, note, note_if_not_stopped = Desk.notice, Desk.note, Desk.note_if_not_stopped
    forget_notice, say_notice, answer = Desk.forget_notice, Desk.say_notice, Desk.answer
