"""The `:` line: where a command is typed, with the ones typed before at hand."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Blur, Key
from textual.message import Message
from textual.widgets import Input
from textual.widgets.input import Selection


class CommandLine(Input):
    """Opens over the last row; Enter does the command, Escape leaves it. A pasted text is one line, and is not done until Enter."""

    DEFAULT_CSS = """
    CommandLine { height: 1; border: none; padding: 0 1; background: $panel; }
    CommandLine:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("up", "recall(-1)", "Before", show=False),
        Binding("down", "recall(1)", "After", show=False),
        Binding("tab", "complete", "Complete", show=False),
        Binding("shift+tab", "nothing", "", show=False),  # it would give the focus away
    ]

    class Entered(Message):
        """A command was typed."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    class Left(Message):
        """The line was left without a command."""

    def __init__(self) -> None:
        super().__init__(select_on_focus=False, compact=True, placeholder="a command, such as: until loss < 0.5")
        self.history: list[str] = []
        self._at = 0
        self._begun = 0  # characters of a command that a key has begun, which ctrl+u and ctrl+w leave
        self.cursor_blink = False

    def open(self, text: str, value: str = "", rest: str = "") -> None:
        """Begin a command with `text`. A `value` after it is selected, so that what is typed replaces it; `rest` follows it."""
        self.value, self._begun = f"{text}{value}{rest}", len(text)
        self.selection = Selection(len(text), len(text) + len(value))
        self._at = len(self.history)
        self.display = True
        self.screen.set_focus(self)  # at once: the next key may be waiting already

    def close(self) -> None:
        self.display = False
        self.value = ""
        self.screen.set_focus(None)

    async def on_key(self, event: Key) -> None:
        """All keys take effect in the order in which they were typed: none that waits behind enter becomes part of the command."""
        bound = self.screen.active_bindings.get(event.key)
        own = bound is not None and bound.node is self
        if own or not self.display:
            event.stop()
            event.prevent_default()
        if bound is not None and own and self.display:
            await self.run_action(bound.binding.action)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None for what has to wait while a run goes on."""
        return None if action == "submit" and getattr(self.screen, "running", False) else True

    def action_leave(self) -> None:
        self.close()
        self.post_message(self.Left())

    def on_blur(self, event: Blur) -> None:
        """The focus has gone elsewhere, by a click: the line would stay open with no keys coming to it."""
        if self.app.app_focus and self.screen.focused is not self:
            self.display = False

    def action_complete(self) -> None:
        """Complete the name of the command where only one begins like this; behind it, nothing."""
        from tui_gru.tui.commands import COMMANDS  # late: they are imported when the first command is entered

        typed = self.value[: self.cursor_position].lstrip(":")
        begun = [[name for name in command.names if name.startswith(typed)] for command in COMMANDS]
        known = [names for names in begun if names]
        if typed and len(known) == 1:
            self.insert_text_at_cursor(f"{known[0][0][len(typed) :]} ")

    def action_nothing(self) -> None:
        """Keep the key from the screen."""

    def action_delete_left_all(self) -> None:
        """Delete what was typed to the left; what a key has begun stays."""
        self._delete_back_to(0)

    def action_delete_left_word(self) -> None:
        """Delete the word to the left; what a key has begun stays."""
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
