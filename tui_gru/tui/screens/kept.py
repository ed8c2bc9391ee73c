"""Saves with a session its layout and typed commands, and asks where to record a session that was opened from a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from textual import events

from tui_gru.tui.panels.values.weights import MODES, WeightsPanel
from tui_gru.tui.verbs import stops
from tui_gru.tui.verbs.verb import sign_of_key
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session
    from tui_gru.tui.screens.main import MainScreen

MOST_COMMANDS = 200


class ScreenLayout(NamedTuple):
    """What is singled out, shown and zoomed.

    `row` is 0-based, None if no row is singled out. `zoomed` is the name of the class of a panel, empty if none is zoomed. `layer`
    is counted through all directions; None follows the current line.
    """

    page: int = 1
    row: int | None = None
    speed: int = 2
    weights: str = MODES[0]
    parameter: str = ""
    zoomed: str = ""
    layer: int | None = None

    @classmethod
    def of(cls, screen: MainScreen) -> Self:
        """Return the current layout of the screen."""
        weights, zoomed = screen.query_one(WeightsPanel), screen.maximized
        return cls(
            screen.panels.page,
            screen.view.row,
            screen.play.speed,
            weights.mode,
            weights.chosen,
            "" if zoomed is None else type(zoomed).__name__,
            screen.view.layer,
        )

    @classmethod
    def read(cls, kept: Any) -> Self:
        """Return a layout that was saved with a session. Invalid parts are replaced by defaults."""
        layout = cls()
        if not isinstance(kept, dict):
            return layout
        known = {name: kept[name] for name, value in layout._asdict().items() if name in kept and _alike(kept[name], value)}
        return cls(**known)

    def apply(self, screen: MainScreen) -> None:
        """Apply the layout to the screen, as far as the session allows."""
        config, weights = screen.snapshot.config, screen.query_one(WeightsPanel)
        if weights.mode != self.weights and self.weights in MODES:
            weights.mode = self.weights
        if self.parameter in screen.snapshot.program.parameters:
            weights.chosen = self.parameter
        screen.panels.turn_to(self.page)
        screen.play.set_speed(self.speed)
        rows, layers = range(config.batch_size), range(len(screen.snapshot.program.layers))
        row = self.row if self.row in rows else None
        layer = self.layer if self.layer in layers else None
        screen.look(replace(screen.view, row=row, layer=layer))
        panels = (panel for panel in screen.query(Panel) if type(panel).__name__ == self.zoomed)
        if (zoomed := next(panels, None)) is not None:
            screen.maximize(zoomed)
        elif screen.maximized is not None:
            screen.minimize()


class KeptWithSession:
    """Restores layout and commands from the session, and saves every change of them in the session."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._laid_out: Session | None = None  # the session that `_layout` belongs to
        self._layout = ScreenLayout()

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
            self._layout = ScreenLayout.read(kept)
            self._layout.apply(self._screen)
        self.recall_commands()
        stops.offer_marks(self._screen)

    def keep_layout(self) -> None:
        """Save the layout in the session if it has changed."""
        if self.is_other or not self._screen.is_mounted:
            return
        layout = ScreenLayout.of(self._screen)
        if layout != self._layout:
            self._layout = layout
            self._keep("layout", layout._asdict())

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


def _alike(kept: Any, value: Any) -> bool:
    return type(kept) is type(value) or (value is None and type(kept) is int) or (kept is None and value is None)
