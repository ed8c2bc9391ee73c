"""The screen that `?` opens: a question in one's own words, what fits it, and the answer to the one that is chosen, computed for
this moment as one types.

Answers are computed on a copy of the session by the verbs themselves, so that looking at an answer changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from tui_gru.errors import TuiGruError, safe_text
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui import manual
from tui_gru.tui.asking import Matched, all_of, matching, of_this_moment
from tui_gru.tui.draw import EMPTY, Box, SegmentRow, clip, cut_below, from_rows, hstack, pad, row_width, vstack
from tui_gru.tui.help import Explanation
from tui_gru.tui.keys import Desk, Pending, Verb, abbreviated, by_name, commands_of, example, execute, key_signs, keys_of
from tui_gru.tui.panel import Panel, SnapshotPanel
from tui_gru.tui.questions import ASKING, COMMON, Ranking, stem, words_of
from tui_gru.tui.screen import Derivations
from tui_gru.tui.session_screen import problem_of
from tui_gru.tui.theme import folded, transliterate, truncated

if TYPE_CHECKING:
    from tui_gru.debugger.position import Position
    from tui_gru.tui.screen import MainScreen

# ------------------------------------------------------------------------------
# An answer: what the verbs of a command say and show, executed on a copy of the session.


PATIENCE = 4.0  # seconds of work after which an answer is given up: the command still takes as long as it needs
PAUSE = 0.12  # seconds without a key after which work begins that takes a thread
#: Verbs that only look, or whose effect on the copy is the answer. Of all others it is said what they do.
SHOWN = frozenset(
    {
        "explain",
        "suppose",
        "manual",
        "where",
        "predict",
        "sample",
        "findings",
        "losses",
        "influence",
        "units",
        "class",
        "silence",
        "story",
        "plot",
        "arrays",
        "legend",
        "apart",
        "branches",
        "stops",
        "go",
        "go.newest",
        "until",
        "back.until",
        "not.finite",
        "rates",
    }
)
#: Verbs that need something that only the user can say: their command is put on the `:` line, to be completed.
COMPLETED = frozenset({"set", "save", "export", "mark", "watch", "breakpoint", "theme"})


class NotShownError(Exception):
    """Raised where a verb needs more than a copy of the session: its answer is only what it does."""


class AnswerDesk(Desk):
    """Executes commands on a copy of a session, and keeps what they would show: words, a panel, a section of the manual."""

    running = playing = is_watched = False
    focused: None = None
    maximized: None = None

    def __init__(self, main: MainScreen, changed: Callable[[], object]) -> None:
        """Create a desk. `changed` is called when there is more to show."""
        self._main, self._changed = main, changed
        self.session, self.snapshot, self.view = _copy_of(main.session), main.snapshot, main.view
        self.app, self.verbs = main.app, main.verbs
        self.overlays = self
        self.overlay: SnapshotPanel | None = None
        self.runner = self.bottom = self
        self.result: object = None
        self.low = False
        self.pending = Pending(self.say)
        self.derivations = Derivations(self)  # type: ignore[arg-type]  # which takes of a screen what this class has
        self.words, self.refused = "", False
        self.section: manual.Section | None = None
        self._works: deque[tuple[Callable[..., Any], Callable[[Any], object] | None]] = deque()
        self._left = False
        self._newest = main.snapshot.newest.number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotShownError(name)

    # What is executed

    def begin(self, command: str) -> bool:
        """Execute a command as far as that takes no thread; `work` does the rest. Return False if nothing of it is shown."""
        verb = abbreviated(command.partition(" ")[0], by_name(self.verbs))
        if verb is None or verb.id not in SHOWN:
            return False
        try:
            execute(self, command)
        except NotShownError:
            return False
        except TuiGruError as error:
            self.say(str(error), warning=True)
        return True

    @property
    def has_work(self) -> bool:
        return bool(self._works)

    async def work(self) -> None:
        """Do in a thread what the command has begun, as long as nobody asks for another answer."""
        while self._works and not self._left:
            verb, then = self._works.popleft()
            deadline = time.monotonic() + PATIENCE

            def progress(place: Position | str, deadline: float = deadline) -> None:
                beyond = not isinstance(place, str) and place.number > self._newest + 1
                if self._left or beyond or time.monotonic() > deadline:
                    self.session.interrupt()

            try:
                result = await asyncio.to_thread(verb, progress=progress)
            except TuiGruError as error:
                late = time.monotonic() > deadline
                self.say("the rest takes longer: enter computes it" if late else str(error), warning=not late)
            except Exception as error:
                self.say(problem_of(error, "an answer"), warning=True)
            else:
                self._done(result, then)
            if not self._left:
                self._changed()

    def leave(self) -> None:
        """Give the answer up; the thread that computes it ends soon."""
        self._left, self.overlay = True, None
        self._works.clear()
        self.session.interrupt()

    # What verbs use

    def do(
        self, verb: Callable[..., Any], *, batches: int | None = 1, then: Callable[[Any], object] | None = None, opens: bool = False
    ) -> None:
        self.forget_notice()
        if self._works or not self._main.runner.is_quick(batches):
            self._works.append((verb, then))
        else:
            self._done(verb(progress=None), then)

    def _done(self, result: Any, then: Callable[[Any], object] | None) -> None:
        self.session.interrupts.forget()
        self.snapshot = self.session.snapshot()
        self.say_notice()
        if then is not None and not self._left:
            then(result)

    def say(self, message: str, *, warning: bool = False) -> None:
        self.words, self.refused = " ".join(message.split()), warning

    def cover(self, overlay: SnapshotPanel, *, of_this_moment: bool = False, then: Callable[[], object] | None = None) -> None:
        self.overlay = overlay
        overlay.show(self.snapshot, self.view)
        if then is not None:
            then()

    def toggle(self, kind: type[SnapshotPanel]) -> None:
        self.cover(kind())

    def lift(self) -> None:
        self.overlay = None

    def run_worker(self, work: Callable[[], object], **_: object) -> None:
        self._works.append((lambda progress: work(), None))

    def show_on(self, panel: SnapshotPanel, show: Callable[[], object]) -> None:
        """Show on a panel what a thread has computed for it, if that is still looked at."""

        def shown() -> None:
            if panel is self.overlay and not self._left:
                show()
                self._changed()

        if panel is self.overlay:
            self._main.app.call_later(shown)

    def show_page_of(self, panel: str) -> None:
        pass

    def set_focus(self, widget: object) -> None:
        pass

    def show_section(self, words: str) -> None:
        self.section = next(iter(manual.search(words)), None)

    # What is drawn

    @property
    def has_content(self) -> bool:
        return bool(self.words or self.overlay is not None or self.section is not None)

    def box(self, panel: Panel, width: int, height: int) -> Box:
        """Return the words, then the panel or the section, drawn with the palette of `panel`."""
        palette = panel.palette
        ink = palette.warning if self.refused else palette.plain
        said = from_rows([(Segment(line, ink),) for line in folded(transliterate(safe_text(self.words), palette.glyphs), width)])
        parts = [said] if self.words else []
        left = max(height - sum(part.height + 1 for part in parts), 1)
        if self.overlay is not None:
            parts.append(_drawn(self.overlay, self.snapshot, width, left))
        elif self.section is not None:
            heading = from_rows([(Segment(transliterate(self.section.heading, palette.glyphs), palette.strong),)])
            parts.append(vstack(heading, manual.drawn_section(palette, self.section, width), gap=1))
        return vstack(*parts, gap=1)


def _copy_of(session: Session) -> Session:
    copy = Session(state=session.state)
    if session.silent is not None:
        copy.silence(*session.silent)
    return copy


def _drawn(panel: SnapshotPanel, snapshot: Snapshot, width: int, height: int) -> Box:
    """Return what a panel that is not on screen would show: its title, and its content."""
    palette = panel.palette
    title = str(panel.titles(snapshot).title or "")
    heading = from_rows([(Segment(part, palette.strong),) for part in folded(transliterate(title, palette.glyphs), width)])
    panel.draw(width, max(height - heading.height - 1, 1))
    return vstack(heading, panel.draw(width, max(height - heading.height - 1, 1)), gap=1)


# ------------------------------------------------------------------------------
# What is listed: questions, and below them commands, explanations and sections of the manual.


@dataclass(frozen=True)
class Entry:
    """A row of the list. `command` is what it executes; otherwise it is a verb, an explanation, or a section of the manual."""

    text: str
    command: str = ""
    verb: Verb[Any] | None = None
    words: str = ""
    section: manual.Section | None = None
    filled: bool = False


EntryGroup = tuple[str, Sequence[Entry]]
SHARE = 0.6  # of the best score: commands, explanations and sections that fit less are not listed
LEAST_SCORE = 0.3  # of what is listed below the questions
LISTED, LISTED_OTHERS = 10, 4


class Library:
    """Everything that can be found: the questions of this moment, the verbs, the explanations, the manual."""

    def __init__(self, main: MainScreen, of_focus: Sequence[Explanation], explained: Callable[[], Iterable[Explanation]]) -> None:
        self._main, self._of_focus, self._explained = main, of_focus, explained

    @property
    def counts(self) -> str:
        """The numbers of what can be found."""
        questions = sum(len(listed) for _, listed in all_of(self._main.snapshot))
        return f"{questions} questions, {len(self._verbs)} commands, the manual"

    def of(self, typed: str) -> list[EntryGroup]:
        """Return the groups to list for what is typed, or for this moment."""
        if not typed.strip():
            return self._of_moment()
        groups: list[EntryGroup] = [("", [_question(match) for match in matching(self._main.snapshot, typed)[:LISTED]])]
        spelled = partial(example, self._main.snapshot.program)
        verbs = [self._verbs[i] for i in self._verb_ranking.matches(typed, LISTED_OTHERS)]
        groups.append(
            ("Commands", [Entry(spelled(self._typed(verb)), verb=verb, words=spelled(verb.typed_help)) for verb in verbs])
        )
        explanations = [self._explanations[i] for i in self._explained_ranking.matches(typed, LISTED_OTHERS)]
        groups.append(("Explanations", [Entry(title, words=words) for title, words in explanations]))
        sections = [manual.sections()[i] for i in _section_ranking().matches(typed, LISTED_OTHERS)]
        groups.append(("Manual", [Entry(section.heading, section=section) for section in sections]))
        return [group for group in groups if group[1]]

    def _typed(self, verb: Verb[Any]) -> str:
        """Return an example of a verb on the `:` line, or its keys."""
        return f":{verb.usage}" if verb.names else " ".join(key_signs(keys_of(self._main, verb.id)))

    def _of_moment(self) -> list[EntryGroup]:
        panel = self._main.overlay if self._main.in_use is None else self._main.in_use
        fitting = [_question(match) for match in of_this_moment(self._main.snapshot, type(panel).__name__ if panel else "")]
        here = [Entry(title, words=words) for title, words in self._of_focus]
        groups: list[EntryGroup] = [("At this moment", fitting), ("Here", here)]
        groups += [(group, [_question(match) for match in matches]) for group, matches in all_of(self._main.snapshot)]
        return [group for group in groups if group[1]]

    @cached_property
    def _verbs(self) -> list[Verb[Any]]:
        return [verb for verb in self._main.verbs.values() if verb.help and verb.listed and (verb.names or verb.keys)]

    @cached_property
    def _verb_ranking(self) -> _TextRanking:
        program = self._main.snapshot.program
        return _TextRanking([(" ".join(verb.names), example(program, verb.typed_help)) for verb in self._verbs])

    @cached_property
    def _explanations(self) -> list[Explanation]:
        return list({words: (title, words) for title, words in (*self._of_focus, *self._explained())}.values())

    @cached_property
    def _explained_ranking(self) -> _TextRanking:
        return _TextRanking([(title, words) for title, words in self._explanations])


class _TextRanking:
    """Ranks texts by words that they have, those in the title first."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._ranking = Ranking(texts)

    def matches(self, typed: str, most: int) -> list[int]:
        subject = [word for word in words_of(typed) if word not in COMMON and word not in ASKING]
        fits = self._ranking.rank(" ".join(subject) or typed)
        return [fit.place for fit in fits[:most] if fit.score > max(LEAST_SCORE, SHARE * fits[0].score)]


@cache
def _section_ranking() -> _TextRanking:
    return _TextRanking([(section.title, section.page, section.plain) for section in manual.sections()])


def _question(match: Matched) -> Entry:
    return Entry(match.question, command=match.command, filled=match.filled)


# ------------------------------------------------------------------------------
# The screen.


Asked = tuple[str, str]  # what is done in the end: "execute" and a command, "verb" and its id, "help" and words


class AskScreen(ModalScreen[Asked | None]):
    """Questions over the main screen. Its result is what is to be done: commands to execute, a verb, or a page of the help."""

    DEFAULT_CSS = """
    AskScreen { align: center middle; }
    AskScreen > AskPanel { width: 96%; max-width: 168; height: 90%; max-height: 40; }
    """

    def __init__(
        self, main: MainScreen, typed: str, of_focus: Sequence[Explanation], explained: Callable[[], Iterable[Explanation]]
    ) -> None:
        super().__init__()
        self._main = main
        self.panel = AskPanel(main, Library(main, of_focus, explained), typed)

    def compose(self) -> ComposeResult:
        yield self.panel

    async def on_key(self, event: events.Key) -> None:
        """Add a character to the question, choose with the arrows, ask with enter."""
        panel, closing = self.panel, keys_of(self, "stop").split(",")
        opening = keys_of(self, "help").split(",")
        event.stop()
        event.prevent_default()
        if event.key in closing or (not panel.typed and event.key in opening):
            await self._leave(None)
        elif event.key == "enter":
            await self._choose()
        elif event.key == "tab":
            await self._leave(("help", ""))
        elif event.key == "semicolon" and not panel.typed:
            await self._leave(("verb", "legend"))
        elif event.key in MOVES:
            panel.move(MOVES[event.key])
        elif event.key == "backspace":
            panel.type(panel.typed[:-1])
        elif event.key == "ctrl+u":
            panel.type("")
        elif event.key == "ctrl+w":
            panel.type(panel.typed.rstrip().rpartition(" ")[0])
        elif event.is_printable and event.character:
            panel.type(panel.typed + event.character)

    async def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self.panel.type(f"{self.panel.typed}{' '.join(event.text.split())}"[:LONGEST])

    async def _choose(self) -> None:
        entry = self.panel.entry
        if entry is None:
            return
        if entry.section is not None:
            await self._leave(("help", entry.section.title))
        elif entry.verb is not None:
            await self._leave(("verb", entry.verb.id))
        elif entry.command:
            await self._leave(("execute", entry.command))

    async def _leave(self, asked: Asked | None) -> None:
        await self.panel.end_answer()
        self.dismiss(asked)


MOVES = {"up": -1, "down": 1, "pageup": -10, "pagedown": 10, "home": -9999, "end": 9999}
LONGEST = 300  # characters of a question
BESIDE = 96  # cells: from this width, the answer is beside the list
LIST_SHARE = 0.42  # of the width


class AskPanel(Panel):
    """The question, the list, and the answer to the chosen entry."""

    ABOUT = "Questions in your own words. enter asks the chosen one, tab lists all keys and commands."

    def __init__(self, main: MainScreen, library: Library, typed: str) -> None:
        super().__init__()
        self._main, self._library = main, library
        self.typed, self.at = typed, 0
        self.groups: list[EntryGroup] = []
        self._desk: AnswerDesk | None = None
        self._ended = False
        self._about = ""  # what is said in the place of an answer
        self._work: asyncio.Task[None] | None = None

    def on_mount(self) -> None:
        super().on_mount()
        self.type(self.typed)

    # What is typed and chosen

    def type(self, typed: str) -> None:
        """Set the question."""
        self.typed, self.at = typed[:LONGEST], 0
        self.groups = self._library.of(self.typed)
        self._choose()

    def move(self, by: int) -> None:
        """Choose the entry `by` rows below."""
        at = min(max(self.at + by, 0), max(len(self.entries) - 1, 0))
        if at != self.at:
            self.at = at
            self._choose()

    @property
    def entries(self) -> list[Entry]:
        return list(chain.from_iterable(entries for _, entries in self.groups))

    @property
    def entry(self) -> Entry | None:
        """The chosen entry, None if nothing fits."""
        return next(iter(self.entries[self.at : self.at + 1]), None)

    @property
    def answered(self) -> bool:
        """True if the answer is complete."""
        return self._work is None or self._work.done()

    def _choose(self) -> None:
        before, entry = self._desk, self.entry
        if before is not None:
            before.leave()
        self._desk, self._about = None, ""
        if entry is not None and entry.command:
            self._answer(entry.command)
        self.caption()
        self.refresh_content()

    def _answer(self, command: str) -> None:
        """Begin with the answer to a command."""
        commands = commands_of(command)
        if not all(self._is_shown(part) for part in commands):
            self._about = self._what_it_does(commands)
            return
        if self._main.running:  # a thread works on the session
            self._about = "a run is under way; the answer comes when it ends"
            self._work = asyncio.create_task(self._answer_after_run(command, self._work), name="answer")
            return
        self._desk = desk = AnswerDesk(self._main, self.refresh_content)
        running = self._work if self._work is not None and not self._work.done() else None
        if running is None and len(commands) == 1:
            if not desk.begin(commands[0]):
                self._desk, self._about = None, self._what_it_does(commands)
                return
            commands = []
            if not desk.has_work:
                return
        self._work = asyncio.create_task(self._carry_on(desk, commands, running), name="answer")

    async def _answer_after_run(self, command: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        while self._main.running:
            await asyncio.sleep(PAUSE)
            if self._ended or self.entry is None or self.entry.command != command:
                return
        self.call_next(self._choose)

    async def _carry_on(self, desk: AnswerDesk, commands: list[str], before: asyncio.Task[None] | None) -> None:
        if before is not None:  # two threads must not use the history of one run
            await before
        if desk is not self._desk:
            return
        await asyncio.sleep(PAUSE)
        for command in commands or [""]:
            if desk is not self._desk:
                return
            if command and not desk.begin(command):
                self._about = self._what_it_does(commands)
                break
            await desk.work()
        if desk is self._desk:
            self.refresh_content()

    async def end_answer(self) -> None:
        """Give up the answer, and wait until its thread has ended."""
        self._ended = True
        if self._desk is not None:
            self._desk.leave()
            self._desk = None
        if self._work is not None:
            await self._work

    def _is_shown(self, command: str) -> bool:
        verb = abbreviated(command.partition(" ")[0], by_name(self._main.verbs))
        return verb is not None and verb.id in SHOWN

    def _what_it_does(self, commands: Sequence[str]) -> str:
        """Say what commands do whose answer is not looked at before."""
        program, parts = self._main.snapshot.program, []
        for command in commands:
            verb = abbreviated(command.partition(" ")[0], by_name(self._main.verbs))
            if verb is not None:
                parts.append(f":{command} — {example(program, verb.typed_help)}")
        return "\n".join(parts)

    # Drawing

    def caption(self) -> None:
        entry = self.entry
        hint = "enter asks it"
        if entry is not None and entry.section is not None:
            hint = "enter reads on"
        elif entry is not None and entry.verb is not None:
            hint = "enter does it"
        elif entry is not None and not entry.command:
            hint = ""
        elif entry is not None and needs_completing(self._main, entry.command):
            hint = "enter writes it on the : line"
        keys = "  ".join(
            filter(None, (hint, "↑↓ another", "tab all keys and commands", "; colours" * (not self.typed), "esc closes"))
        )
        self.set_titles("ask", None, self._library.counts, keys)

    def build(self, width: int, height: int) -> Box:
        palette, glyphs = self.palette, self.palette.glyphs
        typed = transliterate(safe_text(self.typed), glyphs)
        room = max(width - 4, 1)
        shown = typed if cell_len(typed) <= room else typed[-room:]
        cursor = Segment(" ", palette.cursor)
        question = (Segment("? ", palette.keyword), Segment(shown, palette.strong), cursor)
        if not self.typed:
            question = (*question[:1], cursor, Segment(" in your own words: why is the loss so high", palette.dim))
        head, left = from_rows([question, ()]), max(height - 2, 1)
        if width >= BESIDE:
            list_width = int(width * LIST_SHARE) - 2
            answer = clip(palette, self._answer_box(width - list_width - 3, left), width - list_width - 3, left)
            bar = from_rows([(Segment(transliterate("│", glyphs), palette.dim),)] * left)
            listed = self._listed(list_width, left)
            body = hstack(pad(listed, right=list_width - listed.width), bar, answer, gap=1)
        else:
            listed = self._listed(width, max(min(left // 2, left - 4), 1))
            answer = self._answer_box(width, max(left - listed.height - 1, 0))
            body = vstack(listed, answer, gap=1)
        return clip(palette, vstack(head, body), width, height)

    def _answer_box(self, width: int, height: int) -> Box:
        palette, entry = self.palette, self.entry
        if height < 1 or entry is None:
            return EMPTY
        title = from_rows([(Segment("the answer", palette.dim),), ()]) if height > 6 else EMPTY
        left = max(height - title.height, 1)
        if self._desk is not None and self._desk.has_content:
            box = self._desk.box(self, width, left)
        elif self._desk is not None:
            box = self._written("computing …" if not self.answered else "", width)
        elif entry.section is not None:
            box = manual.drawn_section(palette, entry.section, width)
        else:
            words = self._about or entry.words
            box = vstack(*(self._written(line, width) for line in words.split("\n")), gap=1)
        box = clip(palette, box, width, box.height)
        return vstack(title, cut_below(palette, box, width, left)) if title.height else cut_below(palette, box, width, left)

    def _written(self, words: str, width: int) -> Box:
        palette = self.palette
        return from_rows([(Segment(line, palette.plain),) for line in folded(transliterate(words, palette.glyphs), width)])

    def _listed(self, width: int, height: int) -> Box:
        """Return the rows around the chosen entry, with the titles of their groups."""
        palette, rows, at, chosen = self.palette, list[SegmentRow](), 0, 0
        typed = {stem(word) for word in words_of(self.typed) if word not in COMMON}
        for title, entries in self.groups:
            if title:
                rows += [()] * bool(rows) + [(Segment(transliterate(title, palette.glyphs), palette.strong),)]
            for entry in entries:
                if at == self.at:
                    chosen = len(rows)
                rows.append(self._row(entry, width, at == self.at, typed))
                at += 1
        if not rows:
            return self._written("nothing fits these words; other words for the same thing may", width)
        top = min(max(chosen - height + 2, 0) if chosen >= height - 1 else 0, max(len(rows) - height, 0))
        return from_rows(rows[top : top + height])

    def _row(self, entry: Entry, width: int, is_chosen: bool, typed: set[str]) -> SegmentRow:
        palette, glyphs = self.palette, self.palette.glyphs
        command = transliterate(entry.command, glyphs)
        text = transliterate(safe_text(entry.text), glyphs)
        room = width - cell_len(text) - 2
        command = truncated(command, room, glyphs) if room >= 8 else ""
        text = truncated(text, width, glyphs)
        if is_chosen:
            parts: list[Segment] = [Segment(text, palette.cursor)]
        else:
            ink = palette.keyword if entry.verb is not None or entry.section is not None else palette.plain
            parts = list(_highlighted(text, typed, ink, palette.strong))
        if command:
            parts.append(Segment(" " * (width - row_width(parts) - cell_len(command))))
            parts.append(Segment(command, palette.keyword if is_chosen else palette.dim))
        return tuple(parts)


def _highlighted(text: str, typed: set[str], ink: Style, strong: Style) -> Iterable[Segment]:
    """Yield a text with the words that were typed in another style."""
    for i, word in enumerate(text.split(" ")):
        if i:
            yield Segment(" ", ink)
        is_typed = any(stem(part) in typed for part in words_of(word))
        yield Segment(word, strong if is_typed else ink)


def needs_completing(main: MainScreen, command: str) -> bool:
    """Return True if a question's command is put on the `:` line, since the user has to say what it is to change."""
    commands = commands_of(command)
    verb = abbreviated(commands[0].partition(" ")[0], by_name(main.verbs)) if len(commands) == 1 else None
    return verb is not None and verb.id in COMPLETED
