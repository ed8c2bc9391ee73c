"""The help screen, which is the command palette as well: all keys and commands, found by typing and executed with enter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui_gru.debugger.program.line_table import Program
from tui_gru.tui.look.characters import folded
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.verbs.table import GROUPS, KEYS, VERBS
from tui_gru.tui.verbs.verb import Verb, example, key_signs, keys_of
from tui_gru.tui.widgets.boxes import Box, columns, from_rows, text, vstack
from tui_gru.tui.widgets.panel import Panel

HINTS = [
    "esc closes",
    "type to search, enter executes it",
    "a number before a key repeats it: 10s",
    "capital letters go back in time",
]
KEY, LEAST = 10, 20  # cells: the least width of the column of keys, and of the descriptions beside it

TitledText = tuple[str, str]  # a title, and an explanation


class HelpEntry(NamedTuple):
    """A row of a table: what is typed, what it does, and its verb."""

    typed: str
    words: str
    verb: Verb


class HelpScreen(ModalScreen[Verb]):
    """The help over the main screen. Its result is the verb to execute, if enter was pressed on one.

    The keys of help, escape and quit close it, unless a search text has been typed.
    """

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > HelpPanel { width: 96%; max-width: 168; height: auto; max-height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,question_mark", "dismiss"),
        *(Binding(KEYS[verb], "dismiss", "Close", show=False, id=verb) for verb in ("help", "stop", "quit")),  # remappable
    ]

    def __init__(self, program: Program, here: Sequence[TitledText], explained: Callable[[], Iterable[TitledText]]) -> None:
        """Create the help. `here` explains what has the focus; `explained` returns all explanations, for a search."""
        super().__init__()
        self._panel = HelpPanel(program, here, explained)

    def compose(self) -> ComposeResult:
        yield self._panel

    def on_key(self, event: events.Key) -> None:
        """Add the typed character to the search text. Arrows choose a row that was found, enter executes it."""
        sought, bound = self._panel.sought, event.key in self.active_bindings
        if event.key == "enter" and self._panel.found is not None:
            self.dismiss(self._panel.found)
        elif event.key in ("up", "down") and sought:
            self._panel.choose(1 if event.key == "down" else -1)
        elif event.key == "backspace":
            self._panel.search(sought[:-1])
        elif event.is_printable and event.character and (sought or not bound):
            self._panel.search(sought + event.character)
        else:
            return
        event.stop()
        event.prevent_default()


class HelpPanel(Panel):
    """Explanations of what has the focus, then the keys, then the commands.

    `sought` is the search text: only rows that contain all of its words are shown, one of them chosen, and below them the other
    explanations that do.
    """

    def __init__(self, program: Program, here: Sequence[TitledText], explained: Callable[[], Iterable[TitledText]]) -> None:
        super().__init__()
        self._program, self._here, self._explanations = program, here, cache(lambda: tuple(explained()))
        self.sought, self._at = "", 0
        self._chosen_rows: Sequence[int] = ()  # of the content, those of the chosen entry

    def search(self, sought: str) -> None:
        """Show the rows that contain these words, all rows if the text is empty."""
        self.sought, self._at = sought, 0
        self._set_titles()
        self.scroll_home(animate=False)
        self.refresh_content()
        self.refresh(layout=True)

    def choose(self, by: int) -> None:
        """Choose the entry `by` rows below the chosen one."""
        self._at = min(max(self._at + by, 0), max(len(self._entries) - 1, 0))
        self._set_titles()
        self.refresh_content()

    @property
    def found(self) -> Verb | None:
        """The verb of the chosen row; None without a search text, or if no row contains it."""
        return None if self._chosen is None else self._chosen.verb

    @property
    def _entries(self) -> tuple[HelpEntry, ...]:
        return (*chain.from_iterable(map(self._keys, GROUPS)), *self._commands())

    @property
    def _chosen(self) -> HelpEntry | None:
        return next(iter(self._entries[self._at :]), None) if self.sought else None

    def on_resize(self) -> None:
        self._set_titles()

    def _set_titles(self) -> None:
        if self.sought:
            hints = ["↑ ↓ chooses", "esc closes", "backspace deletes a letter"]
            if (found := self.found) is not None:
                hints.insert(0, f"enter: {f':{found.names[0]}' if found.names else self._key(found)}")
            self.set_titles(f"keys with “{self.sought}”", hints)
        else:
            self.set_titles("keys", HINTS)

    def build(self, width: int, height: int) -> Box:
        explained = [row for row in self._here if self._fits(row)]
        groups = [(group, rows) for group in GROUPS if (rows := self._keys(group))]
        commands = self._commands()
        others = [row for row in self._explanations() if row not in self._here and self._fits(row)] if self.sought else []
        if not (explained or groups or commands or others):
            return text(self.palette, "no key, command or explanation contains these words", self.palette.plain)
        box = self._content(explained, groups, commands, width)
        if others:
            box = vstack(*([box] if box.height else []), self._explained("Explanations", others, width), gap=1)
        self._chosen_rows = [y for y, row in enumerate(box.rows) if any(piece.style == self.palette.cursor for piece in row)]
        return box

    def _follow(self) -> None:
        if self._chosen_rows:
            self.scroll_to_rows(self._chosen_rows[0], self._chosen_rows[-1])

    def _content(
        self, explained: Sequence[TitledText], groups: Sequence[tuple[str, list[HelpEntry]]], commands: list[HelpEntry], width: int
    ) -> Box:
        above = [self._explained("Here", explained, width)] if explained else []
        below = [self._table("Command line", commands, width)] if commands else []
        if width >= 130 and len(groups) > 1:
            boxes = [self._table(group, rows, width // 2 - 2, least=KEY) for group, rows in groups]
            halves = [(vstack(*boxes[:i], gap=1), vstack(*boxes[i:], gap=1)) for i in range(1, len(boxes))]
            shortest = min(halves, key=lambda half: max(box.height for box in half))
            return vstack(*above, columns(*shortest, gap=4), *below, gap=1)
        return vstack(*above, *(self._table(group, rows, width, least=KEY) for group, rows in groups), *below, gap=1)

    def _keys(self, group: str) -> list[HelpEntry]:
        verbs = [verb for verb in VERBS if verb.group == group and verb.keys and verb.help]
        return self._matching((self._key(verb), verb.help, verb) for verb in verbs)

    def _commands(self) -> list[HelpEntry]:
        return self._matching((f":{verb.usage}", verb.typed_help, verb) for verb in VERBS if verb.names)

    def _key(self, verb: Verb) -> str:
        return " ".join(key_signs(keys_of(self, verb.id)))

    def _matching(self, rows: Iterable[tuple[str, str, Verb]]) -> list[HelpEntry]:
        """Return the rows that match the search text, with placeholders replaced by names of the model."""
        entries = (HelpEntry(example(self._program, typed), example(self._program, words), verb) for typed, words, verb in rows)
        return [entry for entry in entries if self._fits(entry[:2])]

    def _fits(self, row: TitledText) -> bool:
        return all(word in " ".join(row).lower() for word in self.sought.lower().split())

    def _explained(self, title: str, rows: Sequence[TitledText], width: int) -> Box:
        """Return a box with explanations, each below what it explains."""
        p = self.palette
        lines: list[list[Segment]] = []
        for what, sentence in rows:
            lines += ([Segment(part, p.keyword)] for part in folded(transliterate(what, p.glyphs), width))
            parts = folded(transliterate(sentence, p.glyphs), max(width - 2, 1))
            lines += ([Segment("  "), Segment(part, p.plain)] for part in parts)
        return vstack(text(p, title, p.strong), from_rows(lines))

    def _table(self, title: str, entries: list[HelpEntry], width: int, *, least: int = 0) -> Box:
        """Return a box with keys or commands and their descriptions, beside them if there are LEAST cells, otherwise below."""
        p, chosen = self.palette, self._chosen
        rows = [(transliterate(entry.typed, p.glyphs), transliterate(entry.words, p.glyphs), entry == chosen) for entry in entries]
        first = max(least, *(cell_len(typed) for typed, *_ in rows)) + 2
        beside = width - first >= LEAST
        lines: list[list[Segment]] = []
        for typed, what, here in rows:
            parts, style = folded(what, width - first if beside else width - 2), p.cursor if here else p.keyword
            if beside:
                lines.append([Segment(typed, style), Segment(" " * (first - cell_len(typed))), Segment(parts[0], p.plain)])
            else:
                lines += ([Segment(part, style)] for part in folded(typed, width))
            indent = " " * (first if beside else 2)
            lines += ([Segment(indent), Segment(part, p.plain)] for part in parts[beside:])
        return vstack(text(p, title, p.strong), from_rows(lines))
