"""The last rows of the screen, a screen on a session that shows messages there, and cards: what its parts know of it."""

from __future__ import annotations

import re
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
from tui_gru.session.answers import place_in_words
from tui_gru.session.session import Session
from tui_gru.session.snapshot import RunPace, Snapshot, View
from tui_gru.tui.draw import EMPTY, Box, SegmentRow, from_rows, hstack
from tui_gru.tui.keys import Desk, Verb, with_keys
from tui_gru.tui.panel import BORDER_GAP, Panel, SnapshotPanel
from tui_gru.tui.terminal import GuardedScreen
from tui_gru.tui.theme import Glyphs, folded, palette_of, transliterate, truncated

# ------------------------------------------------------------------------------
# The last rows of the screen: an answer, and key hints.


LOW = 20  # rows; a screen with fewer is low
MOST_LINES, MOST_LINES_OF_LOW = 4, 6  # of a message
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
    return (written,) if cell_len(written) <= room else tuple(folded(written, max(room - 1, 1), MOST_LINES_OF_LOW + 1))


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
        self._drawn: Sequence[Hint] = ()

    def refresh_hints(self) -> None:
        """Draw the hints again if they have changed."""
        if self._all_hints() != self._drawn:
            self.refresh()

    def say(self, message: str, *, warning: bool = False) -> None:
        """Show a message until `say('')`, in as many lines as it needs at this width, at most `MOST_LINES`, or
        `MOST_LINES_OF_LOW` where it takes the place of the hints."""
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
        lines = min(max(len(self._lines()), 1), MOST_LINES_OF_LOW if self.low else MOST_LINES) + (not self.low)
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
        palette, self._drawn = palette_of(self.app), self._all_hints()
        shown = [(hint, transliterate(hint.sign, palette.glyphs)) for hint in self._drawn]
        used = sum(len(sign) + len(hint.label) + 3 for hint, sign in shown)
        order = range(len(shown))
        for item in [shown[i] for i in sorted(order, key=lambda i: (shown[i][0].applies, -shown[i][0].rank, -i))]:
            if used > room:  # of equals, the last one goes first
                shown.remove(item)
                used -= len(item[1]) + len(item[0].label) + 3
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
    from tui_gru.storage.recorder import report_error

    return report_error(error, doing)


class SessionScreen(GuardedScreen):
    """A session, its snapshot, the view of it, and messages about it. `MainScreen` implements what is declared only.

    The parts of the main screen take this class, since the main screen consists of them. `verbs` is the verb table by ids, and
    `requests` has what panels ask for; the app adds both, since their functions use the main screen.
    """

    verbs: ClassVar[Mapping[str, Verb[Any]]] = {}
    requests: ClassVar[Mapping[str, Callable[..., object]]] = {}
    is_watched = True

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.snapshot: Snapshot = session.snapshot()
        self.view = View()
        self.bottom = BottomLine(self.hints)
        self.command = ""  # the last one, as it is typed
        self._stood = ""  # the words that stay above the keys, as last shown

    def show_now(self) -> None:
        """Take a new snapshot, and schedule drawing it after the waiting keys have been handled."""
        raise NotImplementedError

    def show_passing(self, snapshot: Snapshot, pace: RunPace | None = None) -> None:
        """Draw the batch that a run has just finished, and how fast the run is."""
        raise NotImplementedError

    @property
    def follows_runs(self) -> bool:
        """True if a run that is long shows what the model writes or predicts, also when it has ended."""
        raise NotImplementedError

    def follow(self) -> None:
        """Show what the model writes, and how far the run has come, in the place of the current line and the listing."""
        raise NotImplementedError

    def follow_on(self, batches: int, pace: RunPace) -> None:
        """Follow a run that has ended after so many batches if it was long; otherwise show the current line and the listing."""
        raise NotImplementedError

    def hints(self) -> list[Hint]:
        """Return the hints for the footer."""
        raise NotImplementedError

    @property
    def card_rows(self) -> int:
        """The rows that a card takes from the panels, 0 without one."""
        return 0

    def tells_of(self, panel: type[object]) -> bool:
        """Return True if a card tells of a panel, which therefore gets its rows before others."""
        return False

    def standing(self) -> str:
        """Return the words that stay above the keys: an open question, the texts of the marks at this place, the lesson."""
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

    show_page_of = Desk.show_page_of
    notice, note, note_if_not_stopped = Desk.notice, Desk.note, Desk.note_if_not_stopped
    forget_notice, say_notice, answer = Desk.forget_notice, Desk.say_notice, Desk.answer


# ------------------------------------------------------------------------------
# The texts of marks.


def texts_here(screen: SessionScreen) -> str:
    """Return the texts of the marks at this place, and the key to the next mark if there is one; empty if no mark has a text."""
    texts = screen.snapshot.texts_here
    if texts and _marks_beyond(screen)[1]:
        texts.append(with_keys(screen, "<match.next> next mark"))
    return " · ".join(texts)


def offer_marks(screen: SessionScreen) -> None:
    """Add to the notice of a reopened session that its marks have texts, and how to go through them."""
    count = sum(bool(mark.text) for mark in screen.snapshot.state.marks.sorted)
    card = texts_here(screen)
    if screen.notice is None or count <= bool(card):
        return
    (back, on), words = _marks_beyond(screen), "a mark has a text" if count == 1 else f"{count} marks have a text"
    keys = ["<match.next> goes to the next"] if on and not card else []
    keys += ["<match.back> goes to the one before"] if back else []
    screen.session.add_notice(with_keys(screen, ": ".join(filter(None, (words, ", ".join(keys))))))
    screen.say_notice()


def _marks_beyond(screen: SessionScreen) -> tuple[bool, bool]:
    """Return whether there are marks before this place, and after it."""
    state = screen.snapshot.state
    names = state.branches.names
    current = names.index(state.branch), state.tick
    places = [(names.index(mark.branch), mark.tick) for mark in state.marks.sorted if mark.branch in names]
    return any(place < current for place in places), any(place > current for place in places)


# ------------------------------------------------------------------------------
# Cards below the panels: a step of a lesson, or the text of a mark.


LEAST_WIDTH = 50  # columns; a narrower screen, or a low one, has the words of a card above the keys


class CardText(NamedTuple):
    """What a card says. `key` is drawn large; `press` says what it does.

    `typed` is the answer to a question so far, None where none is asked; `reply` is what is said about the last one, after `mark`:
    ✓ right, ✗ wrong, · neither.
    """

    title: str
    lines: tuple[str, ...]
    head: str = ""
    key: str = ""
    press: str = ""
    place: str = ""
    keys: str = ""
    data: str = ""
    typed: str | None = None
    mark: str = ""
    reply: str = ""


LEAST_TITLE = 12  # cells of a title that is cut for the place after it


class Card(Panel, can_focus=False):
    """A few lines below the panels, above the time line, as high as its text; hidden without one."""

    DEFAULT_CSS = "Card { background: $panel; overflow: hidden; }"
    ALLOW_MAXIMIZE = False

    _BLOCK = 3  # rows of a key
    text: CardText | None = None

    # before the words of a choice, or of a line of code, below which they go on
    _HANGING = re.compile(r"(?:[▸ ] [a-h]  )|(?: {4,})")

    def say(self, text: CardText | None) -> None:
        """Show a text, or hide the card."""
        if text == self.text:
            return
        self.text, self.display = text, text is not None
        self.size_up()
        self.refresh_content()

    @property
    def rows(self) -> int:
        """The rows that it takes, 0 while it is hidden."""
        height = self.styles.height
        return int(height.value) if self.text is not None and height is not None else 0

    def _set_border_texts(self, text: CardText) -> None:
        """Set the texts of the border: a long title is cut before the place is left out, and the last keys before the data."""
        glyphs, room = self.palette.glyphs, self.app.size.width - 6
        keys = text.keys.split("  ")
        data = cell_len(text.data) + BORDER_GAP if text.data else 0
        while len(keys) > 1 and cell_len("  ".join(keys)) + data > room:
            keys.pop()
        if cell_len("  ".join(keys)) + data > room:
            data = 0
        title = text.title
        if text.place and cell_len(title) + cell_len(text.place) + BORDER_GAP > room:
            title = truncated(title, max(room - cell_len(text.place) - BORDER_GAP, LEAST_TITLE), glyphs)
        self.set_titles(title, text.data if data else None, text.place, "  ".join(keys))

    def size_up(self) -> None:
        """Set the height to that of the text at the width of the screen."""
        if self.text is not None:
            self._set_border_texts(self.text)
        height = self._drawn(max(self.app.size.width - 4, 1)).height + 2
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    def build(self, width: int, height: int) -> Box:
        return self._drawn(width)

    def _drawn(self, width: int) -> Box:
        palette, text = self.palette, self.text
        if text is None:
            return EMPTY
        sign = transliterate(text.key, palette.glyphs)
        block = cell_len(sign) + 4 if sign else 0
        room = max(width - block - 3 * bool(block), 1)
        rows: list[SegmentRow] = [(Segment(piece, palette.strong),) for piece in self._folded(text.head, room)]
        rows += [(Segment(piece, palette.plain),) for line in text.lines for piece in self._hung(line, room) or ("",)]
        press = self._folded(text.press, room)
        if press and press[0].startswith(sign):
            rows.append((Segment(sign, palette.keyword), Segment(press.pop(0).removeprefix(sign), palette.plain)))
        rows += [(Segment(piece, palette.plain),) for piece in press]
        if text.typed is not None:
            rows += self._answer(text, text.typed, room)
        if not block:
            return from_rows(rows)
        ink = palette.keyword + Style(reverse=True, bold=True)
        key = [(Segment((sign if y == self._BLOCK // 2 else "").center(block), ink),) for y in range(self._BLOCK)]
        return hstack(from_rows(key), from_rows(rows), gap=3)

    def _answer(self, text: CardText, typed: str, width: int) -> list[SegmentRow]:
        """Draw the answer as far as it is typed, and what is said about the last one."""
        palette = self.palette
        shown = transliterate(safe_text(typed), palette.glyphs)
        while cell_len(shown) > max(width - 4, 1):
            shown = shown[1:]
        rows: list[SegmentRow] = [(Segment(f" {shown} ", palette.strong + Style(reverse=True)), Segment(" "))]
        ink = {"✓": palette.gate, "✗": palette.warning}.get(text.mark, palette.plain)
        reply = self._folded(f"{text.mark} {text.reply}".strip(), width)
        return [*rows, *((Segment(piece, ink),) for piece in reply)]

    def _hung(self, line: str, width: int) -> list[str]:
        """Return the rows of a line, those of a choice or of code below its first word."""
        hanging = self._HANGING.match(line)
        if hanging is None or hanging.end() + LEAST_TITLE > width:
            return self._folded(line, width)
        first, glyphs = hanging[0], self.palette.glyphs
        words = transliterate(line[hanging.end() :], glyphs)
        room = width - hanging.end()
        pieces = [words] if first.isspace() and cell_len(words) <= room else folded(words, room)
        return [f"{transliterate(first, glyphs) if i == 0 else ' ' * len(first)}{piece}" for i, piece in enumerate(pieces)]

    def _folded(self, words: str, width: int) -> list[str]:
        return folded(transliterate(words, self.palette.glyphs), width) if words else []


def marked_here(screen: SessionScreen) -> CardText | None:
    """Return the texts of the marks at this place; None without any."""
    marks = [mark for mark in screen.snapshot.marks_here if mark.text]
    if not marks:
        return None
    (back, on), texts = _marks_beyond(screen), [mark for mark in screen.snapshot.state.marks.sorted if mark.text]
    keys = "  ".join(
        f"<{verb}> {words}" for verb, words, exists in (("match.next", "next", on), ("match.back", "back", back)) if exists
    )
    many, letters = len(marks) > 1, [mark.letter for mark in marks]
    lines = [safe_text(line) for mark in marks for line in f"{f'{mark.letter}: ' if many else ''}{mark.text}".split("\n")]
    title = f"mark{'s' if many else ''} {', '.join(letters)}"
    number = f"{' and '.join(str(texts.index(mark) + 1) for mark in marks)} of {len(texts)}"
    return CardText(title, tuple(lines), place=place_in_words(screen.snapshot), keys=with_keys(screen, keys), data=number)
