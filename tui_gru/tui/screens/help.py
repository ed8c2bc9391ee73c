"""All keys and commands, made from the tables that make them work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui_gru.debugger.program.line_table import Program
from tui_gru.tui.characters import fitting, folded
from tui_gru.tui.commands import COMMANDS
from tui_gru.tui.examples import example
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.key_signs import key_signs
from tui_gru.tui.keys import GROUPS, VERBS
from tui_gru.tui.widgets.boxes import Box, columns, from_rows, text, vstack
from tui_gru.tui.widgets.panel import Panel

HINTS = ("esc closes", "a number before a key counts: 10s", "capital letters go back in time")
KEY, LEAST = 10, 20  # cells of a key, and those that what it does has beside it


class HelpScreen(ModalScreen[None]):
    """Laid over the main screen; any of its keys leaves it."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > HelpPanel { width: 96%; max-width: 168; height: auto; max-height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "Close", show=False)]

    def __init__(self, keymap: Mapping[str, str], program: Program, here: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__()
        self._keymap, self._program, self._here = keymap, program, here
        for verb in ("help", "stop", "quit"):
            if verb in keymap:
                self._bindings.bind(keymap[verb], "dismiss", show=False)

    def compose(self) -> ComposeResult:
        yield HelpPanel(self._keymap, self._program, self._here)


class HelpPanel(Panel):
    """What has the focus comes first, then the keys, then the commands."""

    def __init__(self, keymap: Mapping[str, str], program: Program, here: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__()
        self._keymap, self._program, self._here = keymap, program, here

    def on_resize(self) -> None:
        self.set_titles("keys", fitting(HINTS, self.outer_size.width - 6))

    def build(self, width: int, height: int) -> Box:
        return vstack(*([self._explained(width)] if self._here else []), self._keys(width), gap=1)

    def _explained(self, width: int) -> Box:
        """What has the focus, each thing with the sentence for it under it."""
        p = self.palette
        lines: list[list[Segment]] = []
        for what, sentence in self._here:
            lines += ([Segment(part, p.keyword)] for part in folded(transliterate(what, p.glyphs), width))
            lines += (
                [Segment("  "), Segment(part, p.plain)] for part in folded(transliterate(sentence, p.glyphs), max(width - 2, 1))
            )
        return vstack(text(p, "Here", p.strong), from_rows(lines))

    def _keys(self, width: int) -> Box:
        if width >= 130:
            groups = [self._group(group, width // 2 - 2) for group in GROUPS]
            halves = [(vstack(*groups[:i], gap=1), vstack(*groups[i:], gap=1)) for i in range(1, len(groups))]
            shortest = min(halves, key=lambda half: max(box.height for box in half))
            return vstack(columns(*shortest, gap=4), self._commands(width), gap=1)
        return vstack(*(self._group(group, width) for group in GROUPS), self._commands(width), gap=1)

    def _group(self, group: str, width: int) -> Box:
        verbs = [verb for verb in VERBS if verb.group == group]
        signs = [" ".join(key_signs(self._keymap.get(verb.id, verb.keys))) for verb in verbs]
        return self._table(group, list(zip(signs, (verb.help for verb in verbs), strict=True)), width, least=KEY)

    def _commands(self, width: int) -> Box:
        return self._table("Command line", [(f":{command.usage}", command.help) for command in COMMANDS], width)

    def _table(self, title: str, rows: list[tuple[str, str]], width: int, *, least: int = 0) -> Box:
        """What is typed, and what it does beside it; under it, where that would leave it hardly any room."""
        p = self.palette
        rows = [(transliterate(example(self._program, typed), p.glyphs), what) for typed, what in rows]
        first = max(least, *(cell_len(typed) for typed, _ in rows)) + 2
        beside = width - first >= LEAST
        lines: list[list[Segment]] = []
        for typed, what in rows:
            what = transliterate(example(self._program, what), p.glyphs)
            said = folded(what, width - first if beside else width - 2)
            if beside:
                lines.append([Segment(typed + " " * (first - cell_len(typed)), p.keyword), Segment(said[0], p.plain)])
            else:
                lines += ([Segment(part, p.keyword)] for part in folded(typed, width))
            indent = " " * (first if beside else 2)
            lines += ([Segment(indent), Segment(part, p.plain)] for part in said[beside:])
        return vstack(text(p, title, p.strong), from_rows(lines))
