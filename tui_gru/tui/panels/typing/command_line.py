"""The `:` line: where a command is typed, with the ones typed before at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Blur, Key
from textual.message import Message
from textual.widgets import Input
from textual.widgets.input import Selection

from tui_gru.tui.panels.typing.completion_list import CompletionList
from tui_gru.tui.verbs.completion import Completion


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
        Binding("tab", "complete(1)", "Complete", show=False),
        Binding("shift+tab", "complete(-1)", "Complete with the one before", show=False),
    ]

    class Entered(Message):
        """A command was typed."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    class Left(Message):
        """The line was left without a command."""

    def __init__(self, complete: Callable[[str], Completion], listed: CompletionList) -> None:
        """`complete` is given the text before the cursor; `listed` shows what that can be completed with."""
        super().__init__(select_on_focus=False, compact=True, placeholder="a command, such as: until loss < 0.5")
        self.history: list[str] = []
        self._complete, self._listed = complete, listed
        self._completion = Completion(0)  # of what was typed
        self._chosen = -1  # the candidate that stands on the line
        self._completed: str | None = None  # the line that a completion has made
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
        self._list(Completion(0))
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
            self._list(Completion(0))

    def watch_value(self, value: str) -> None:
        """List what the word that is being typed can be completed with."""
        if value == self._completed:
            return
        self._completed = None
        found = self._found() if self.display and value else Completion(0)
        typed = value[found.begins : self.cursor_position]
        self._list(found if typed and [each.text for each in found.candidates] != [typed] else Completion(0))

    def action_complete(self, step: int) -> None:
        """Complete as far as all candidates agree; then one candidate after the other."""
        if self._completed != self.value:
            self._list(self._found())
        begins, candidates = self._completion
        typed = self.value[begins : self.cursor_position]
        if not candidates:
            return
        common = common_beginning([each.text for each in candidates])
        if len(candidates) == 1:
            self._put(f"{common} " if not self.value[:begins].strip(": ") else common)
            self._list(Completion(0))
        elif len(common) > len(typed) and self._chosen < 0:
            self._put(common)
        elif self._completed == self.value:  # tab once more
            self._chosen = (self._chosen + step) % len(candidates) if self._chosen >= 0 or step > 0 else len(candidates) - 1
            self._put(candidates[self._chosen].text)
        self._completed = self.value
        self._listed.show(self._completion.candidates, self._chosen)

    def _found(self) -> Completion:
        return self._complete(self.value[: self.cursor_position])

    def _list(self, completion: Completion) -> None:
        self._completion, self._chosen, self._completed = completion, -1, None
        self._listed.show(completion.candidates)

    def _put(self, text: str) -> None:
        """Put a text in the place of the word that is completed."""
        begins, rest = self._completion.begins, self.value[self.cursor_position :]
        self._completed = f"{self.value[:begins]}{text}{rest}"
        self.value = self._completed
        self.cursor_position = begins + len(text)

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


def common_beginning(texts: Sequence[str]) -> str:
    """The longest text that all of these begin with; of the first and the last in order, all others lie between."""
    first, last = min(texts), max(texts)
    same = next((i for i, char in enumerate(first) if i >= len(last) or last[i] != char), len(first))
    return first[:same]
