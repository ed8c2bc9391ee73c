"""Saves with a session its layout and typed commands, and asks where to record a session that was opened from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual import events

from tui_gru.tui.layout import Layout
from tui_gru.tui.look.key_signs import sign_of_key

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session
    from tui_gru.tui.screens.main import MainScreen

MOST_COMMANDS = 200


class KeptWithSession:
    """Restores layout and commands from the session, and saves every change of them in the session."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._laid_out: Session | None = None  # the session that `_layout` belongs to
        self._layout = Layout()

    # The layout

    @property
    def is_other(self) -> bool:
        """True if the screen shows another session than the one whose layout it has."""
        return self._screen.session is not self._laid_out

    def lay_out(self) -> None:
        """Restore the layout and the commands that are saved in the session."""
        self._laid_out = self._screen.session
        kept = self._laid_out.kept("layout")
        if kept is not None:
            self._layout = Layout.read(kept)
            self._layout.apply(self._screen)
        self.recall_commands()

    def keep_layout(self) -> None:
        """Save the layout in the session if it has changed."""
        if self.is_other or not self._screen.is_mounted:
            return
        layout = Layout.of(self._screen)
        if layout != self._layout:
            self._layout = layout
            self._keep("layout", layout.keep())

    # Commands

    @property
    def commands(self) -> list[str]:
        """The commands typed in this session, newest last."""
        kept = self._screen.session.kept("commands", [])
        return [each for each in kept if isinstance(each, str) and each.isprintable()] if isinstance(kept, list) else []

    def keep_command(self, command: str) -> None:
        if command:
            self._keep("commands", [*self.commands, command][-MOST_COMMANDS:])

    def recall_commands(self) -> None:
        """Load the commands of this session into the history of the `:` line."""
        if lines := self._screen.query("CommandLine"):
            from tui_gru.tui.panels.typing.command_line import CommandLine

            lines.only_one(CommandLine).history = self.commands

    def _keep(self, name: str, value: Any) -> None:
        before = self._screen.notice
        self._screen.session.keep(name, value, begin=False)
        if self._screen.notice not in (None, before):
            self._screen.say_notice()

    # Recording of a session that was opened from a file

    @property
    def question(self) -> str:
        """The question where to record changes, shown until it is answered; empty if there are no unrecorded changes."""
        session = self._screen.session
        path = session.opened_from
        if path is None or not session.undecided or self._screen.running:
            return ""
        return f"not recorded: y writes to {path.name}, c to a copy, {sign_of_key(self._screen, 'stop')} continues in memory"

    def take_key(self, event: events.Key) -> bool:
        """Handle a key that answers `question`. Return True if the key was an answer; any other key keeps its meaning."""
        answered = bool(self.question) and event.key in ("y", "c")
        if answered:
            self._record(copy=event.key == "c")
        return answered

    def _record(self, *, copy: bool) -> None:
        """Record the session to the file that it was opened from, or to a new file beside it."""
        session = self._screen.session

        def record(_: Any) -> None:
            from tui_gru.debugger.storage.library import free_path

            path = session.opened_from
            assert path is not None
            session.record_to(free_path(path) if copy else path)
            self._screen.note(f"recorded to {session.recording}")

        self._screen.do(record, batches=None)

    def decline(self) -> bool:
        """Continue in memory if `question` is asked. Return True if it was."""
        asked = bool(self.question)
        if asked:
            self._screen.forget_notice()
            self._screen.session.stay_in_memory()
            self._screen.show_now()
        return asked
