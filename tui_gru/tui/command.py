"""The `:` line: its input with history and completions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Blur, Key
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input
from textual.widgets.input import Selection

from tui_gru import analysis
from tui_gru.analysis.measured import PARTS
from tui_gru.debugger.expressions import FUNCTIONS
from tui_gru.debugger.program import ProgramName, ValueKind
from tui_gru.debugger.stops import described
from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.numbers import decimals
from tui_gru.paths import is_permitted, permitted
from tui_gru.session.answers import mark_names
from tui_gru.tui.keys import Arguments, Verb, abbreviated, by_name, example
from tui_gru.tui.session_screen import SessionScreen
from tui_gru.tui.theme import folded, palette_of, transliterate, truncated

# ------------------------------------------------------------------------------
# Completes verbs, names, branches, files and so on, each with a short description.


MOST_FILES = 500  # read from a folder


class Candidate(NamedTuple):
    """A completion and its description."""

    text: str
    words: str = ""


class Completion(NamedTuple):
    """The candidates that can replace the text between column `begins` (0-based) and the cursor.

    `verb` is an example of the verb whose arguments are typed, and what it does.
    """

    begins: int
    candidates: tuple[Candidate, ...] = ()
    verb: Candidate | None = None


def complete(screen: SessionScreen, typed: str) -> Completion:
    """Return the completions of the text before the cursor."""
    command = typed.lstrip(": ")
    name, space, rest = command.partition(" ")
    if "[" in name:  # an entry of a value, which is explained
        return Completion(len(typed), verb=_about(screen, screen.verbs["explain"], Arguments.of(command, typed)))
    if not space:
        return _of(len(typed) - len(command), name, _verbs(screen))
    verb = abbreviated(name, by_name(screen.verbs))
    if verb is None:
        return Completion(len(typed))
    about = _about(screen, verb, Arguments.of(rest, typed))
    if not verb.completes:
        return Completion(len(typed), verb=about)
    done = len(rest.split()) - (bool(rest) and not rest[-1].isspace())
    kind = verb.completes[min(done, len(verb.completes) - 1)]
    return completions(screen, kind, typed)._replace(verb=about)


def _about(screen: SessionScreen, verb: Verb[Any], arguments: Arguments) -> Candidate:
    """Return an example of a verb, and what it does: with these arguments, if the verb can tell."""
    program = screen.session.program
    words = example(program, verb.typed_help) if verb.preview is None else verb.preview(screen, arguments)
    return Candidate(example(program, verb.usage), words)


def completions(screen: SessionScreen, kind: str, typed: str) -> Completion:
    """Return the completions of the last argument, which is of this kind; in an expression, those of the name at its end."""
    begins = (_name_begins if kind in EXPRESSIONS else _word_begins)(typed)
    word = typed[begins:]
    path = kind == "file" or (kind == "session" and ("/" in word or os.sep in word))
    candidates = _files(word) if path else COMPLETIONS[kind](screen)
    return _of(begins, word, candidates)


def _word_begins(typed: str) -> int:
    """Return the column at which the word at the end begins. A regular expression would try every column of a long word."""
    begins = len(typed)
    while begins and not typed[begins - 1].isspace():
        begins -= 1
    return begins


def _name_begins(typed: str) -> int:
    """Return the column at which the name at the end begins: letters, digits and _, but no digit first."""
    begins = len(typed)
    while begins and (typed[begins - 1].isalnum() or typed[begins - 1] == "_"):
        begins -= 1
    while begins < len(typed) and typed[begins].isdecimal():
        begins += 1
    return begins


def _of(begins: int, word: str, candidates: Iterable[Candidate]) -> Completion:
    fitting = {candidate.text: candidate for candidate in candidates if candidate.text.startswith(word)}
    return Completion(begins, tuple(fitting.values()))


# The candidates of each kind


def _lessons(screen: SessionScreen) -> Iterator[Candidate]:
    from tui_gru.teaching.lesson import read_lesson, shipped_lessons

    return (Candidate(name, read_lesson(name).title) for name in shipped_lessons())


def _verbs(screen: SessionScreen) -> Iterator[Candidate]:
    program = screen.session.program
    for verb in screen.verbs.values():
        if verb.names and verb.listed:
            yield Candidate(verb.names[0], example(program, verb.help))


def _words(*pairs: tuple[str, str]) -> Callable[[SessionScreen], Iterator[Candidate]]:
    return lambda screen: iter(Candidate(*pair) for pair in pairs)


def _named(screen: SessionScreen, belongs: Callable[[ProgramName], bool] = lambda named: True) -> Iterator[Candidate]:
    program = screen.session.program
    for name, named in program.names.items():
        if belongs(named):
            axes = " and ".join(axis.strip() for axis in named.counted)
            words = program.model.rule.meanings[name] if named.kind is ValueKind.SETTING else named.kind.word
            yield Candidate(name, f"{words}, by {axes}" if axes else words)


def _stops(screen: SessionScreen) -> Iterator[Candidate]:
    for stop in screen.snapshot.state.stops.breakpoints:
        yield Candidate(str(stop.id), described(stop, screen.session.program))
    for watch in screen.snapshot.state.stops.watches:
        yield Candidate(str(watch.id), f"watch {watch.expression}")


def _marks(screen: SessionScreen) -> Iterator[Candidate]:
    marks = screen.snapshot.state.marks.sorted
    names = mark_names(marks, screen.session.program)
    for mark in marks:
        place = names[mark.letter].removesuffix(f" {mark.branch}")
        yield Candidate(mark.letter, ": ".join(filter(None, (f"{place} on {mark.branch}", mark.on_one_line))))


def _branches(screen: SessionScreen) -> Iterator[Candidate]:
    for fork in screen.snapshot.forks:
        left = "the first branch" if fork.source is None else f"left {fork.source}"
        yield Candidate(fork.name, left if fork.loss is None else f"{left}, loss {decimals(fork.loss, 4)}")


def _other_branches(screen: SessionScreen) -> Iterator[Candidate]:
    yield from (candidate for candidate in _branches(screen) if candidate.text != screen.snapshot.state.branch)


def _sessions(screen: SessionScreen) -> Iterator[Candidate]:
    from tui_gru.storage.store import named_files

    yield from (Candidate(path.stem, "session") for path in named_files())
    yield Candidate("last", "the session that was written last")


def _files(word: str) -> Iterator[Candidate]:
    """Yield the files and folders in the typed folder, with the folder spelled as typed."""
    typed = word[: max(word.rfind("/"), word.rfind(os.sep)) + 1]
    try:
        with os.scandir(permitted(typed or ".")) as entries:
            some = (entry for entry, _ in zip(entries, range(MOST_FILES), strict=False) if is_permitted(entry.path))
            listed = sorted((entry.name, entry.is_dir()) for entry in some)
    except (OSError, ValueError):  # the error of `permitted` is a ValueError as well
        return
    for name, is_folder in listed:
        if name.isprintable() and not name.startswith("."):
            yield Candidate(f"{typed}{name}{'/' if is_folder else ''}", "folder" if is_folder else "file")


#: The kinds of arguments that are expressions, of which the name at the end is completed.
EXPRESSIONS = frozenset({"name", "entry", "changeable"})
COMPLETIONS: Mapping[str, Callable[[SessionScreen], Iterator[Candidate]]] = {
    "": _words(),
    "branch": _branches,
    "changeable": lambda screen: chain(
        _named(screen, lambda named: named.kind in (ValueKind.PARAMETER, ValueKind.STATE, ValueKind.SETTING)),
        [Candidate("text", "a character of the text, by its index"), Candidate("theme", "the colours of the screen")],
    ),
    "class": lambda screen: (Candidate(name, feature.words) for name, feature in analysis.units.FEATURES.items()),
    "clause": _words(("if", "a condition follows"), ("hits", "a count follows"), ("log", "a template follows; runs do not stop")),
    "copy": _words(("copy", "open a copy of it")),
    "entry": _named,
    "every": _words(("every", "every batch while training")),
    "fact": _words(*((part, "what was measured of it") for part in PARTS)),
    "file": _words(),
    "lesson": _lessons,
    "level": _words(("line", ""), ("timestep", ""), ("phase", ""), ("batch", ""), ("epoch", "")),
    "line": lambda screen: (
        Candidate(row.line.target, row.line.note or row.line.text) for row in screen.session.program.rows if row.line is not None
    ),
    "mark": _marks,
    "module": lambda screen: (
        Candidate(name, "shown" if name == screen.session.config.source.module else "")
        for name in screen.session.config.source.modules
    ),
    "name": lambda screen: chain(_named(screen), (Candidate(name, "function") for name in FUNCTIONS)),
    "other branch": _other_branches,
    "other branch or off": lambda screen: chain(_other_branches(screen), [Candidate("off", "end the comparison")]),
    "place": lambda screen: chain(
        _marks(screen),
        (Candidate("newest", "the newest moment reached"), Candidate("nan", "the first number that is not finite")),
    ),
    "row": _words(("row", "the number of a row follows")),
    "sampler": _words(*((sampler, "sampler") for sampler in SAMPLERS)),
    "session": _sessions,
    "setting": lambda screen: map(Candidate, screen.app.available_themes),
    "stop": _stops,
    "stop or mark": lambda screen: chain(_stops(screen), _marks(screen)),
    "switch": _words(("on", ""), ("off", "")),
    "t": _words(("t", "the number of a timestep follows")),
    "theme": lambda screen: map(Candidate, screen.app.available_themes),
    "value or class": lambda screen: chain(COMPLETIONS["value"](screen), COMPLETIONS["class"](screen)),
    "value": lambda screen: _named(screen, lambda named: named.timed and "unit" in named.counted),
}


# ------------------------------------------------------------------------------
# The `:` line: an input for commands with history, and above it the list of completions.


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
        return lines if len(lines) <= most else [*lines[: most - 1], truncated(" ".join(lines[most - 1 :]), width, glyphs)]

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
        is_chosen = self._chosen >= 0 and rows[row] == self._completion.candidates[self._chosen]
        column = min(max(cell_len(candidate.text) for candidate in rows) + 2, max(width // 2, 1))
        text = truncated(transliterate(rows[row].text, palette.glyphs), column - 1, palette.glyphs)
        words = truncated(transliterate(rows[row].words, palette.glyphs), max(width - column - 2, 0), palette.glyphs)
        segments = [
            Segment(" "),
            Segment(text, palette.cursor if is_chosen else palette.keyword),
            Segment(" " * (column - cell_len(text))),
            Segment(words, palette.plain),
        ]
        return Strip(segments).adjust_cell_length(width, Style()).apply_style(self.rich_style)


class CommandLine(Input):
    """The input, over the last row. Enter executes the command, Escape closes the line. Pasted text is joined to one line."""

    ABOUT = "The command line: tab completes a command, ↑ recalls an earlier one."

    DEFAULT_CSS = """
    CommandLine { height: 1; border: none; padding: 0 1; background: $panel; }
    CommandLine:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "leave"),
        ("up", "recall(-1)"),
        ("down", "recall(1)"),
        ("tab", "complete(1)"),
        ("shift+tab", "complete(-1)"),
    ]

    @dataclass
    class Entered(Message):
        """Posted when a command was entered."""

        command: str

    class Left(Message):
        """Posted when the line was closed without a command."""

    def __init__(self, complete: Callable[[str], Completion], listed: CompletionList) -> None:
        """Create a line. `complete` returns the completions of the text before the cursor; `listed` shows them."""
        super().__init__(select_on_focus=False, compact=True, placeholder="a command, such as: until loss < 0.5")
        self.history: list[str] = []
        self._complete, self._listed = complete, listed
        self._completion = Completion(0)  # of the typed text
        self._chosen = -1  # the index of the candidate on the line
        self._completed: str | None = None  # the text of the line after the last completion
        self._at = 0
        self._begun = 0  # the number of characters that a key has put on the line, which ctrl+u and ctrl+w do not delete
        self.cursor_blink = False

    def open(self, text: str, value: str = "", rest: str = "") -> None:
        """Open the line with `text`, then `value`, which is selected such that typing replaces it, then `rest`."""
        self.value, self._begun = f"{text}{value}{rest}", len(text)
        self.selection = Selection(len(text), len(text) + len(value))
        self._at = len(self.history)
        self.display = True
        self.screen.set_focus(self)  # without delay, since the next key may be waiting already

    def close(self) -> None:
        self.display = False
        self.value = ""
        self._list(Completion(0))
        self.screen.set_focus(None)

    async def on_key(self, event: Key) -> None:
        """Run the actions of this line at once, such that keys typed after enter do not become part of the command."""
        bound = self.screen.active_bindings.get(event.key)
        is_bound_here = bound is not None and bound.node is self
        if is_bound_here or not self.display:
            event.stop()
            event.prevent_default()
        if bound is not None and is_bound_here and self.display:
            await self.run_action(bound.binding.action)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for enter during a run, since a command has to wait for its end."""
        return None if action == "submit" and getattr(self.screen, "running", False) else True

    def action_leave(self) -> None:
        self.close()
        self.post_message(self.Left())

    def on_blur(self, event: Blur) -> None:
        """Close the line when a click moves the focus, since it would stay open without receiving keys."""
        if self.app.app_focus and self.screen.focused is not self:
            self.display = False
            self._list(Completion(0))

    def watch_selection(self) -> None:
        """List the completions of the word before the cursor, which Textual moves after it changes the value."""
        value = self.value
        if value == self._completed:
            return
        self._completed = None
        completion = self._completions() if self.display and value else Completion(0)
        typed = value[completion.begins : self.cursor_position]
        self._list(
            completion
            if typed and [candidate.text for candidate in completion.candidates] != [typed]
            else Completion(0, verb=completion.verb)
        )

    def action_complete(self, step: int) -> None:
        """Complete the common beginning of all candidates; at the next call, cycle through the candidates."""
        if self._completed != self.value:
            self._list(self._completions())
        begins, candidates = self._completion.begins, self._completion.candidates
        typed = self.value[begins : self.cursor_position]
        if not candidates:
            return
        common = common_beginning([candidate.text for candidate in candidates])
        if len(candidates) == 1:
            self._put(f"{common} " if not self.value[:begins].strip(": ") else common)
            self._list(Completion(0, verb=self._completions().verb))
        elif len(common) > len(typed) and self._chosen < 0:
            self._put(common)
        elif self._completed == self.value:  # a further tab
            self._chosen = (self._chosen + step) % len(candidates) if self._chosen >= 0 or step > 0 else len(candidates) - 1
            self._put(candidates[self._chosen].text)
        self._completed = self.value
        self._listed.show(self._completion, self._chosen)

    def _completions(self) -> Completion:
        return self._complete(self.value[: self.cursor_position])

    def _list(self, completion: Completion) -> None:
        self._completion, self._chosen, self._completed = completion, -1, None
        self._listed.show(completion)

    def _put(self, text: str) -> None:
        """Replace the word that is completed by a text."""
        begins, rest = self._completion.begins, self.value[self.cursor_position :]
        self._completed = f"{self.value[:begins]}{text}{rest}"
        self.value = self._completed
        self.cursor_position = begins + len(text)

    def action_delete_left_all(self) -> None:
        """Delete the typed text left of the cursor, except what a key has put there."""
        self._delete_back_to(0)

    def action_delete_left_word(self) -> None:
        """Delete the word left of the cursor, except what a key has put there."""
        before = self.value[: self.cursor_position].rstrip()
        self._delete_back_to(before.rfind(" ") + 1)

    def _delete_back_to(self, place: int) -> None:
        if not self.selection.is_empty:
            self.delete_selection()
        elif self.cursor_position > self._begun:
            self.delete(max(place, self._begun), self.cursor_position)

    def action_recall(self, step: int) -> None:
        if not self.history:
            return
        self._begun = 0
        self._at = min(max(self._at + step, 0), len(self.history))
        self.value = self.history[self._at] if self._at < len(self.history) else ""
        self.cursor_position = len(self.value)

    async def action_submit(self) -> None:
        command = self.value.strip()
        if command and self.history[-1:] != [command]:
            self.history.append(command)
        self.close()
        self.post_message(self.Entered(command))


def common_beginning(texts: Sequence[str]) -> str:
    """Return the longest common prefix. It is that of the first and the last text in sorted order."""
    first, last = min(texts), max(texts)
    same = next((i for i, char in enumerate(first) if i >= len(last) or last[i] != char), len(first))
    return first[:same]
