"""The `:` line: where a command is typed, with the ones typed before at hand."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import Input


class CommandLine(Input):
    """Opens over the last row; Enter does the command, Escape leaves it. A pasted text is one line, and is not done until Enter."""

    DEFAULT_CSS = """
    CommandLine { dock: bottom; height: 1; border: none; padding: 0 1; background: $panel; }
    CommandLine:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("up", "recall(-1)", "Before", show=False),
        Binding("down", "recall(1)", "After", show=False),
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
        self.cursor_blink = False

    def open(self, text: str) -> None:
        """Begin a command with `text`."""
        self.value, self.cursor_position = text, len(text)
        self._at = len(self.history)
        self.display = True
        self.screen.set_focus(self)  # at once: the next key may be waiting already

    def close(self) -> None:
        self.display = False
        self.value = ""
        self.screen.set_focus(None)

    async def on_key(self, event: Key) -> None:
        """All keys take effect in the order in which they were typed: none that waits behind enter becomes part of the command."""
        bindings = self._bindings.key_to_bindings.get(event.key, ())
        if bindings or not self.display:
            event.stop()
            event.prevent_default()
        for binding in bindings:
            if self.display:
                await self.run_action(binding.action)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None for what has to wait while a run goes on."""
        return None if action == "submit" and getattr(self.screen, "running", False) else True

    def action_leave(self) -> None:
        self.close()
        self.post_message(self.Left())

    def action_recall(self, step: int) -> None:
        if not self.history:
            return
        self._at = min(max(self._at + step, 0), len(self.history))
        self.value = self.history[self._at] if self._at < len(self.history) else ""
        self.cursor_position = len(self.value)

    async def action_submit(self) -> None:
        command = self.value.strip()
        if command and self.history[-1:] != [command]:
            self.history.append(command)
        self.close()
        self.post_message(self.Entered(command))
