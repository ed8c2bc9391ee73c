"""All keys and commands, made from the tables that make them work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from tui_gru.tui.commands import COMMANDS
from tui_gru.tui.key_signs import key_signs
from tui_gru.tui.keys import GROUPS, VERBS
from tui_gru.tui.widgets.boxes import Box, columns, pad, text, vstack
from tui_gru.tui.widgets.panel import Panel


class HelpScreen(ModalScreen[None]):
    """Laid over the main screen; any of its keys leaves it."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > HelpPanel { width: 96%; max-width: 168; height: auto; max-height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "Close", show=False)]

    def __init__(self, keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._keymap = keymap
        for verb in ("help", "stop", "quit"):
            if verb in keymap:
                self._bindings.bind(keymap[verb], "dismiss", show=False)

    def compose(self) -> ComposeResult:
        yield HelpPanel(self._keymap)


class HelpPanel(Panel):
    def __init__(self, keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._keymap = keymap

    def on_mount(self) -> None:
        super().on_mount()
        self.set_titles("keys", "esc closes · a number before a key counts: 10s · capital letters go back in time")

    def build(self, width: int, height: int) -> Box:
        groups = [self._group(group) for group in GROUPS]
        commands = self._commands()
        if width >= 130:
            halves = [(vstack(*groups[:i], gap=1), vstack(*groups[i:], gap=1)) for i in range(1, len(groups))]
            shortest = min(halves, key=lambda half: max(box.height for box in half))
            return vstack(columns(*shortest, gap=4), commands, gap=1)
        return vstack(*groups, commands, gap=1)

    def _group(self, group: str) -> Box:
        p = self.palette
        verbs = [verb for verb in VERBS if verb.group == group]
        signs = [" ".join(key_signs(self._keymap.get(verb.id, verb.keys))) for verb in verbs]
        keys = vstack(*(text(p, sign, p.keyword) for sign in signs))
        what = vstack(*(text(p, verb.help, p.plain) for verb in verbs))
        return vstack(text(p, group, p.strong), columns(pad(keys, right=max(0, 10 - keys.width)), what))

    def _commands(self) -> Box:
        p = self.palette
        usage = vstack(*(text(p, f":{command.usage}", p.keyword) for command in COMMANDS))
        what = vstack(*(text(p, command.help, p.plain) for command in COMMANDS))
        return vstack(text(p, "Command line", p.strong), columns(usage, what))
