"""A screen whose session survives it: saved, opened and recorded, with the layout and what was typed on the `:` line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.events import Key

from tui_gru.debugger.session.session import Session
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.key_signs import sign_of_key
from tui_gru.tui.layout import Layout
from tui_gru.tui.runs import Finished
from tui_gru.tui.screens.looking import LookingScreen

if TYPE_CHECKING:
    from tui_gru.tui.panels.command_line import CommandLine

MOST_COMMANDS = 200


class SurvivingScreen(LookingScreen):
    """Keeps what is to be found again with the session, and lays the screen out as a session was left."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._laid_out: Session | None = None  # whose layout this is
        self._layout = Layout()

    @property
    def typed(self) -> list[str]:
        """The commands typed in this session, the newest last."""
        kept = self.session.kept("commands", [])
        return [each for each in kept if isinstance(each, str) and each.isprintable()] if isinstance(kept, list) else []

    # Files

    def save(self, name: str) -> None:
        """Write the session to a file; it goes on being recorded where it was."""

        def save(_: Any) -> None:
            from tui_gru.debugger.storage.store import session_path

            path = session_path(name)
            self.session.save(path)
            here = self.session.records_to(path)
            self.session.notice = f"saved to {path}" if here else f"saved to {path}; `open {name}` goes on from there"

        self.do(save, batches=None)

    def open(self, name: str, *, copy: bool = False) -> None:
        """Go on in the session of a file, or in a copy of it, in place of this one."""
        if self.session.undecided:
            raise TuiGruError("what was done here is not recorded yet; say first where it goes")

        def open_(_: Any) -> None:
            session = _opened(name, copy, self.session)
            if session is not self.session:
                self.session.close()
                self.session = session

        self.do(open_, batches=None)

    def action_reading(self) -> None:
        """Read the model file in the next convention, and stay where this session is."""

        def read(_: Any) -> None:
            from tui_gru.debugger.session.readings import other_reading

            self.session = other_reading(self.session)

        self.do(read, batches=None)

    # Where a session goes on that was opened from another's file

    @property
    def question(self) -> str:
        """What is asked as long as something has been done that is recorded nowhere; empty when nothing is asked."""
        path = self.session.opened_from
        if path is None or not self.session.undecided or self.running:
            return ""
        return f"not recorded: y writes to {path.name}, c to a copy, {sign_of_key(self, 'stop')} goes on in memory"

    def on_key(self, event: Key) -> None:
        """The answer to `question`; any other key does what it always does."""
        if self.question and event.key in ("y", "c"):
            event.stop()
            event.prevent_default()
            self.record_where(copy=event.key == "c")

    def record_where(self, *, copy: bool) -> None:
        """Record the session to the file that it was opened from, or to a new one beside that."""

        def record(_: Any) -> None:
            from tui_gru.debugger.storage.own_sessions import free_path

            path = self.session.opened_from
            assert path is not None
            self.session.record_to(free_path(path) if copy else path)
            self.session.notice = f"recorded to {self.session.recording}"

        self.do(record, batches=None)

    def decline(self) -> bool:
        """Go on in memory, if `question` was asked. Whether it was."""
        asked = bool(self.question)
        if asked:
            self.session.notice = ""
            self.session.stay_in_memory()
            self.show_now()
        return asked

    # What is kept

    def on_mount(self) -> None:
        self.lay_out()
        if self.session.notice:
            self.say_notice()

    def on_finished(self, event: Finished) -> None:
        if self.session is not self._laid_out:
            self.call_after_refresh(self.lay_out)

    def on_idle(self) -> None:
        self.keep_layout()

    def lay_out(self) -> None:
        """Lay the screen out as the session was left, with the commands that were typed in it."""
        self._laid_out = self.session
        kept = self.session.kept("layout")
        if kept is not None:
            self._layout = Layout.read(kept)
            self._layout.apply(self)
        self.remember(self.typed)

    def keep_layout(self) -> None:
        """Have the layout kept with the session, if it is another than before."""
        if self.session is not self._laid_out or not self.is_mounted:
            return
        layout = Layout.of(self)
        if layout != self._layout:
            self._layout = layout
            self._keep("layout", layout.keep())

    def on_command_line_entered(self, event: CommandLine.Entered) -> None:
        if event.command:
            self._keep("commands", [*self.typed, event.command][-MOST_COMMANDS:])

    def remember(self, commands: list[str]) -> None:
        """Have these at hand on the `:` line."""
        if lines := self.query("CommandLine"):
            from tui_gru.tui.panels.command_line import CommandLine

            lines.only_one(CommandLine).history = list(commands)

    def _keep(self, name: str, value: Any) -> None:
        notice = self.session.notice
        self.session.keep(name, value, begin=False)
        if self.session.notice not in ("", notice):
            self.say_notice()


def _opened(name: str, copy: bool, now: Session) -> Session:
    """The session of a name or path, instead of `now`. Raises `TuiGruError`, and then nothing has changed."""
    from tui_gru.debugger.session import opening
    from tui_gru.debugger.storage import own_sessions
    from tui_gru.debugger.storage.session_errors import SessionInUseError

    path = own_sessions.find(name)
    if not copy and now.records_to(path):
        now.notice = f"{path} is this session"
        return now
    try:
        return opening.copied(path) if copy else opening.opened(path)
    except SessionInUseError:
        raise TuiGruError(f"{path} is open in another tui-gru; `open {name} copy` opens a copy of it") from None
